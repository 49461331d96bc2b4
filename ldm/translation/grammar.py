"""Put the words of a Japanese noun phrase or sentence into English order.

Japanese puts what matters last, English first, so phrases are taken apart from their ends:

    Xの写真        a photo of X            C背景のX       X on a C background
    [..V]X         X V-ing ..              AとB           A and B
    Bの上のA       A above B               XのY           X Y, or Y of X if Y has an adjective
    XがQなY        Y with Q X              XのないY       Y without X

What a prompt says beside its content (politeness, particles) vanishes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ldm.translation.english import Phrase, adverb, ing, participle
from ldm.translation.sentence import FOREIGN, UNKNOWN, Token

NOUNS = ("n", "vs", "kind", "bg", "part", "wear", FOREIGN)
ADJECTIVES = ("a", "na")
VERBS = ("v", "v1", "v5", "be")
_CASES = {"で": "in", "へ": "to", "から": "from", "まで": "to", "より": "from"}
_CASES |= {"に向かって": "toward", "に向けて": "toward", "によって": "by", "として": "as"}
# What makes a thing: what it was done with stands before it, and no object (インクで描いた猫).
_MAKING = frozenset(
    "draw|write|photograph|make|bake|build|carve|knit|sew|weave|fold|paint|print|see|look at".split("|")
)
_BODY = frozenset(
    "hair|eyes|ears|face|a face|hand|a hand|arms|legs|skin|a tail|horns|wings|cheeks|a nose|"
    "a mouth|a neck|sunlight".split("|")
)
_PLAYED = frozenset(
    "soccer|football|baseball|basketball|volleyball|tennis|golf|badminton|table tennis|"
    "rugby|hockey|chess|shogi|game|video game|cards|catch|hide-and-seek|tag".split("|")
)
_STYLE = ("風", "っぽい", "調", "系")
_AND = ("と", "や", "とか", "か", "など")
Tokens = Sequence[Token]
_OF_SURU = {"している": "ing", "した": "ta", "する": "base", "して": "te"}
LONGEST = 60  # tokens: each may nest the rest once more


def english_of(tokens: Tokens) -> str:
    """Return a phrase in English; what is not known is left out.

    What is longer than any phrase is taken piece by piece.
    """
    pieces = [tokens[at : at + LONGEST] for at in range(0, len(tokens), LONGEST)]
    return ", ".join(filter(None, map(_english, pieces)))


def _english(tokens: Tokens) -> str:
    known = _bare(_deeds([token for token in tokens if token.kind != UNKNOWN]))
    phrase = _phrase(known)
    # A background that is named by itself is a keyword: "a cat, red background".
    alone = bool(known) and known[-1].kind == "bg"
    return str(replace(phrase, counted=False) if alone else phrase)


def _deeds(tokens: Tokens) -> list[Token]:
    """Return tokens in which a noun, を and する are one verb: サッカーをしている."""
    made: list[Token] = []
    for token in tokens:
        form = _OF_SURU.get(token.text) if token.is_particle() else None
        if form and len(made) > 1 and made[-1].is_particle("を") and made[-2].kind in ("n", "vs"):
            noun = made[-2].word
            verb = "" if noun.kind == "vs" else "play " if noun.english in _PLAYED else "do "
            word = replace(noun, kind="v", english=verb + noun.english, form=form)
            made[-2:] = [Token(made[-2].text + made[-1].text + token.text, word)]
        else:
            made.append(token)
    return made


def _bare(tokens: Tokens, *kept: str) -> list[Token]:
    """Return tokens without particles at either end, but those that are kept."""
    rest = list(tokens)
    while rest and rest[0].is_particle():
        rest.pop(0)
    while rest and rest[-1].is_particle() and rest[-1].text not in kept:
        rest.pop()
    return rest


def _phrase(tokens: Tokens) -> Phrase:
    """Return what a noun phrase or a sentence says, by the outermost of the forms above."""
    tokens = _bare(tokens)
    if not tokens:
        return Phrase("")
    for form in (_of_kind, _on_background, _clause, _list, _relation, _quality):
        if (made := form(tokens)) is not None:
            return made
    return _compound(tokens)


def _of_kind(tokens: list[Token]) -> Phrase | None:
    """Read Xの写真; adjectives before the kind of picture are the picture's."""
    if tokens[-1].kind != "kind":
        return None
    start = len(tokens) - 1
    while start and _describes(tokens[start - 1]):
        start -= 1
    picture = _compound(_without_particles(tokens[start:]))
    shown = _bare(tokens[:start])
    if shown and shown[-1].kind in VERBS and shown[-1].word.english.startswith("draw"):
        shown = _bare(shown[:-1])
    if not shown:
        return picture
    if shown[-1].kind == "kind" and len(shown) == 1:
        return picture.with_front(_phrase(shown).words)
    return picture.with_end(f"of {_phrase(shown)}")


