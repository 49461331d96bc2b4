"""Command lines made from a settings class. Imports no torch, so that ``--help`` is instant."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ldm.arguments import ArgumentParser
from ldm.errors import UserError
from ldm.settings.generation import GenerationSettings
from ldm.settings.option import OVERRIDE, Option, Settings, options_of


class OptionParser(ArgumentParser):
    """A command line whose flags are options. Its result holds only what the user gave.

    Args:
        schema: The settings class; it knows the defaults and the headings.
        description: First lines of ``--help``; of several lines, they are shown as they are.
        **rest: Arguments of ``argparse.ArgumentParser``.
    """

    def __init__(self, schema: type[Settings], description: str, **rest: Any) -> None:
        if "\n" in description:
            rest["formatter_class"] = argparse.RawDescriptionHelpFormatter
        super().__init__(prog=schema.program, description=description, **rest)
        self.schema = schema
        self.options: list[Option] = []
        groups = {key: self.add_argument_group(title) for key, title in schema.groups.items()}
        for each in options_of(schema):
            default = schema.__dataclass_fields__[each.name].default
            self.add_option(groups.get(each.group, self), each, default)

    def add_option(self, group: Any, each: Option, default: Any = None) -> None:
        """Add one option to the command line or to a group of it."""
        self.options.append(each)
        silent = each.shown is None and (each.kind is bool or default in (None, "", ()))
        shown = default if each.shown is None else each.shown
        suffix = "" if silent or each.required else f" (default: {_in_words(shown)})"
        common: dict[str, Any] = {
            "help": (each.help + suffix).replace("%", "%%"),
            "default": argparse.SUPPRESS,
        }
        if each.positional:
            group.add_argument(each.name, nargs=_nargs(each), metavar=_metavar(each), **common)
            return
        common |= {"dest": each.name, "required": each.required}
        # Short flags first, as everywhere.
        names = sorted((each.flag, *each.synonyms), key=lambda name: name.startswith("--"))
        if each.kind is bool and not each.worded:
            group.add_argument(*names, action="store_true", **common)
            return
        # Values stay text here: the option reads them, with better words for what is wrong.
        common["metavar"] = _metavar(each)
        if each.aliases or each.several == "again":
            group.add_argument(*names, action="append", **common)
        else:
            const = "true" if each.worded else None
            group.add_argument(*names, nargs=_nargs(each), const=const, **common)
        for flag, value in each.aliases:
            group.add_argument(
                flag,
                dest=each.name,
                action="append_const",
                const=value,
                default=argparse.SUPPRESS,
                help=f"the same as {each.flag} {value}",
            )

    def read(self, argv: Sequence[str] | None = None) -> dict[str, Any]:
        """Return the settings that a command line gives explicitly, by name.

        Args:
            argv: Arguments without the program's name; ``None`` takes ``sys.argv``.

        Raises:
            UserError: an unknown flag, a value of the wrong kind, something missing, or flags that
                contradict each other.
        """
        rest, overrides = self._without_overrides(sys.argv[1:] if argv is None else argv)
        self._leave_missing_to_us()
        positional = any(each.positional for each in self.options)
        mixed = positional and "--" not in rest  # which argparse reads in its plain way alone
        known = self.parse_known_intermixed_args if mixed else self.parse_known_args
        namespace, unknown = known(rest)
        if unknown:
            raise UserError(f"unknown argument {unknown[0]!r}" + self.nearest(unknown[0]))
        given = vars(namespace)
        if overrides:
            given["overrides"] = [*overrides, *given.get("overrides", ())]
        for each in self.options:
            if each.name in given:
                given[each.name] = _value(each, given[each.name])
            elif each.required:
                raise UserError(each.missing)
        return given

    def _without_overrides(self, argv: Sequence[str]) -> tuple[list[str], list[str]]:
        """Take ``a.b=c`` out: after ``-b YAML`` or ``-t`` it would be read as one more value."""
        if all(each.name != "overrides" for each in self.options):
            return list(argv), []
        flags = self._option_string_actions
        rest, overrides = [], []
        for before, item in zip(["", *argv], argv, strict=False):
            owner = flags.get(before)
            # A flag with a `const` needs no value, so it leaves the override alone.
            owned = owner is not None and owner.nargs in (None, "?") and owner.const is None
            changes = re.fullmatch(OVERRIDE, item, re.DOTALL) and not Path(item).exists()
            (overrides if changes and not owned else rest).append(item)
        return rest, overrides

    def _leave_missing_to_us(self) -> None:
        """Let argparse pass over what is missing: a mistyped flag is to be told first."""
        self.usage = self.format_usage().removeprefix("usage: ").replace("%", "%%")
        for action in self._actions:
            action.required = False
            if not action.option_strings and action.nargs is None:
                action.nargs = "?"

    def nearest(self, unknown: str) -> str:
        """Return the end of a sentence that says what ``unknown`` may have been meant to be."""
        takes_text = any(e.kind is str and not (e.metavar or e.choices) for e in self.options)
        if not unknown.startswith("-"):
            quotes = "; a text of several words needs quotes around it"
            return quotes if takes_text else "; see --help for what is expected"
        flag = "--" + unknown.split("=")[0].lstrip("-")
        for other in self._relatives():
            own = {each.flag for each in options_of(other)}
            if flag in own - self._option_string_actions.keys():
                return f"; it is a flag of scripts/{other.program}.py"
        # All flags of one letter are alike.
        known = [] if len(flag) < 4 else self._option_string_actions
        likeness = 0.6 if unknown.startswith("--") else 0.9  # else it may be a text
        if close := difflib.get_close_matches(flag, known, n=1, cutoff=likeness):
            return f"; did you mean {close[0]}?"
        if takes_text and not unknown.startswith("--"):
            return '; a text with a dash first is written as in --prompt="-text"'
        return "; see --help for the flags there are"

    def _relatives(self) -> Iterable[type]:
        """Return the programs that users may take this one for."""
        draws = self.schema.groups.keys() & {"prompt", "page"}
        return GenerationSettings.__subclasses__() if draws else ()


def build_parser(schema: type, description: str) -> OptionParser:
    """Make the parser of a program whose flags are the options of ``schema``."""
    return OptionParser(schema, description)


def parse(schema: type, description: str, argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Return the settings that a command line gives explicitly, by field name.

    Args:
        schema: The settings class.
        description: First lines of ``--help``.
        argv: Arguments without the program's name; ``None`` takes ``sys.argv``.

    Raises:
        UserError: an unknown flag, a value of the wrong kind, or flags that contradict each other.

    Example:
        >>> from ldm.settings.generation import Txt2ImgSettings
        >>> parse(Txt2ImgSettings, "", ["--plms", "--seed", "7"])
        {'sampler': 'plms', 'seed': 7}
    """
    return build_parser(schema, description).read(argv)


def _value(each: Option, typed: Any) -> Any:
    """Return the value of what argparse found for an option: a text, a list or a truth."""
    if each.kind is bool and not each.worded:
        return typed
    if typed is None:
        raise UserError('--prompt was given without text; expected it; write --prompt "a cat"')
    return each.read(_single(each, typed) if each.aliases else typed)


def _single(each: Option, values: list[str]) -> str:
    if len(set(values)) > 1:
        flags = {value: flag for flag, value in each.aliases}
        named = " and ".join(flags.get(v, f"{each.flag} {v}") for v in dict.fromkeys(values))
        raise UserError(f"{named} were given together; they contradict each other; give one")
    return values[0]


def _nargs(each: Option) -> str | None:
    # CompVis's --prompt takes its text as an optional value; kept, and checked in `_value`.
    return each.several or ("?" if each.worded or each.name == "prompt" else None)


def _in_words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _metavar(each: Option) -> str | tuple[str, ...]:
    if each.choices:
        return f"{{{','.join(each.offered)}}}"
    names = {int: "N", float: "X", bool: "BOOL"}
    return each.metavar or names.get(each.kind, "TEXT")
