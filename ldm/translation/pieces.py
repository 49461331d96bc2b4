"""Pieces of a Japanese phrase: what particles make of the words before them, and what words mean.

Nothing here looks into a phrase for another one; ``ldm.translation.grammar`` does that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ldm.translation.english import Phrase, ing
from ldm.translation.lexicon import Word
from ldm.translation.sentence import FOREIGN, Token

NOUNS = ("n", "vs", "kind", "bg", "part", "wear", FOREIGN)
ADJECTIVES = ("a", "na")
VERBS = ("v", "v1", "v5", "be")
CASES = {"で": "in", "へ": "to", "から": "from", "まで": "to", "より": "from"}
CASES |= {"に向かって": "toward", "に向けて": "toward", "によって": "by", "として": "as"}


def _set(divided: str) -> frozenset[str]:
    """Return the words that bars divide."""
    return frozenset(divided.split("|"))


# What makes a thing: what it was done with stands before it, and no object (インクで描いた猫).
_MAKING = _set(
    "draw|write|photograph|make|bake|build|carve|knit|sew|weave|fold|paint|print|look at"
)
# What has a quality of its own, and is not what the quality of its owner is said of.
BODY = _set(
    "hair|eyes|body|ears|a face|face|a hand|hand|arms|legs|skin|a tail|horns|wings|cheeks|a nose|"
    "a mouth|a neck|sunlight"
)
_PLAYED = _set(
    "soccer|football|baseball|basketball|volleyball|tennis|golf|badminton|table tennis|rugby|"
    "hockey|chess|shogi|game|video game|cards|catch|hide-and-seek|tag"
)
# Where things are on and not in.
ON = _set(
    "a beach|a coast|a road|a straight road|a street|stage|a roof|roof|rooftop|a hill|hill|"
    "a bicycle|a motorcycle|a horse|skateboard|a bench|bench|a table|a chair|a sofa|a bed|"
    "platform|a wall|wall|floor|an island|stairs|the surface of the water|"
    "the surface of the moon|ice|veranda|balcony"
)
WEATHER = {"rain": "rainy", "snow": "snowy", "fog": "foggy", "a storm": "stormy", "wind": "windy"}
STYLES = ("風", "っぽい", "調", "系")
_AND = ("と", "や", "とか", "か", "など")
Tokens = Sequence[Token]
_OF_SURU = {"している": "ing", "した": "ta", "する": "base", "して": "te"}
_DONE = {"vs": "", "n": "do", "wear": "wear", "part": "hold"}


def joined(tokens: Tokens) -> list[Token]:
    """Return tokens in which する behind a noun and を is a verb, and 子供たち is a plural."""
    made: list[Token] = []
    for token in tokens:
        form = _OF_SURU.get(token.text) if token.is_particle() else None
        if form and len(made) > 1 and made[-1].is_particle("を") and made[-2].kind in _DONE:
            made[-2:] = _done(made[-2], made[-1], Token(token.text, Word("v", "", form)))
        elif token.is_particle("たち", "達") and made and made[-1].kind == "n":
            many = str(Phrase.of(made[-1].word.english).in_general())
            made[-1] = replace(made[-1], word=replace(made[-1].word, english=many))
        else:
            made.append(token)
    return made


def _done(noun: Token, mark: Token, suru: Token) -> list[Token]:
    """Return 散歩 を する as one verb, サッカー を する as an object and its verb."""
    if noun.kind == "vs":
        return [replace(suru, word=replace(suru.word, english=noun.word.english))]
    verb = "play" if noun.word.english in _PLAYED else _DONE[noun.kind]
    return [noun, mark, replace(suru, word=replace(suru.word, english=verb))]


def bare(tokens: Tokens, *kept: str) -> list[Token]:
    """Return tokens without particles at either end, but those that are kept."""
    rest = list(tokens)
    while rest and rest[0].is_particle():
        rest.pop(0)
    while rest and rest[-1].is_particle() and rest[-1].text not in kept:
        rest.pop()
    return rest


def describes(token: Token) -> bool:
    return token.kind in ADJECTIVES or token.is_particle("の", "な", "・")


def without_particles(tokens: Tokens) -> list[Token]:
    return [token for token in tokens if not token.is_particle()]


def split_subject(tokens: Tokens) -> tuple[list[Token], list[Token]]:
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


def verb_of(token: Token) -> tuple[str, str | None]:
    """Return a verb's base form, and the preposition of what stands in に; None if it has none."""
    base, bar, place = token.word.english.partition("|")
    return base, place if bar else None


def as_made(left: Tokens, verb: Token) -> Token:
    """Return a verb of making as what was done to the thing that follows: 鉛筆で描いた手."""
    done_to = any(token.is_particle("を", "が") for token in left)
    if verb.word.form == "ta" and not done_to and verb_of(verb)[0] in _MAKING:
        seen = "see" if verb_of(verb)[0] == "look at" else verb.word.english
        return replace(verb, word=replace(verb.word, english=seen, form="done"))
    return verb


def parts_of_list(
    tokens: list[Token], *, first: bool = False
) -> tuple[list[Token], list[Token]] | None:
    """Return what stands before and behind the last (or first) と of A と B; None without one."""
    places = range(1, len(tokens) - 1)
    for at in places if first else reversed(places):
        before, after = tokens[at - 1], tokens[at + 1]
        if tokens[at].is_particle(*_AND) and not before.is_particle() and not after.is_particle():
            return tokens[:at], tokens[at + 1 :]
    return None


def is_content(token: Token) -> bool:
    return not token.is_particle() and token.kind != "num" and token.text not in STYLES


def meaning(token: Token) -> Phrase:
    """Return a single word as a phrase."""
    if token.kind in VERBS:
        return Phrase(ing(verb_of(token)[0]))
    if token.kind == "rel":
        return Phrase(token.word.english.split("|")[2])
    phrase = Phrase.of(token.word.english)
    return phrase.with_front("not") if token.word.form == "not" else phrase


def words_of(tokens: Tokens) -> str:
    return " ".join(meaning(token).words for token in tokens if not token.is_particle())


def role_of(token: Token, *, last: bool) -> str:
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
    return CASES.get(token.text.removesuffix("は"), "") if token.is_particle() else ""
