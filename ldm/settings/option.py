"""How one setting looks to a user: flag, help, kind, range. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ldm.errors import UserError


@dataclass(frozen=True)
class Option:
    """How one setting looks to a user.

    Attributes:
        help: One sentence for ``--help`` and for a web page's label.
        kind: int, float, str or bool.
        name: The field's name, which is also the flag's unless ``flag`` says otherwise.
        flag: The flag with its dashes.
        choices: The only values allowed; a table may hold entries that are not ``offered``.
        minimum: The smallest value allowed; numbers are always finite.
        maximum: The largest value allowed.
        aliases: Other flags, each standing for one value of this option.
        shown: The default in words where the value would not tell.
        infotext: The key under which pictures keep the setting.
        group: The heading in ``--help``.
        optional: None is a value too: "decide for me".
        metavar: What the value is called if it names something: FILE, FOLDER or DEVICE.
        synonyms: Other names of the flag.
    """

    help: str
    kind: type
    name: str = ""
    flag: str = ""
    choices: Collection[str] = ()
    minimum: float | None = None
    maximum: float | None = None
    aliases: tuple[tuple[str, str], ...] = ()
    shown: str | None = None
    infotext: str | None = None
    group: str = "picture"
    optional: bool = False
    metavar: str = ""
    synonyms: tuple[str, ...] = ()

    @property
    def offered(self) -> tuple[str, ...]:
        """The only values allowed, of a table as it is now."""
        if not isinstance(self.choices, Mapping):
            return tuple(self.choices)
        entries = self.choices.items()
        return tuple(name for name, entry in entries if getattr(entry, "offered", True))

    def read(self, text: str) -> Any:
        """Turn what a user typed into a value.

        Raises:
            UserError: it is of another kind, or out of range.
        """
        try:
            value = self.kind(text)
        except ValueError:
            value = text
        self.check(value)
        return value

    def check(self, value: Any) -> None:
        """Raise UserError unless ``value`` is of the right kind and in range."""
        if not (value is None and self.optional) and not self._allows(value):
            shown = repr(value) if value == "" else value
            raise UserError(f"{self.flag} {shown} was given; {self.expected}; change it")

    def _allows(self, value: Any) -> bool:
        # A bool is an int to Python, and an int is as good as a float.
        kinds = {float: (int, float)}.get(self.kind, (self.kind,))
        if type(value) not in kinds:
            return False
        if self.kind is str:
            # A text may be empty, a name may not.
            return value in self.offered if self.choices else value != "" or not self.metavar
        return self.kind is bool or self._in_range(value)

    def _in_range(self, value: float) -> bool:
        low = -math.inf if self.minimum is None else self.minimum
        high = math.inf if self.maximum is None else self.maximum
        # An int of 400 digits is finite, and too large for `isfinite`.
        return (type(value) is int or math.isfinite(value)) and low <= value <= high

    @property
    def expected(self) -> str:
        """Say in words what values are allowed."""
        if self.choices:
            *others, last = self.offered
            return f"expected {', '.join(others)} or {last}"
        if self.metavar:
            return f"expected the name of a {self.metavar.lower()}"
        kind = {int: "a whole number", float: "a number", bool: "on or off"}.get(self.kind, "text")
        if self.minimum is not None and self.maximum is not None:
            return f"expected {kind} from {self.minimum} to {self.maximum}"
        if self.minimum is not None:
            return f"expected {kind}, {self.minimum} or more"
        return f"expected {kind}"


def option(default: Any, help: str, kind: type | None = None, **rest: Any) -> Any:
    """Make a dataclass field that carries an ``Option``; ``kind`` is needed when None is default.

    A default of None means that the program works the value out, so None is allowed then.
    """
    made = Option(help=help, kind=kind or type(default), optional=default is None, **rest)
    return field(default=default, metadata={"option": made})


def changed(settings: Any, name: str, **changes: Any) -> Any:
    """Make a field like another settings class's, but for its ``default`` or what is said of it.

    Args:
        settings: That class.
        name: The field there.
        **changes: ``default``, and attributes of ``Option``.
    """
    theirs = settings.__dataclass_fields__[name]
    default, made = changes.pop("default", theirs.default), theirs.metadata["option"]
    made = replace(made, **changes, optional=made.optional or default is None)
    return field(default=default, metadata={"option": made})


def options_of(settings: Any) -> Iterator[Option]:
    """Yield the options of a settings class or object, named, in the order of its fields."""
    for each in fields(settings):
        made: Option = each.metadata["option"]
        yield replace(made, name=each.name, flag=made.flag or f"--{each.name}")


def flag_of(settings: Any, name: str) -> str:
    """Return the flag of one setting of a settings class or object."""
    return next(each.flag for each in options_of(settings) if each.name == name)
