"""Put the words of a Chinese noun phrase or sentence into English order.

A sentence has English order already: who, does, what. What describes a noun stands before it and
goes behind it in English:

    C背景的X      X on a C background       X的照片       a photo of X
    [V..]的X      X V-ing ..                在B上(面)的X   X on B
    X在B V        X V-ing in B              B裡有X        X in B

Words without English (aspect, politeness, degree) vanish.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ldm.translation.chinese import PICTURE
from ldm.translation.english import Phrase, ing, participle
from ldm.translation.sentence import FOREIGN, UNKNOWN, Token

Tokens = Sequence[Token]
LONGEST = 60  # tokens: each may nest the rest once more
_OF, _AT, _AND, _EMPTY = "de", "zai", "and", "p"
_ACTS = ("v", "have", "without", "bei")
_OPENS = (*_ACTS, _AT, "adv")
"""What a clause that describes begins with."""
_NOUNS = ("n", "kind", "bg", "part", "wear", FOREIGN)
_WITH = {"have": "with", "without": "without"}


def chinese_in_english(tokens: Tokens) -> str:
    """Return a phrase in English; what is not known is left out.

    What is longer than any phrase is taken piece by piece.
    """
    pieces = [tokens[at : at + LONGEST] for at in range(0, len(tokens), LONGEST)]
    return ", ".join(filter(None, map(_english, pieces)))


def hang_together(before: Token, after: Token) -> bool:
    """Return whether a space between two words divides no phrases: 紅色 貓, 貓 的, 一隻 貓."""
    return before.kind in ("a", "num", "of", "bei", _OF, _AT, _AND) or after.kind in (
        _OF,
        "rel",
        _AND,
    )


def _english(tokens: Tokens) -> str:
    known = _plain([token for token in tokens if token.kind not in (UNKNOWN, _EMPTY)])
    phrase = _phrase(known)
    # A background that is named by itself is a keyword: "a cat, red background".
    alone = bool(known) and known[-1].kind == "bg" and not _has(known, *_OPENS)
    return str(replace(phrase, counted=False) if alone else phrase)


def _plain(tokens: list[Token]) -> list[Token]:
    """Return tokens with adjectives in front of nouns, and without 的 where it tells nothing."""
    out: list[Token] = []
    for at, token in enumerate(tokens):
        following = tokens[at + 1].kind if at + 1 < len(tokens) else ""
        behind = bool(out) and out[-1].kind == "bg"
        if token.kind == "be" and (following == "bg" or (behind and following == "a")):
            continue  # 以藍色為背景, 背景是藍色
        if token.kind == _OF and (following in ("rel", "bg", "") or (out and out[-1].kind == _OF)):
            continue  # 狗的左邊, 藍色的背景
        if token.kind == "rel" and behind:
            continue  # 藍色背景上
        if token.kind == _OF and out and out[-1].kind == "a":
            start = len(out) - 1
            while start and out[start - 1].kind == "a":
                start -= 1
            if not start or out[start - 1].kind not in ("part", "wear", "bg"):
                continue  # 紅色的花
            out.insert(len(out), out.pop(start - 1))  # 頭髮很長的女孩
        out.append(token)
    if len(out) > 1 and out[-1].kind == "a" and out[-2].kind == "bg":
        out[-2:] = [out[-1], out[-2]]
    return out


def _has(tokens: Tokens, *kinds: str) -> bool:
    return any(token.kind in kinds for token in tokens)


def _first(tokens: Tokens, *kinds: str) -> int:
    """Return where the first token of these kinds is; behind the last if there is none."""
    return next((at for at, token in enumerate(tokens) if token.kind in kinds), len(tokens))


def _bare(tokens: Tokens) -> list[Token]:
    """Return tokens without what binds words at either end."""
    rest = list(tokens)
    while rest and rest[0].kind in (_OF, _AND, "be"):
        rest.pop(0)
    while rest and rest[-1].kind in (_OF, _AND, _AT, "be", "bei"):
        rest.pop()
    return rest


def _phrase(tokens: Tokens) -> Phrase:
    """Return what a noun phrase or a sentence says, by the outermost of the forms above."""
    tokens = _bare(tokens)
    if not tokens:
        return Phrase("")
    for form in (_of_kind, _on_background, _sentence, _list, _described, _placed):
        if (made := form(tokens)) is not None:
            return made
    return _compound(tokens)


def _of_kind(tokens: list[Token]) -> Phrase | None:
    """Read X的照片; adjectives before the kind of picture are the picture's."""
    if tokens[-1].kind != "kind":
        return None
    start = len(tokens) - 1
    while start and tokens[start - 1].kind == "a":
        start -= 1
    picture, shown = tokens[start:], tokens[:start]
    counts = [token for token in shown[:1] if token.word.form == PICTURE]
    shown = _bare(shown[len(counts) :])
    if shown and shown[-1].kind in ("v", "num", "of") and tokens[start - 1].kind != _OF:
        return None  # 女孩看照片
    made = _compound([*counts, *picture])
    if not shown:
        return made
    if len(shown) == 1 and shown[0].kind == "kind":
        return made.with_front(_phrase(shown).words)
    return made.with_end(f"of {_phrase(shown)}")


