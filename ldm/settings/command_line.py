"""Command lines made from a settings class. Imports no torch, so that ``--help`` is instant."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from ldm.arguments import ArgumentParser
from ldm.errors import UserError
from ldm.paths import exists
from ldm.settings.generation import GenerationSettings
from ldm.settings.mistyped import ELSEWHERE, alike, bare, same_elsewhere
from ldm.settings.option import OVERRIDE, Option, Settings, one_of, options_of


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
        self._typed: list[str] = []
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
        self._typed = list(sys.argv[1:] if argv is None else argv)
        rest, overrides = self._without_overrides(self._typed)
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
            changes = re.fullmatch(OVERRIDE, item, re.DOTALL) and not exists(item)
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
        owner = self._takes_value_before(unknown)
        if owner and not unknown.startswith("--"):
            return _with_equals_sign(owner, unknown)
        if elsewhere := self._elsewhere(unknown):
            return elsewhere
        if close := alike(unknown, self._option_string_actions):
            return f"; did you mean {close}?"
        if owner:
            return _with_equals_sign(owner, unknown)
        return "; see --help for the flags there are"

    def _takes_value_before(self, item: str) -> str:
        """Return the flag of a text or name that stands before an item; empty if none does."""
        before = dict(zip(self._typed[1:], self._typed, strict=False)).get(item, "")
        action = self._option_string_actions.get(before)
        texts = {each.name for each in self.options if each.kind is not bool}
        takes = action is not None and action.nargs != 0 and action.dest in texts
        return before if takes else ""

    def error(self, message: str) -> NoReturn:
        """Raise UserError; a value that looks like a flag is told how it is written."""
        found = re.fullmatch(r"argument (\S+): expected .*argument", message)
        names = found[1].split("/") if found else []
        for flag, value in zip(self._typed, self._typed[1:], strict=False):
            meant = flag in names or (flag[:2] == "--" and any(n.startswith(flag) for n in names))
            if meant and value.startswith("-") and value not in self._option_string_actions:
                raise UserError(message + _with_equals_sign(flag, value))
        super().error(message)

    def _get_option_tuples(self, option_string: str) -> list[Any]:
        """Find what a flag abbreviates, as argparse asks; say more where that is several."""
        flag = option_string.split("=")[0]
        found = super()._get_option_tuples(option_string)
        if len({each[1] for each in found}) > 1:
            names = one_of(dict.fromkeys(each[1] for each in found))
            hint = self._elsewhere(flag) or "; write one of them in full"
            raise UserError(f"{flag} was given, which may be {names}{hint}")
        # A single letter, or another program's name for something else, is that flag more often
        # than an abbreviation.
        ours = {name.partition("=")[0] for name in ELSEWHERE.get(bare(flag), ())}
        other = (len(flag) == 3 or ours) and any(each[0].dest not in ours for each in found)
        return [] if other and self._elsewhere(flag) else found

    def _elsewhere(self, flag: str) -> str:
        """Return the end of a sentence that says where another program's flag is; empty if not."""
        if same := same_elsewhere(flag, self.options):
            return f"; did you mean {same}?"
        for other in self._relatives():
            theirs = list(options_of(other))
            exact = [each.flag for each in theirs if bare(each.flag) == bare(flag)]
            same = exact[0] if exact else same_elsewhere(flag, theirs)
            if same and same not in self._option_string_actions:
                named = "a flag" if flag.startswith(same) else same
                return f"; it is {named} of scripts/{other.program}.py"
        return ""

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


def _with_equals_sign(flag: str, value: str) -> str:
    return f"; a value with a dash first is written {flag}={shlex.quote(value)}"


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
