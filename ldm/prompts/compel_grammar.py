"""compel's grammar of prompts: ``word++``, ``(words)1.3``, ``.blend()``, ``.and()``.

    prompt -> terms joined by .and() -> mixtures joined by .blend() -> fragments of one weight

It is what InvokeAI and the package compel read. Words are cut at white space; in brackets and
quotes also at commas and points. What is not well formed is text. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from ldm.budgets import PROMPT_NESTING
from ldm.errors import UserError
from ldm.legible import quoted
from ldm.prompts.a1111 import check_letters
from ldm.settings.tags import Tag, split_tags

UP, DOWN = 1.1, 0.9
_SPACE = " \\t\\n\\r\\x0b\\x0c"
_SIGNS = r"()\",.+\-="
_WORD = re.compile(rf"(?:\\[{_SIGNS}]|[+-](?![{_SPACE}{_SIGNS}]|\Z)|[^{_SPACE}{_SIGNS}])+")
_FREE = re.compile(rf"[^{_SPACE}]+")
_SKIP = re.compile(rf"[{_SPACE}]*")
_QUOTES = re.compile(r'"((?:\\"|[^"\n\r])*)"')
_REAL = r"[+-]?(?:\d+\.\d*|\.\d+)|-?\d+"
_HOW = re.compile(rf"\++|-+|{_REAL}")
_SIGN = re.compile(r"\++|-+")
_ATTEND = re.compile(rf"\s*\.attend\s*\(\s*(\++|-+|{_REAL})\s*\)")
_SWAP = re.compile(r"\s*\.swap\s*\(")
_LORA = re.compile(rf"(?:useLora|withLora)\s*\(\s*([\w-]+)\s*(?:,\s*({_REAL})\s*)?\)")
_JOINS = re.compile(r"\s*\.(blend|and|add)\s*\(([^()]*)\)")
_ESCAPES = re.compile(r'\\([()"])')


class Fragment(NamedTuple):
    """Text of one weight."""

    text: str
    weight: float


EMPTY = (Fragment("", 1.0),)


@dataclass(frozen=True)
class Term:
    """What ``.and()`` joins: one prompt, or several that ``.blend()`` mixes.

    Attributes:
        weight: How strongly it counts.
        prompts: The fragments of each prompt.
        shares: How much of each prompt is in the mixture.
        normalize: Whether the shares are divided by their sum.
    """

    weight: float
    prompts: tuple[tuple[Fragment, ...], ...]
    shares: tuple[float, ...] = (1.0,)
    normalize: bool = True


@dataclass(frozen=True)
class CompelPrompt:
    """A prompt that was read."""

    terms: tuple[Term, ...]
    tags: tuple[Tag, ...] = ()


class _Weighted(NamedTuple):
    weight: float
    nodes: list


_Found = tuple[list, int] | None
"""Nodes (texts, ``_Weighted``, tags) and the place behind them."""


def parse_compel(text: str) -> CompelPrompt:
    """Read a prompt in compel's grammar.

    Raises:
        UserError: It is too long or nested too deep, its weights do not fit, or it has ``.swap()``.

    Example:
        >>> parse_compel("a cat++ (in the snow)0.5").terms[0].prompts[0][1:]
        (Fragment(text='cat', weight=1.2100000000000002), Fragment(text='in the snow', weight=0.5))
        >>> [term.weight for term in parse_compel('("a cat", "a dog").and(1, 0.5)').terms]
        [1.0, 0.5]
    """
    check_letters(text)
    plain, tags = split_tags(text)
    plain = re.sub(r",(\S)", r", \1", plain)  # compel's own first step
    if not plain.strip():
        return CompelPrompt((Term(1.0, (EMPTY,)),), tuple(tags))
    reader = _Reader(plain)
    terms = _joined(reader, tags) or [Term(1.0, (_flat(reader.prompt(0)[0], tags) or EMPTY,))]
    return CompelPrompt(tuple(terms), tuple(tags))


def _joined(reader: _Reader, tags: list[Tag]) -> list[Term] | None:
    """Read ``("a", "b").and(...)`` or ``.blend(...)``; None if the prompt is neither."""
    items = reader.items(reader.skip(0))
    match = items and _JOINS.match(reader.text, items[1])
    if not match:
        return None
    if reader.text[match.end() :].strip():
        rest = quoted(reader.text[match.end() :].strip())
        raise UserError(
            f"a prompt has {rest} behind .{match[1]}(); expected nothing; put it into one of the "
            "prompts that are joined"
        )
    prompts = [_flat(nodes, tags) for nodes in items[0]]
    words = [each.strip() for each in match[2].split(",") if each.strip()]
    normalize = match[1] != "blend" or words[-1:] != ["no_normalize"]
    numbers = _numbers(words if normalize else words[:-1], len(prompts), match[0].strip())
    if match[1] == "blend":
        return [_blend(prompts, numbers, normalize)]
    return [Term(n, (each,)) for each, n in zip(prompts, numbers, strict=True) if each]


def _blend(prompts: list, shares: list[float], normalize: bool) -> Term:
    if normalize and sum(shares) == 0:
        raise UserError(
            "the weights of a .blend() sum to 0; expected another sum; change one of them, or add "
            "no_normalize at their end"
        )
    return Term(1.0, tuple(each or EMPTY for each in prompts), tuple(shares), normalize)


def _numbers(words: list[str], count: int, written: str) -> list[float]:
    try:
        numbers = [float(word) for word in words] or [1.0] * count
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise UserError(
            f"{quoted(written)} in a prompt joins {count} prompts; expected {count} numbers with "
            "commas between them, or none; correct them"
        )
    return numbers


def _flat(nodes: list, tags: list[Tag]) -> tuple[Fragment, ...]:
    """Return nodes as fragments, and put their tags into ``tags``.

    Neighbours of one weight are one fragment, with a space between.
    """
    found: list[tuple[list[str], float]] = []

    def add(nodes: list, scale: float) -> None:
        for node in nodes:
            if isinstance(node, _Weighted):
                add(node.nodes, scale * node.weight)
            elif isinstance(node, Tag):
                tags.append(node)
            elif found and found[-1][1] == scale:
                found[-1][0].append(_ESCAPES.sub(r"\1", node))
            else:
                found.append(([_ESCAPES.sub(r"\1", node)], scale))

    add(nodes, 1.0)
    return tuple(Fragment(" ".join(texts), weight) for texts, weight in found)


class _Reader:
    """Reads a text from any place on; what brackets hold is read once."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._brackets: dict[int, _Found] = {}
        self._quotes: dict[int, _Found] = {}
        self._depth = 0

    def skip(self, place: int) -> int:
        return _SKIP.match(self.text, place).end()

    def prompt(self, place: int) -> tuple[list, int]:
        """Read all of the text: terms and free words."""
        nodes: list = []
        while (place := self.skip(place)) < len(self.text):
            found = self._term(place) or self._brackets_or_quotes(place) or self._free(place)
            nodes += found[0]
            place = found[1]
        return nodes, place

    def items(self, place: int) -> tuple[list[list], int] | None:
        """Read ``(a, "b", (c))``: the nodes of each item."""
        if self.text[place : place + 1] != "(":
            return None
        items, place = [], place + 1
        while True:
            place = self.skip(place)
            found = self._target(place) or self._free_quotes(place)
            if found is None:
                return None
            items.append(found[0])
            place = self.skip(found[1])
            if self.text[place : place + 1] != ",":
                break
            place += 1
        return (items, place + 1) if self.text[place : place + 1] == ")" else None

    def _parts(self, place: int) -> tuple[list, int]:
        """Read what brackets and quotes may hold."""
        nodes: list = []
        while (place := self.skip(place)) < len(self.text):
            found = self._term(place) or self._target(place)
            if found is None and self.text[place] in ",.":
                found = [self.text[place]], place + 1
            if found is None:
                break
            nodes += found[0]
            place = found[1]
        return nodes, place

    def _term(self, place: int) -> _Found:
        """Read a LoRA's name, or a target with a weight."""
        lora = _LORA.match(self.text, place)
        if lora:
            scale = float(lora[2] or 1)
            return [Tag("lora", lora[1], scale, scale, lora[0])], lora.end()
        target = self._target(place)
        if target is None:
            return None
        nodes, end = target
        if _SWAP.match(self.text, end):
            raise UserError(
                f"a prompt has {quoted(self.text[place:end] + '.swap()')}; .swap() is not done "
                "here; draw the edit with scripts/swap.py"
            )
        how = _ATTEND.match(self.text, end)
        if how is None:
            bare = self.text[place] not in '("'
            how = (_SIGN if bare else _HOW).match(self.text, end)
        return ([_Weighted(_weight(how), nodes)], how.end()) if how else None

    def _target(self, place: int) -> _Found:
        return self._brackets_or_quotes(place) or self._word(place)

    def _word(self, place: int) -> _Found:
        match = _WORD.match(self.text, place)
        return ([match[0]], match.end()) if match else None

    def _free(self, place: int) -> tuple[list, int]:
        match = _FREE.match(self.text, place)
        return [match[0]], match.end()

    def _brackets_or_quotes(self, place: int) -> _Found:
        sign = self.text[place : place + 1]
        if sign == '"':
            return self._once(self._quotes, self._read_quotes, place)
        return self._once(self._brackets, self._read_brackets, place) if sign == "(" else None

    def _once(self, known: dict[int, _Found], read: Callable, place: int) -> _Found:
        if place not in known:
            known[place] = read(place)
        return known[place]

    def _read_brackets(self, place: int) -> _Found:
        self._depth += 1
        if self._depth > PROMPT_NESTING:
            raise UserError(
                f"a prompt opens more than {PROMPT_NESTING} brackets inside one another; expected "
                "fewer; close them, or write \\( for brackets that are text"
            )
        nodes, end = self._parts(place + 1)
        self._depth -= 1
        return (nodes, end + 1) if self.text[end : end + 1] == ")" else None

    def _read_quotes(self, place: int) -> _Found:
        return self._in_quotes(place, _Reader._parts)

    def _free_quotes(self, place: int) -> _Found:
        return self._in_quotes(place, _Reader.prompt)

    def _in_quotes(self, place: int, read: Callable[[_Reader, int], tuple[list, int]]) -> _Found:
        match = _QUOTES.match(self.text, place)
        if match is None:
            return None
        inner = _Reader(match[1].replace('\\"', '"').replace('"', '\\"'))
        if not inner.text.strip():
            return [""], match.end()
        nodes, end = read(inner, 0)
        return (nodes, match.end()) if inner.skip(end) == len(inner.text) else None


def _weight(how: re.Match) -> float:
    """Return the weight of ``++``, ``-`` or a number."""
    written: Any = how[how.lastindex or 0]
    if set(written) <= {"+"}:
        return UP ** len(written)
    return DOWN ** len(written) if set(written) <= {"-"} else float(written)
