"""Prompts that change on the way, as AUTOMATIC1111 writes them: ``[from:to:when]`` and ``[a|b]``.

    prompt -> tree of brackets -> for each stretch of steps one text without such brackets

The grammar is the web UI's. A pair of brackets counts if all inside it is well formed; any other
bracket or colon is text. A ``|`` outside of such a pair, or a backslash at the end, makes the whole
prompt text. Time and memory are linear in the prompt. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ldm.budgets import PROMPT_LETTERS
from ldm.errors import UserError

Schedule = list[tuple[int, str]]
"""Texts, each with the number of the last step that it is for, rising."""

_TOKEN = re.compile(r"(?:[^\\\[\]():|]|\\.)+|[\[\]():|]")
_NUMBER = re.compile(r"\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*")
_PAIRS = {")": "(", "]": "["}
# Texts of all steps together: a prompt that alternates in 1000 steps is not to fill the memory.
_MOST_LETTERS = 10 * PROMPT_LETTERS


@dataclass
class _Swap:
    """``[from:to:when]``."""

    before: list
    after: list
    when: str


@dataclass
class _Turns:
    """``[a|b|...]``."""

    options: list[list]


@dataclass
class _Open:
    """A bracket that is not closed yet: what follows it, cut at its colons and bars."""

    sign: str
    segments: list[list] = field(default_factory=lambda: [[]])
    cuts: list[str] = field(default_factory=list)
    sound: bool = True  # whether all that it holds is well formed

    def as_text(self) -> list:
        """Return the bracket and what it holds, with the colons as text."""
        parts = [self.sign, *self.segments[0]]
        for cut, segment in zip(self.cuts, self.segments[1:], strict=True):
            parts += [cut, *segment]
        return parts

    def spilled(self) -> list:
        """Return the same for a bracket that is text itself."""
        if "|" in self.cuts:
            raise _NotGrammar
        return self.as_text()


class _NotGrammar(Exception):
    """The prompt as a whole is text."""


def schedule(prompt: str, steps: int) -> Schedule:
    """Return the texts of a walk of ``steps`` steps.

    A number with a point is a share of the steps, another one is a step.

    Raises:
        UserError: The texts are too long together.

    Example:
        >>> schedule("a [cat:dog:3] [red|blue]", 4)
        [(1, 'a cat red'), (2, 'a cat blue'), (3, 'a cat red'), (4, 'a dog blue')]
        >>> schedule("a [big:.5] cat [sitting", 10)
        [(5, 'a  cat [sitting'), (10, 'a big cat [sitting')]
    """
    if not {"[", "]"} <= set(prompt):
        return [(steps, prompt)]
    try:
        tree = _parse(prompt)
    except _NotGrammar:
        return [(steps, prompt)]
    ends = sorted({steps, *_ends(tree, steps)})
    found, letters = [], 0
    for end in ends:
        text = "".join(_text(tree, end, steps))
        letters += len(text)
        if letters > _MOST_LETTERS:
            raise UserError(
                f"a prompt of {len(prompt)} letters changes in {len(ends)} steps; expected at most "
                f"{_MOST_LETTERS} letters for all steps together; shorten it, or take fewer steps"
            )
        found.append((end, text))
    return found


def _parse(prompt: str) -> list:
    """Return the tree: texts, ``_Swap``, ``_Turns`` and lists of these, in the prompt's order."""
    stack, done = [_Open("")], 0
    for match in _TOKEN.finditer(prompt):
        if match.start() != done:
            raise _NotGrammar  # a backslash with nothing to escape
        done, token = match.end(), match[0]
        if token in ("(", "["):
            stack.append(_Open(token))
        elif token in _PAIRS:
            _close(stack, token)
        elif token in (":", "|") and len(stack) > 1:
            stack[-1].cuts.append(token)
            stack[-1].segments.append([])
        elif token == "|":
            raise _NotGrammar
        else:
            stack[-1].segments[-1].append(token)
    if done != len(prompt):
        raise _NotGrammar
    _spill(stack)
    return stack[0].segments[0]


def _close(stack: list[_Open], sign: str) -> None:
    """Close the innermost bracket; one that does not fit makes text of all that are open."""
    if stack[-1].sign != _PAIRS[sign]:
        _spill(stack)
        stack[0].segments[0].append(sign)
        return
    closed = stack.pop()
    made = _made(closed) if closed.sound else None
    if made is None:
        made = [*closed.spilled(), sign]
        stack[-1].sound = len(stack) == 1
    stack[-1].segments[-1].append(made)


def _spill(stack: list[_Open]) -> None:
    """Make text of every open bracket."""
    inside = [part for each in stack[1:] for part in each.spilled()]
    del stack[1:]
    stack[0].segments[0] += inside


def _made(pair: _Open) -> list | _Swap | _Turns | None:
    """Return what a pair of brackets stands for; None if it is not well formed."""
    cuts, segments = set(pair.cuts), pair.segments
    if pair.sign == "(":
        return [*pair.as_text(), ")"] if cuts <= {":"} and len(segments) <= 2 else None
    if not cuts:
        return [*pair.as_text(), "]"]
    if cuts == {"|"}:
        return _Turns(segments)
    number = _NUMBER.fullmatch("".join(segments[-1])) if _is_text(segments[-1]) else None
    if cuts != {":"} or len(segments) > 3 or number is None:
        return None
    return _Swap(segments[0] if len(segments) == 3 else [], segments[-2], number[1])


def _is_text(parts: list) -> bool:
    return all(isinstance(part, str) for part in parts)


def _step(when: str, steps: int) -> int:
    """Return the last step before a change."""
    share = float(when) * (steps if "." in when else 1)
    return int(min(max(share, -1.0), float(steps)))


def _nodes(tree: list) -> Iterator[_Swap | _Turns]:
    waiting = [tree]
    while waiting:
        for part in waiting.pop():
            if isinstance(part, list):
                waiting.append(part)
            elif isinstance(part, _Swap):
                waiting += [part.before, part.after]
                yield part
            elif isinstance(part, _Turns):
                waiting += part.options
                yield part


def _ends(tree: list, steps: int) -> Iterable[int]:
    """Yield the steps after which some text may change."""
    turning = False
    for node in _nodes(tree):
        turning = turning or isinstance(node, _Turns)
        if isinstance(node, _Swap) and _step(node.when, steps) >= 1:
            yield _step(node.when, steps)
    if turning:
        yield from range(1, steps + 1)


def _text(tree: list, step: int, steps: int) -> Iterator[str]:
    """Yield the pieces of the text at a step, counted from 1."""
    waiting: list[Iterator] = [iter(tree)]
    while waiting:
        part = next(waiting[-1], None)
        if part is None:
            waiting.pop()
        elif isinstance(part, str):
            yield part
        elif isinstance(part, list):
            waiting.append(iter(part))
        elif isinstance(part, _Turns):
            waiting.append(iter(part.options[(step - 1) % len(part.options)]))
        else:
            waiting.append(iter(part.before if step <= _step(part.when, steps) else part.after))