def _describes(token: Token) -> bool:
    return token.kind in ADJECTIVES or token.is_particle("の", "な")


def _without_particles(tokens: Tokens) -> list[Token]:
    return [token for token in tokens if not token.is_particle()]


def _on_background(tokens: list[Token]) -> Phrase | None:
    """Read C背景のX, C背景にX and Cを背景にX."""
    for at, token in enumerate(tokens[:-1]):
        if token.kind == "bg" and tokens[at + 1].is_particle("の", "に", "で", "には", "では"):
            rest = _bare(tokens[at + 2 :])
            front = _bare(tokens[:at])
            if rest and rest[0].kind not in ("kind",):
                return _phrase(rest).with_end(f"on {_compound([*front, token])}")
    return None


def _clause(tokens: list[Token]) -> Phrase | None:
    """Read [..V]X and sentences that end with their verb; the last verb is the outermost."""
    verbs = [at for at, token in enumerate(tokens) if token.kind in VERBS]
    if not verbs:
        return None
    at = verbs[-1]
    left, verb, right = tokens[:at], tokens[at], _bare(tokens[at + 1 :])
    if verb.word.english == "without":
        return _lacking(left, right)
    if verb.kind == "be":
        return _being(left, right)
    if not right:
        subject, left = _split_subject(left)
        return _phrase(subject).with_end(_action(left, verb))
    if _verb(verb)[0] == "wear" and (parts := _parts_of_list(right)) is not None:
        # What is worn is worn by the first: 帽子をかぶった魔女とほうき.
        first, second = parts
        return _phrase(first).with_end(_action(left, verb)).with_end(f"and {_phrase(second)}")
    head = _phrase(right)
    if not _bare(left) and verb.word.form in ("ta", "done"):
        return head.with_front(participle(_verb(verb)[0]))
    if _verb(verb)[0] == "hold" and len(left) > 1 and left[-2].kind == "part":
        return head.with_end(f"with {_phrase(left)}")
    return head.with_end(_action(left, _as_made(left, verb)))


def _as_made(left: Tokens, verb: Token) -> Token:
    """Return a verb of making as what was done to the thing that follows: 鉛筆で描いた手."""
    done_to = any(token.is_particle("を", "が") for token in left)
    if verb.word.form == "ta" and not done_to and _verb(verb)[0] in _MAKING:
        return replace(verb, word=replace(verb.word, form="done"))
    return verb


def _lacking(left: list[Token], right: list[Token]) -> Phrase:
    """Read 人のいない街 and 人がいない."""
    lacked = replace(_phrase(left), counted=False)
    if not right:
        return lacked.with_front("no") if lacked.words else lacked
    return _phrase(right).with_end(f"without {lacked}" if lacked.words else "")


def _being(left: list[Token], right: list[Token]) -> Phrase:
    """Read 庭にいる猫, 花のある庭 and 庭に猫がいる."""
    if right:
        head = _phrase(right)
        if left and left[-1].is_particle("に", "で"):
            return head.with_end(_place(left[:-1], "in"))
        return head.with_end(f"with {_phrase(left)}" if _bare(left) else "")
    subject, left = _split_subject(left)
    if not subject:
        return _phrase(left)
    return _phrase(subject).with_end(_arguments(left, ("", None)))


def _split_subject(tokens: Tokens) -> tuple[list[Token], list[Token]]:
    """Return the subject of a sentence and the rest: what は, が or も follows."""
    for at in range(len(tokens) - 1, -1, -1):
        if tokens[at].is_particle("が", "は", "も"):
            start = at
            # A verb on the way makes a clause of what stands before it: 服を着た猫が.
            while start and (
                not tokens[start - 1].is_particle("に", "で", "を", "には", "では")
                or any(token.kind in VERBS for token in tokens[start:at])
            ):
                start -= 1
            return list(tokens[start:at]), [*tokens[:start], *tokens[at + 1 :]]
    return [], list(tokens)


def _verb(token: Token) -> tuple[str, str | None]:
    """Return a verb's base form, and the preposition of what stands in に; None if it has none."""
    base, bar, place = token.word.english.partition("|")
    return base, place if bar else None


def _action(left: Tokens, verb: Token) -> str:
    """Return a verb with what it is done to, where and how: "sitting on a chair"."""
    base, place = _verb(verb)
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
        role = _role(token, last=last)
        if how:
            others.append(how)
        elif not role:
            chunk.append(token)
        elif role == "object":
            objects.append(str(_phrase(chunk)))
        elif role == "subject":
            subjects += [f"with {_phrase(chunk)}"] if _bare(chunk) else []
        elif _bare(chunk):
            preposition = "in" if place is None else place
            others.append(_place(chunk, preposition if role == "place" else role))
        if role or (how and token.kind != "adv"):
            chunk = []
    objects += [str(_phrase(chunk))] if _bare(chunk) else []
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
    if token.is_particle("に") and chunk and chunk[-1].kind == "na":
        return adverb(_words(chunk))
    return ""


