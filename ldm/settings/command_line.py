"""Command lines made from a settings class. Imports no torch, so that ``--help`` is instant."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from typing import Any

from ldm.arguments import ArgumentParser
from ldm.errors import UserError
from ldm.settings.generation import GenerationSettings
from ldm.settings.option import Option, options_of

GROUPS = {
    "prompt": "what to draw",
    "picture": "how to draw it",
    "model": "the model",
    "output": "what is written",
    "page": "the page",
}


class _Parser(ArgumentParser):
    """Knows its flags well enough to guess what an unknown one was meant to be."""

    def nearest(self, unknown: str) -> str:
        """Return a notice that says what ``unknown`` may have been meant to be."""
        if not unknown.startswith("-"):
            return "; a text of several words needs quotes around it"
        flag = "--" + unknown.split("=")[0].lstrip("-")
        for other in GenerationSettings.__subclasses__():
            if (
                flag
                in {each.flag for each in options_of(other)} - self._option_string_actions.keys()
            ):
                return f"; it is a flag of scripts/{other.program}.py"
        # All flags of one letter are alike.
        known = [] if len(flag) < 4 else self._option_string_actions
        likeness = 0.6 if unknown.startswith("--") else 0.9  # else it may be a text
        if close := difflib.get_close_matches(flag, known, n=1, cutoff=likeness):
            return f"; did you mean {close[0]}?"
        if not unknown.startswith("--"):
            return '; a text with a dash first is written as in --prompt="-text"'
        return "; see --help for the flags there are"


def build_parser(settings: type[GenerationSettings], description: str) -> argparse.ArgumentParser:
    """Make the parser of a program whose flags are the options of ``settings``.

    Its namespace holds only what the user gave: the settings class knows the defaults.
    """
    parser = _Parser(prog=settings.program, description=description)
    groups = {key: parser.add_argument_group(title) for key, title in GROUPS.items()}
    for each in options_of(settings):
        default = settings.__dataclass_fields__[each.name].default
        _add(groups[each.group], each, default)
    return parser


def parse(
    settings: type[GenerationSettings], description: str, argv: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return the settings that a command line gives explicitly, by field name.

    Args:
        settings: The schema.
        description: First lines of ``--help``.
        argv: Arguments without the program's name; ``None`` takes ``sys.argv``.

    Raises:
        UserError: an unknown flag, a value of the wrong kind, or flags that contradict each other.

    Example:
        >>> from ldm.settings.generation import Txt2ImgSettings
        >>> parse(Txt2ImgSettings, "", ["--plms", "--seed", "7"])
        {'sampler': 'plms', 'seed': 7}
    """
    parser = build_parser(settings, description)
    namespace, unknown = parser.parse_known_args(argv)
    if unknown:
        raise UserError(f"unknown argument {unknown[0]!r}" + parser.nearest(unknown[0]))
    given = vars(namespace)
    for each in options_of(settings):
        if each.name not in given or each.kind is bool:
            continue
        value = given[each.name]
        if value is None:
            raise UserError('--prompt was given without text; expected it; write --prompt "a cat"')
        given[each.name] = each.read(_single(each, value) if each.aliases else value)
    return given


def _single(each: Option, values: list[str]) -> str:
    if len(set(values)) > 1:
        flags = {value: flag for flag, value in each.aliases}
        named = " and ".join(flags.get(v, f"{each.flag} {v}") for v in dict.fromkeys(values))
        raise UserError(f"{named} were given together; they contradict each other; give one")
    return values[0]


def _add(group: argparse._ArgumentGroup, each: Option, default: Any) -> None:
    shown = each.shown or default
    silent = each.kind is bool or shown is None
    suffix = "" if silent else f" (default: {shown})"
    text = (each.help + suffix).replace("%", "%%")
    common = {"dest": each.name, "default": argparse.SUPPRESS}
    if each.kind is bool:
        group.add_argument(each.flag, action="store_true", help=text, **common)
        return
    # Values stay text here: the option reads them, with better words for what is wrong.
    common |= {"help": text, "metavar": _metavar(each)}
    if each.aliases:
        group.add_argument(each.flag, action="append", **common)
    else:
        # CompVis's --prompt takes its text as an optional value; kept, and checked in `parse`.
        names, nargs = (each.flag, *each.synonyms), "?" if each.name == "prompt" else None
        group.add_argument(*names, nargs=nargs, **common)
    for flag, value in each.aliases:
        group.add_argument(
            flag,
            dest=each.name,
            action="append_const",
            const=value,
            default=argparse.SUPPRESS,
            help=f"the same as {each.flag} {value}",
        )


def _metavar(each: Option) -> str:
    if each.choices:
        return f"{{{','.join(each.offered)}}}"
    return each.metavar or {int: "N", float: "X"}.get(each.kind, "TEXT")
