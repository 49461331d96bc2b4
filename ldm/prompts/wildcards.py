r"""Prompts as templates: ``__name__`` is a line of a list, ``{a|b}`` one of two texts. No torch.

    template -> tree of texts, names of lists and choices -> (for each seed) a prompt

The syntax is that of AUTOMATIC1111's extension "dynamic prompts": ``{3::a|b}`` weighs,
``{2$$a|b|c}`` picks two different ones, ``{1-2$$ and $$a|b}`` one or two with " and " between
them. What is drawn is decided by a seed and the place in the template alone: a change of one list
changes what that list gives, and nothing else.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

from ldm.budgets import PROMPT_LETTERS, WILDCARD_DEPTH, WILDCARD_DRAWS
from ldm.errors import UserError
from ldm.legible import quoted

# A name is searched over this many letters: a text full of "__" is not to take long.
_TOKEN = re.compile(r"__(?![\s_])(?P<name>[^{}|$\n]{1,200}?)(?<![\s_])__|\$\{|[{}|]")
_COUNT = re.compile(
    r"\s*(?=-?\s*\d)(?P<low>\d{1,6})?\s*(?P<to>-\s*(?P<high>\d{1,6})?)?\s*\$\$"
    r"(?:(?P<between>[^$]*)\$\$)?"
)
_LIKELY = re.compile(r"__[^\W_][\w/*?-]{0,60}(?<!_)__|\{[^{}|]{0,200}\|[^{}]{0,1000}\}")
_WEIGHT = re.compile(r"\s*(\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})::")
_BETWEEN = ", "
_BITS = 53  # of a float's digits: any more would round up to 1


@dataclass(frozen=True)
class Named:
    """``__name__``: a line of a list."""

    name: str


@dataclass(frozen=True)
class Choice:
    """``{a|b|c}``.

    Attributes:
        options: What is chosen from.
        least: How many are picked at least.
        most: How many at most; never more than there are.
        between: What joins them.
    """

    options: Options
    least: int = 1
    most: int = 1
    between: str = _BETWEEN


Template = tuple["str | Named | Choice", ...]
"""A prompt to be drawn: texts, and what stands for texts."""


@dataclass(frozen=True)
class Options:
    """Templates to choose from; one with twice the weight is drawn twice as often."""

    templates: tuple[Template, ...]
    weights: tuple[float, ...]

    @cached_property
    def sums(self) -> list[float]:
        """The weights up to each option."""
        return list(accumulate(self.weights))


Lists = Callable[[str], Options]
"""Returns the lines of a list by its name; raises UserError where there is none."""


def is_template(text: str) -> bool:
    """Return whether a prompt has anything that is drawn, or that cannot be read.

    Example:
        >>> is_template("a __colours__ cat"), is_template("a snake__case | cat")
        (True, False)
    """
    return any(match[0] != "|" for match in _TOKEN.finditer(text))


def likely_parts(text: str) -> list[str]:
    """Return the parts of a plain prompt that were probably meant to be drawn.

    Example:
        >>> likely_parts("a __pets/cats__ on {a|b} {c} __ [d|e]")
        ['__pets/cats__', '{a|b}']
    """
    return list(dict.fromkeys(match[0] for match in _LIKELY.finditer(text)))


def parse(text: str, where: str = "the prompt") -> Template:
    """Read a template.

    Args:
        text: The template.
        where: What it is, for messages.

    Raises:
        UserError: Braces are not in pairs or too deep, or hold nothing to choose from.

    Example:
        >>> parse("a __pets/small__ | b")
        ('a ', Named(name='pets/small'), ' ', '|', ' b')
    """
    stack, done = [_Open()], 0
    for match in _TOKEN.finditer(text):
        stack[-1].add(text[done : match.start()])
        done, token = match.end(), match[0]
        if match["name"]:
            stack[-1].add(Named(match["name"]))
        elif token == "${":
            raise _wrong(where, text, "sets or reads a variable with ${", "none", "write the words")
        elif token == "{":
            stack.append(_Open())
            if len(stack) > WILDCARD_DEPTH:
                deep = f"has more than {WILDCARD_DEPTH} braces within one another"
                raise _wrong(where, text, deep, "fewer", "put some of it into a list")
        elif len(stack) == 1 and token == "}":
            raise _wrong(where, text, "closes a { that is not there", "pairs", "take the } out")
        elif token == "}":
            made = stack.pop().choice(where, text)
            stack[-1].add(made)
        else:
            stack[-1].divide(inside=len(stack) > 1)
    if len(stack) > 1:
        raise _wrong(where, text, "has a { that is not closed", "pairs", "add a }")
    stack[0].add(text[done:])
    return tuple(stack[0].options[0])


@dataclass
class _Open:
    """Braces that are not closed yet, or the whole template: what they hold, option by option."""

    options: list[list] = field(default_factory=lambda: [[]])

    def add(self, part: str | Named | Choice) -> None:
        if part != "":
            self.options[-1].append(part)

    def divide(self, *, inside: bool) -> None:
        """Take a ``|``, which is text outside of braces."""
        if inside:
            self.options.append([])
        else:
            self.add("|")

    def choice(self, where: str, text: str) -> Choice:
        """Return what the closed braces stand for."""
        count = _taken(self.options[0], _COUNT)
        weighed = [(_taken(option, _WEIGHT), option) for option in self.options]
        weights = [1.0 if found is None else float(found[1]) for found, _ in weighed]
        kept = [k for k, weight in enumerate(weights) if weight > 0]
        if not kept:
            raise _wrong(where, text, "has a choice whose weights are all 0", "some", "change one")
        templates = tuple(tuple(weighed[k][1]) for k in kept)
        options = Options(templates, tuple(weights[k] for k in kept))
        if count is None:
            return Choice(options)
        least = int(count["low"] or 1)
        most = int(count["high"]) if count["high"] else WILDCARD_DRAWS if count["to"] else least
        if most < least:
            raise _wrong(where, text, f"asks for {least} to {most}", "rising numbers", "swap them")
        between = count["between"]
        return Choice(options, least, most, _BETWEEN if between is None else between)


def _taken(parts: list, pattern: re.Pattern) -> re.Match | None:
    """Take what a pattern finds at the beginning of an option out of it; return what it was."""
    found = pattern.match(parts[0]) if parts and isinstance(parts[0], str) else None
    if found is not None:
        parts[:1] = filter(None, [parts[0][found.end() :]])
    return found


def read_weight(line: str) -> tuple[float, str]:
    """Return the weight that a line of a list begins with, and the rest; 1 where it has none.

    Example:
        >>> read_weight("0.5::a cat"), read_weight("a dog")
        ((0.5, 'a cat'), (1.0, 'a dog'))
    """
    found = _WEIGHT.match(line)
    return (float(found[1]), line[found.end() :]) if found else (1.0, line)


def draw(template: Template, lists: Lists, seed: int, part: str = "") -> str:
    """Return the prompt that a seed draws.

    Args:
        template: What ``parse`` returned.
        lists: Where names lead.
        seed: Any whole number.
        part: Sets texts apart that one seed draws, such as the negative prompt from the prompt.

    Raises:
        UserError: The prompt grows too long, or a list is missing.

    Example:
        >>> [draw(parse("a {red|blue} cat"), {}.get, seed) for seed in range(3)]
        ['a blue cat', 'a red cat', 'a blue cat']
    """
    return _Draw(lists, f"{seed}:{part}").text(template, "")


class _Draw:
    """Draws one prompt."""

    def __init__(self, lists: Lists, key: str) -> None:
        self.lists, self.key, self.left = lists, key, WILDCARD_DRAWS

    def text(self, template: Template, place: str) -> str:
        """Return the text of a template whose place is known by a name of its own."""
        made, nodes = [], 0
        for part in template:
            if isinstance(part, str):
                made.append(part)
            else:
                made.append(self.node(part, f"{place}.{nodes}"))
                nodes += 1
        text = "".join(made)
        if len(text) > PROMPT_LETTERS:
            raise UserError(
                f"a template draws a prompt of {len(text)} letters; expected at most "
                f"{PROMPT_LETTERS}; shorten its lists"
            )
        return text

    def node(self, node: Named | Choice, place: str) -> str:
        """Return what is drawn for a list or a choice."""
        if isinstance(node, Named):
            return self.one(self.lists(node.name), place)
        if node.least == node.most == 1:
            return self.one(node.options, place)
        return self.several(node, place)

    def one(self, options: Options, place: str) -> str:
        """Draw one option."""
        self.count(1)
        picked = bisect_right(options.sums, self.fraction(place) * options.sums[-1])
        return self.text(options.templates[min(picked, len(options.sums) - 1)], place)

    def several(self, node: Choice, place: str) -> str:
        """Draw different options; those of a list that stands alone in braces are its lines."""
        options = node.options
        alone = options.templates[0] if len(options.templates) == 1 else ()
        if len(alone) == 1 and isinstance(alone[0], Named):
            options = self.lists(alone[0].name)
        self.count(len(options.templates) + 1)
        most = min(node.most, len(options.templates))
        least = min(node.least, most)
        count = least + int(self.fraction(place) * (most - least + 1))
        # Keys u^(1/w): the largest ones, from the top, are weighted picks without putting back
        # (Efraimidis and Spirakis 2006, algorithm A).
        keys = [
            (self.fraction(f"{place}/{k}") ** (1 / weight), -k)
            for k, weight in enumerate(options.weights)
        ]
        picked = [-k for _, k in sorted(keys, reverse=True)[:count]]
        texts = [self.text(options.templates[k], f"{place}/{k}").strip() for k in picked]
        return node.between.join(texts)

    def count(self, draws: int) -> None:
        """Count what is looked at; lists that name lists may multiply."""
        self.left -= draws
        if self.left < 0:
            raise UserError(
                f"a template takes more than {WILDCARD_DRAWS} draws for one prompt; expected "
                "fewer; let fewer lists name one another"
            )

    def fraction(self, place: str) -> float:
        """Return a number of [0, 1) that belongs to a place of the template."""
        digest = hashlib.sha256(f"{self.key}{place}".encode()).digest()
        return (int.from_bytes(digest[:8], "big") >> (64 - _BITS)) / 2**_BITS


def _wrong(where: str, text: str, fault: str, expected: str, do: str) -> UserError:
    return UserError(f"{where} {quoted(text)} {fault}; expected {expected}; {do}")
