"""Put the words of a Japanese noun phrase or sentence into English order.

Japanese puts what matters last, English first, so phrases are taken apart from their ends:

    Xの写真        a photo of X            C背景のX       X on a C background
    [..V]X         X V-ing ..              AとB           A and B
    Bの上のA       A above B               XのY           X Y, or Y of X if Y has an adjective
    XがQなY        Y with Q X              XのないY       Y without X

What a prompt says beside its content (politeness, particles) vanishes.
"""

from __future__ import annotations

from dataclasses import replace

from ldm.translation.english import Phrase, adverb, ing, participle
from ldm.translation.pieces import (
    ADJECTIVES,
    BODY,
    CASES,
    NOUNS,
    ON,
    STYLES,
    VERBS,
    WEATHER,
    Tokens,
    as_made,
    bare,
    describes,
    is_content,
    joined,
    meaning,
    parts_of_list,
    role_of,
    split_subject,
    verb_of,
    without_particles,
    words_of,
)
from ldm.translation.sentence import UNKNOWN, Token

LONGEST = 60  # tokens: each may nest the rest once more


def english_of(tokens: Tokens) -> str:
    """Return a phrase in English; what is not known is left out.

    What is longer than any phrase is taken piece by piece.
    """
    pieces = [tokens[at : at + LONGEST] for at in range(0, len(tokens), LONGEST)]
    return ", ".join(filter(None, map(_english, pieces)))


def _english(tokens: Tokens) -> str:
    known = bare(joined([token for token in tokens if token.kind != UNKNOWN]))
    phrase = _phrase(known)
    # A background that is named by itself is a keyword: "a cat, red background"; also 背景は赤.
    ends = (known[0], known[-1]) if known else ()
    alone = any(token.kind == "bg" for token in ends) and phrase.words.endswith("background")
    return str(replace(phrase, counted=False) if alone else phrase)


def _phrase(tokens: Tokens) -> Phrase:
    """Return what a noun phrase or a sentence says, by the outermost of the forms above."""
    tokens = bare(tokens)
    if not tokens:
        return Phrase("")
    for form in (_of_kind, _on_background, _part_of, _clause, _list, _relation, _quality):
        if (made := form(tokens)) is not None:
            return made
    return _compound(tokens)


def _of_kind(tokens: list[Token]) -> Phrase | None:
    """Read Xの写真; adjectives before the kind of picture are the picture's."""
    if tokens[-1].kind != "kind":
        return None
    start = len(tokens) - 1
    while start and describes(tokens[start - 1]):
        start -= 1
    if start and tokens[start - 1].is_particle("と", "や"):  # カメラと古い写真
        return None
    picture = _compound(without_particles(tokens[start:]))
    shown = bare(tokens[:start])
    if shown and shown[-1].kind in VERBS and shown[-1].word.english.startswith("draw"):
        shown = bare(shown[:-1])
    if not shown:
        return picture
    if shown[-1].kind == "kind" and len(shown) == 1:
        return picture.with_front(_phrase(shown).words)
    return picture.with_end(f"of {_phrase(shown)}")


def _on_background(tokens: list[Token]) -> Phrase | None:
    """Read C背景のX, C背景にX and Cを背景にX."""
    for at, token in enumerate(tokens[:-1]):
        if token.kind == "bg" and tokens[at + 1].is_particle("の", "に", "で", "には", "では"):
            rest = bare(tokens[at + 2 :])
            if len(rest) > 1 and rest[0].text == "中":  # 背景の中の猫
                rest = bare(rest[1:])
            front = bare(tokens[:at])
            if rest and rest[0].kind not in ("kind",):
                return _phrase(rest).with_end(f"on {_compound([*front, token])}")
    return None


def _part_of(tokens: list[Token]) -> Phrase | None:
    """Read [..V]Xの手: what goes on is done by X and not by its hand."""
    if tokens[-1].kind != "part" or len(tokens) < 3 or not tokens[-2].is_particle("の"):
        return None
    if not any(token.kind in VERBS for token in tokens):
        return None
    return _compound(tokens[-1:]).with_end(f"of {_phrase(tokens[:-2])}")