def _role(token: Token, *, last: bool) -> str:
    """Return what a particle makes of the words before it; empty for nothing.

    ``subject``, ``object``, ``place`` (the verb decides the preposition), or the preposition.
    """
    if token.is_particle("を"):
        return "object"
    if token.is_particle("に", "には"):
        return "place"
    if token.is_particle("が", "は", "も") or (last and token.is_particle("の")):
        return "subject"
    if token.is_particle("と一緒に", "といっしょに") or (last and token.is_particle("と")):
        return "with"
    return _CASES.get(token.text.removesuffix("は"), "") if token.is_particle() else ""


def _place(tokens: Tokens, preposition: str) -> str:
    """Return where something is: a relation has a preposition of its own."""
    tokens = _bare(tokens)
    if not tokens:
        return ""
    if tokens[-1].kind == "rel":
        return _located(tokens)
    return f"{preposition} {_phrase(tokens)}".strip()


def _located(tokens: list[Token]) -> str:
    """Return 木の上 as "on a tree", and 上 as "at the top"."""
    _, with_verb, alone = tokens[-1].word.english.split("|")
    thing = _bare(tokens[:-1])
    return f"{with_verb} {_phrase(thing)}" if thing else alone


def _list(tokens: list[Token]) -> Phrase | None:
    """Read AとB."""
    if (parts := _parts_of_list(tokens)) is None:
        return None
    first, second = map(_phrase, parts)
    if all(token.kind in ADJECTIVES for token in parts[0]):  # 赤と青の風船
        return second.with_front(f"{first} and")
    return first.with_end(f"and {second}")


def _parts_of_list(tokens: list[Token]) -> tuple[list[Token], list[Token]] | None:
    """Return what stands before and behind the last と of A と B, or None if there is none."""
    for at in range(len(tokens) - 2, 0, -1):
        before, after = tokens[at - 1], tokens[at + 1]
        if tokens[at].is_particle(*_AND) and not before.is_particle() and not after.is_particle():
            return tokens[:at], tokens[at + 1 :]
    return None


def _relation(tokens: list[Token]) -> Phrase | None:
    """Read Bの上のA; without A it is the place."""
    for at in range(len(tokens) - 1, -1, -1):
        if tokens[at].kind != "rel":
            continue
        behind, with_verb, alone = tokens[at].word.english.split("|")
        thing, rest = _bare(tokens[:at]), _bare(tokens[at + 1 :])
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
            phrase = _phrase(thing).with_front(_words(quality))
        elif tokens[at].is_particle("の") and named in _BODY and len(thing) == 1 and _bare(rest):
            if _bare(rest)[-1].kind == "part":
                continue
            phrase = _phrase(thing).with_front(_words(quality))
        else:
            continue
        return _phrase(rest).with_end(f"with {phrase}") if _bare(rest) else phrase
    return None


def _compound(tokens: Tokens) -> Phrase:
    """Read XのY and words that follow each other: modifiers first, the noun last."""
    if (belonging := _belonging(tokens)) is not None:
        return belonging
    number, words, head = "", [], None
    for at, token in enumerate(tokens):
        if token.kind == "num":
            number = token.word.english
        elif at and token.text in _STYLE and not tokens[at - 1].is_particle():
            head = Phrase("style")
            words.append(head.words)
        elif not token.is_particle():
            head = _meaning(token)
            words.append(head.words)
    if head is None:
        counter = tokens[-1].text[-1:] if number else ""
        return Phrase.of("a person").many(number) if counter in ("人", "り", "名") else Phrase(number)
    made = Phrase(" ".join(words), head.counted)
    return made.many(number) if number else made


def _belonging(tokens: Tokens) -> Phrase | None:
    """Read X の Y where X is no mere modifier of Y.

    長い髪の少女 has long hair, 着物の女性 is in a kimono; 少女の長い髪 is of the girl.
    """
    for at in range(len(tokens) - 2, 0, -1):
        front, rest = _bare(tokens[:at]), list(tokens[at + 1 :])
        if not tokens[at].is_particle("の") or not front or front[-1].kind not in NOUNS:
            continue
        if rest[-1].kind not in NOUNS:
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


def _meaning(token: Token) -> Phrase:
    """Return a single word as a phrase."""
    if token.kind in VERBS:
        return Phrase(ing(_verb(token)[0]))
    if token.kind == "rel":
        return Phrase(token.word.english.split("|")[2])
    phrase = Phrase.of(token.word.english)
    return phrase.with_front("not") if token.word.form == "not" else phrase


def _words(tokens: Tokens) -> str:
    return " ".join(_meaning(token).words for token in tokens if not token.is_particle())