def _on_background(tokens: list[Token]) -> Phrase | None:
    """Read C背景的X, also with a number in front."""
    at = _first(tokens, "bg")
    front = tokens[:at]
    number = [token for token in front[:1] if token.kind == "num"]
    front = [token for token in front[len(number) :] if token.kind not in ("have", _AT)]
    rest = _bare(tokens[at + 1 :])
    if not rest or not all(token.kind in ("a", "n", "at", _OF) for token in front):
        return None
    if tokens[at + 1].kind != _OF and not _has(front, "a"):
        return None
    return _phrase([*number, *rest]).with_end(f"on {_compound([*front, tokens[at]])}")


def _sentence(tokens: list[Token]) -> Phrase | None:
    """Read X V .., X在B, B裡有X."""
    at = _first(tokens, *_OPENS, "be")
    if not at:  # 戴帽子的貓坐在椅子上
        described = _first(tokens, _OF)
        at = described + _first(tokens[described:], *_OPENS)
        if tokens[at - 1].kind not in _NOUNS:
            return None
    subject, rest = _bare(tokens[:at]), tokens[at:]
    if not rest or not subject:
        return None
    if rest[0].kind in ("v", "have") and len(rest) > 1 and rest[1].kind == _OF:
        return None  # 女孩穿的衣服
    if rest[1:] and _exists(subject[-1].kind, len(subject), rest):
        doing = ing(_verb(rest[0])[0]) if rest[0].kind == "v" else ""
        return _phrase(rest[1:]).with_end(f"{doing} {_place(subject, 'in')}".strip())
    if not _has(subject, *_NOUNS):
        return None
    if rest[0].kind == "be" and len(subject) == 1 and subject[0].kind == "bg":
        return _phrase(rest).with_end("in the background")
    if rest[0].kind == "be" and all(token.kind in ("a", _OF, "be") for token in rest):
        return _phrase([*(token for token in rest if token.kind == "a"), *subject])
    return _phrase(subject).with_end(_predicate(rest))


def _exists(place: str, length: int, rest: Tokens) -> bool:
    """Return whether a sentence says that there is something somewhere: B裡有X, 左邊是X, B上坐著X.

    Args:
        place: The class of what ends the words before the verb.
        length: How many words these are.
        rest: The verb and what follows.
    """
    if rest[0].kind == "be":
        return place == "rel"
    somewhere = place == "at" or (place == "rel" and length > 1)
    return somewhere and (
        rest[0].kind == "have" or (rest[0].kind == "v" and not _has(rest[1:], "v"))
    )


def _predicate(tokens: Tokens) -> str:
    """Return what somebody does, has and is at: "sitting on a chair reading a book"."""
    out: list[str] = []
    waiting: list[str] = []  # where something goes on that is told behind: 在海邊散步
    prepositions = None
    rest = list(tokens)
    while rest:
        kind = rest[0].kind
        end = _end(rest)
        part, rest = rest[:end], rest[end:]
        if kind == "v":
            base, preposition = _verb(part[0])
            out += [" ".join(filter(None, (ing(base), _object(part[1:]))))]
            prepositions = preposition if len(part) == 1 else None
            if not (prepositions is not None and rest and rest[0].kind == _AT):
                out, waiting = out + waiting, []
            continue
        if kind in _WITH:
            out.append(f"{_WITH[kind]} {_phrase(part[1:])}")
        elif kind == "bei":
            agent = _phrase(part[1:-1])
            done = participle(_verb(part[-1])[0]) if part[-1].kind == "v" else ""
            out.append(f"{done} by {agent}" if str(agent) else done)
        elif kind == "adv":
            (out if out else waiting).append(part[0].word.english)
        else:
            place = _place(part[1:] if kind == _AT else part, "in", prepositions)
            direct = prepositions is not None or not _has(rest, "v")
            (out if direct else waiting).append(place)
        prepositions = None
    return " ".join(filter(None, out + waiting))


def _object(tokens: Tokens) -> str:
    return str(_phrase(tokens)) if tokens else ""


def _end(tokens: Tokens) -> int:
    """Return how many tokens belong to the first: its object, its place, who it is done by."""
    kind, following = tokens[0].kind, tokens[1:]
    if kind == "adv":
        return 1
    if kind == "bei":
        return min(_first(following, "v") + 2, len(tokens))
    if kind in (_AT, "rel", "n", "at"):
        position = _first(following, "rel", "at")
        between = following[:position]
        if position < len(following) and (not _has(between, "v") or _has(between, _OF)):
            return position + 2
    end = _first(following, *_OPENS)
    # 抱著一隻戴帽子的貓: what is hugged begins with a verb.
    described = end < len(following) and _has(following[end:], _OF)
    if kind in _ACTS and described and not _has(following[:end], *_NOUNS):
        return len(tokens) if end or following[end].kind != _AT else 1
    return end + 1