def _clause(tokens: list[Token]) -> Phrase | None:
    """Read [..V]X and sentences that end with their verb; the last verb is the outermost."""
    verbs = [at for at, token in enumerate(tokens) if token.kind in VERBS]
    if not verbs:
        return None
    at = verbs[-1]
    left, verb, right = tokens[:at], tokens[at], bare(tokens[at + 1 :])
    if verb.word.english == "without":
        return _lacking(left, right)
    if verb.kind == "be":
        return _being(left, right)
    if not right:
        subject, left = split_subject(left)
        return _phrase(subject).with_end(_action(left, verb))
    if verb_of(verb)[0] == "wear" and (parts := parts_of_list(right, first=True)) is not None:
        # What is worn is worn by the first: 帽子をかぶった魔女とほうき.
        wearer, others = map(_phrase, parts)
        return wearer.with_end(f"{_action(left, verb)}, and {others}")
    head = _phrase(right)
    if not bare(left) and verb.word.form in ("ta", "done"):
        return head.with_front(participle(verb_of(verb)[0]))
    if verb_of(verb)[0] == "hold" and len(left) > 1 and left[-2].kind == "part":
        return head.with_end(f"with {_phrase(left)}")
    return head.with_end(_action(left, as_made(left, verb)))


def _lacking(left: list[Token], right: list[Token]) -> Phrase:
    """Read 人のいない街 and 人がいない."""
    lacked = _phrase(left)
    if not right:
        return replace(lacked, counted=False).with_front("no") if lacked.words else lacked
    return _phrase(right).with_end(f"without {lacked.in_general()}" if lacked.words else "")


def _being(left: list[Token], right: list[Token]) -> Phrase:
    """Read 庭にいる猫, 花のある庭 and 庭に猫がいる."""
    if right:
        head = _phrase(right)
        if left and left[-1].is_particle("に", "で"):
            return head.with_end(_place(left[:-1], "in"))
        return head.with_end(f"with {_phrase(left)}" if bare(left) else "")
    subject, left = split_subject(left)
    if not subject:
        return _phrase(left)
    return _phrase(subject).with_end(_arguments(left, ("", None)))


def _action(left: Tokens, verb: Token) -> str:
    """Return a verb with what it is done to, where and how: "sitting on a chair"."""
    base, place = verb_of(verb)
    if verb.word.form == "done":
        done = participle(base)
    elif verb.word.form == "not":
        done = f"not {ing(base)}"
    else:
        done = ing(base)
    return _arguments(left, (done, place))


def _arguments(tokens: Tokens, verb: tuple[str, str | None]) -> str:
    """Return a verb's English with its arguments: objects first, places last.

    Args:
        tokens: What stands before the verb.
        verb: Its English, and the preposition of what stands in に.
    """
    done, place = verb
    before, tokens = _going_on(tokens)
    subjects, objects, others = [], [], []
    chunk: list[Token] = []
    for at, token in enumerate(tokens):
        last = at == len(tokens) - 1
        how = _manner(token, chunk)
        role = role_of(token, last=last)
        if how:
            others.append(how)
        elif not role:
            chunk.append(token)
        elif role == "object":
            objects.append(str(_phrase(chunk)))
        elif role == "subject":
            subjects += [f"with {_phrase(chunk)}"] if bare(chunk) else []
        elif bare(chunk):
            preposition = "in" if place is None else place
            others.append(_place(chunk, preposition if role == "place" else role))
        if role or (how and token.kind != "adv"):
            chunk = []
    objects += [str(_phrase(chunk))] if bare(chunk) else []
    return " ".join(part for part in (*before, *subjects, done, *objects, *others) if part)


def _going_on(tokens: Tokens) -> tuple[list[str], Tokens]:
    """Return what goes on beside the last verb (椅子に座って), and the tokens behind that."""
    said, start = [], 0
    for at, token in enumerate(tokens):
        if token.kind in VERBS and token.word.form == "te":
            said.append(_action(tokens[start:at], token))
            start = at + 1
    return said, tokens[start:]


def _manner(token: Token, chunk: Tokens) -> str:
    """Return how something is done, if that is what a token ends: 静かに, 赤く."""
    if token.kind == "adv":
        return token.word.english
    if token.kind == "a" and token.text.endswith("く"):
        return adverb(token.word.english)
    seeming = bool(chunk) and (chunk[-1].kind == "na" or chunk[-1].text.endswith("そう"))
    if token.is_particle("に") and seeming:
        return adverb(words_of(chunk))
    return ""


def _place(tokens: Tokens, preposition: str) -> str:
    """Return where something is: a relation has a preposition of its own."""
    tokens = bare(tokens)
    if not tokens:
        return ""
    if tokens[-1].kind == "rel":
        return _located(tokens)
    if preposition == "in" and tokens[-1].word.english in ON:
        preposition = "on"
    return f"{preposition} {_phrase(tokens)}".strip()


