"""AUTOMATIC1111's grammar of prompts: what is composed of what, with which weights, and when.

    prompt -> tags apart -> parts (AND) -> for each part its texts by steps -> pieces of one weight

Imports no torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ldm.budgets import PROMPT_LETTERS, PROMPT_PARTS
from ldm.errors import UserError
from ldm.prompts.schedule import Schedule, schedule
from ldm.settings.tags import Tag, split_tags

_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r":\s*([-+]?(?:\d+\.?|\d*\.\d+))$")


@dataclass(frozen=True)
class Part:
    """One of the prompts that ``AND`` joins.

    Attributes:
        weight: How strongly the pictures follow it.
        schedule: Its texts, with their weights still in them, each up to a step.
    """

    weight: float
    schedule: Schedule


@dataclass(frozen=True)
class Prompt:
    """A prompt that was read.

    Attributes:
        parts: What is composed.
        tags: The files that it names.
    """

    parts: tuple[Part, ...]
    tags: tuple[Tag, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether one text of weight 1 stands for all steps."""
        return len(self.parts) == 1 and self.parts[0].weight == 1.0 and self.is_constant

    @property
    def is_constant(self) -> bool:
        """Whether nothing changes from step to step."""
        return all(len(part.schedule) == 1 for part in self.parts)


def parse_a1111(text: str, steps: int, *, composes: bool = True) -> Prompt:
    """Read a prompt in AUTOMATIC1111's grammar.

    Args:
        text: The prompt.
        steps: Of the walk; a share of them or a number is when a text changes.
        composes: Whether ``AND`` joins parts. In negative prompts it is a word.

    Raises:
        UserError: It is too long, has too many parts, or a tag cannot be read.

    Example:
        >>> prompt = parse_a1111("a cat AND a [red:blue:0.5] hat :0.7 <lora:ink:0.8>", 20)
        >>> prompt.parts[1]
        Part(weight=0.7, schedule=[(10, ' a red hat'), (20, ' a blue hat')])
        >>> [tag.name for tag in prompt.tags]
        ['ink']
    """
    check_letters(text)
    plain, tags = split_tags(text)
    weighted = [_weighted(each) for each in _AND.split(plain)] if composes else [(plain, 1.0)]
    if len(weighted) > PROMPT_PARTS:
        raise UserError(
            f"a prompt of {len(weighted)} parts was given; expected at most {PROMPT_PARTS}; each "
            "is drawn by itself; leave some out"
        )
    parts = tuple(Part(weight, schedule(each, steps)) for each, weight in weighted)
    return Prompt(parts, tuple(tags))


def check_letters(text: str) -> None:
    """Raise a UserError if a prompt is longer than any is."""
    if len(text) > PROMPT_LETTERS:
        raise UserError(
            f"a prompt of {len(text)} letters was given; expected at most {PROMPT_LETTERS}; "
            "shorten it"
        )


def _weighted(text: str) -> tuple[str, float]:
    """Split ``text :weight``; a text of several lines has weight 1, as in the web UI."""
    ending = text.rstrip()
    match = _WEIGHT.search(ending)
    before = ending if match is None else ending[: match.start()].rstrip()
    if "\n" in before.lstrip():
        return text, 1.0
    return before, 1.0 if match is None else float(match[1])