def _verb(token: Token) -> tuple[str, str | None]:
    """Return a verb's base form, and the preposition of its place; None if it has none."""
    base, bar, place = token.word.english.partition("|")
    return base, place if bar else None


def _place(tokens: Tokens, preposition: str, of_verb: str | None = None) -> str:
    """Return where something is.

    Args:
        tokens: What stands behind 在.
        preposition: Of a place that has none of its own.
        of_verb: The preposition that the verb before it wants; empty if the place is its object.
    """
    tokens = _bare(tokens)
    if not tokens:
        return ""
    last = tokens[-1]
    front = tokens[:-1]
    if of_verb == "":
        return str(_phrase(front if last.kind == "rel" and front else tokens))
    if last.kind == "rel":
        with_it, alone = last.word.english.split("|")
        return f"{with_it} {_phrase(front)}" if front else alone
    if last.kind == "at":
        where = last.word.english.split("|")[1]
        return f"{where} {_place(front, 'in')}".strip()
    if last.kind == "bg":
        return f"on {_compound(tokens)}"
    return f"{of_verb or preposition} {_phrase(tokens)}"


def _list(tokens: list[Token]) -> Phrase | None:
    """Read A和B."""
    for at in range(len(tokens) - 2, 0, -1):
        front, back = tokens[:at], tokens[at + 1 :]
        if tokens[at].kind != _AND:
            continue
        inside = _has(back, _OF) and front[0].kind in _OPENS and not _has(front, _OF)
        between = any(token.word.english.startswith("between") for token in back)
        if inside or between:
            continue
        first, second = _phrase(front), _phrase(back)
        if all(token.kind == "a" for token in front):  # 紅色和藍色的氣球
            return second.with_front(f"{first} and")
        return first.with_end(f"and {second}")
    return None


def _described(tokens: list[Token]) -> Phrase | None:
    """Read what stands before a noun, with 的."""
    ofs = [at for at, token in enumerate(tokens) if token.kind == _OF]
    if not ofs:
        return None
    left, right = _bare(tokens[: ofs[-1]]), tokens[ofs[-1] + 1 :]
    if not left:
        return _phrase(right)
    if len(left) > 1 and left[0].kind in ("num", "of") and _describes(left[1:]):
        left, right = left[1:], [left[0], *right]  # 一隻咬著蘋果的貓
    head, last = _phrase(right), left[-1].kind
    if last == "v" and _first(left, *_OPENS) == len(left) - 1 and _has(left[:-1], *_NOUNS):
        done = participle(_verb(left[-1])[0])  # 女孩穿的衣服
        return head.with_end(f"{done} by {_phrase(left[:-1])}")
    if _has(left, *_OPENS):
        return head.with_end(_predicate(left))
    if last in ("rel", "at"):
        return head.with_end(_place(left, "in"))
    if last == "bg":
        return head.with_end(f"on {_compound(left)}")
    if last in ("part", "wear") and right[-1].kind not in ("part", "wear"):
        return head.with_end(f"{'in' if last == 'wear' else 'with'} {_phrase(left)}")
    if right[-1].kind in ("part", "wear") or _has(left, _OF, _AND):
        return head.with_end(f"of {_phrase(left)}")
    return _compound([*left, *right])


def _describes(tokens: Tokens) -> bool:
    """Return whether a number before these tokens counts what they describe, and none of them."""
    return tokens[0].kind in _OPENS or tokens[-1].kind in ("at", "bg", "part", "wear")


def _placed(tokens: list[Token]) -> Phrase | None:
    """Read B上X, and B上 alone."""
    at = _first(tokens, "rel")
    if at == len(tokens):
        if tokens[0].kind in _OPENS:
            return Phrase(_predicate(tokens))
        return None
    place, rest = _place(tokens[: at + 1], "in"), _bare(tokens[at + 1 :])
    return _phrase(rest).with_end(place) if rest else Phrase(place)


def _compound(tokens: Tokens) -> Phrase:
    """Read words that follow each other: modifiers first, the noun last."""
    number, measure, words, head = "", "", [], None
    for token in tokens:
        if token.kind == "num":
            number = token.word.english
        elif token.kind == "of":
            measure = token.word.english
        elif token.kind not in (_OF, _AND, _AT, "be", "bei"):
            head = _meaning(token)
            words.append(head.words)
    if head is None:
        return Phrase(number)
    if len(words) > 1:
        words = [word.removeprefix("the ") for word in words]
    made = Phrase(" ".join(filter(None, words)), head.counted)
    if measure:
        name, _, counted = measure.partition("|")
        several = made.many("").words if counted and made.counted else made.words
        return Phrase(f"{name} {several}".strip(), True)
    return made.many(number) if number else made


def _meaning(token: Token) -> Phrase:
    """Return a single word as a phrase."""
    english = token.word.english
    if token.kind == "v":
        return Phrase(ing(_verb(token)[0]))
    if token.kind == "rel":
        return Phrase(english.split("|")[1])
    return Phrase.of(english.split("|")[0] if token.kind == "at" else english)