def _located(tokens: list[Token]) -> str:
    """Return 木の上 as "on a tree", and 上 as "at the top"."""
    _, with_verb, alone = tokens[-1].word.english.split("|")
    thing = bare(tokens[:-1])
    return f"{with_verb} {_phrase(thing)}" if thing else alone


def _list(tokens: list[Token]) -> Phrase | None:
    """Read AとB."""
    if (parts := parts_of_list(tokens)) is None:
        return None
    first, second = map(_phrase, parts)
    if all(token.kind in ADJECTIVES for token in parts[0]):  # 赤と青の風船
        return second.with_front(f"{first} and")
    return first.with_end(f"and {second}")


def _relation(tokens: list[Token]) -> Phrase | None:
    """Read Bの上のA; without A it is the place."""
    for at in range(len(tokens) - 1, -1, -1):
        if tokens[at].kind != "rel":
            continue
        behind, with_verb, alone = tokens[at].word.english.split("|")
        thing, rest = bare(tokens[:at]), bare(tokens[at + 1 :])
        if not rest:
            return Phrase(_located(tokens[: at + 1]))
        return _phrase(rest).with_end(f"{behind} {_phrase(thing)}" if thing else alone)
    return None


def _quality(tokens: list[Token]) -> Phrase | None:
    """Read 目が大きい女の子, a girl with big eyes, 髪の長い女性, and 空が青い."""
    for at in range(1, len(tokens) - 1):
        thing, quality, rest = tokens[:at], tokens[at + 1 :], []
        while quality and quality[-1].kind not in ADJECTIVES:
            rest.insert(0, quality.pop())
        if not quality or any(token.kind not in ADJECTIVES for token in quality):
            continue
        named = thing[-1].word.english
        if tokens[at].is_particle("が", "も", "は") and thing[-1].kind in NOUNS:
            phrase = _phrase(thing).with_front(words_of(quality))
        elif tokens[at].is_particle("の") and named in BODY and len(thing) == 1 and bare(rest):
            if bare(rest)[-1].kind == "part":
                continue
            phrase = _phrase(thing).with_front(words_of(quality))
        else:
            continue
        return _phrase(rest).with_end(f"with {phrase}") if bare(rest) else phrase
    return None


def _compound(tokens: Tokens) -> Phrase:
    """Read XのY and words that follow each other: modifiers first, the noun last."""
    if (belonging := _belonging(tokens)) is not None:
        return belonging
    number, words, head = "", [], None
    for at, token in enumerate(tokens):
        if token.kind == "num":
            number = token.word.english
        elif at and token.text in STYLES and not tokens[at - 1].is_particle():
            head = Phrase("style")
            words.append(head.words)
        elif token.word.english in WEATHER and any(map(is_content, tokens[at + 1 :])):
            words.append(WEATHER[token.word.english])
        elif not token.is_particle():
            head = meaning(token)
            words.append(head.words)
    if head is None:
        counter = tokens[-1].text[-1:] if number else ""
        return (
            Phrase.of("a person").many(number) if counter in ("人", "り", "名") else Phrase(number)
        )
    made = Phrase(" ".join(words), head.counted)
    return made.many(number) if number else made


def _belonging(tokens: Tokens) -> Phrase | None:
    """Read X の Y where X is no mere modifier of Y.

    長い髪の少女 has long hair, 着物の女性 is in a kimono; 少女の長い髪 is of the girl.
    """
    for at in range(len(tokens) - 2, 0, -1):
        front, rest = bare(tokens[:at]), list(tokens[at + 1 :])
        case = CASES.get(tokens[at - 1].text, "") if tokens[at - 1].is_particle() else ""
        if case and tokens[at].is_particle("の") and front and bare(rest):  # 空からの光
            return _phrase(rest).with_end(f"{case} {_phrase(front)}")
        if not tokens[at].is_particle("の") or not front or front[-1].kind not in NOUNS:
            continue
        if rest[-1].kind not in NOUNS:
            continue
        if front[-1].text in STYLES:
            continue
        last = front[-1].kind
        if last in ("part", "wear") and rest[-1].kind not in ("part", "wear"):
            preposition = "in" if last == "wear" else "with"
            return _compound(rest).with_end(f"{preposition} {_compound(front)}")
        described = len(front) > 1 and front[-2].kind in ADJECTIVES
        if described and _compound(rest).counted:
            return _compound(rest).with_end(f"with {_compound(front)}")
        if len(rest) > 1 and rest[0].kind in ADJECTIVES:
            return _compound(rest).with_end(f"of {_compound(front)}")
    return None
