"""How one setting looks to a user: flag, help, kind, range. Imports no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from ldm.budgets import PIXELS
from ldm.errors import UserError
from ldm.paths import at_home

# The largest seed that torch takes, which draws the noise; others are given its last 32 bits.
MAX_SEED = 2**64 - 1
REQUIRED = MISSING
"""The default of an option that has to be given."""
OVERRIDE = r"[A-Za-z_][\w\[\]-]*(\.[\w\[\]-]+)+=.*"
"""A change of a configuration, such as ``model.params.embed_dim=8``."""
PLACES = ("FILE", "FOLDER", "PATH", "DATABASE", "SRC", "DST")
"""What texts that are paths are called; a shell leaves the ``~`` of ``--outdir=~/x`` to us."""
TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def one_of(names: Iterable[str], last_word: str = "or") -> str:
    """Return names in words.

    Example:
        >>> one_of(["png", "jpg", "webp"]), one_of(["png"])
        ('png, jpg or webp', 'png')
    """
    *others, last = names
    return f"{', '.join(others)} {last_word} {last}" if others else last


@dataclass(frozen=True)
class Option:
    """How one setting looks to a user.

    Attributes:
        help: One sentence for ``--help`` and for a web page's label.
        kind: int, float, str, Path or bool; of each value where there are several.
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
        metavar: What the value is called in ``--help``; a text or path that has one is a name, such
            as FILE, FOLDER or DEVICE, and may not be empty.
        synonyms: Other names of the flag, such as ``-n``.
        required: It has to be given.
        positional: It is given without a flag.
        several: The field is a tuple: of one or more values (``+``), of any number (``*``), or of
            one for each time that the flag is given (``again``).
        worded: A bool whose flag may carry a word: ``--train false``.
        pattern: A regular expression for the whole of a text.
        words: What is expected, where kind and range do not say it.
        reader: Reads what was typed, a text or a list of them, in place of ``kind``; raises
            UserError itself.
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
    required: bool = False
    positional: bool = False
    several: Literal["", "+", "*", "again"] = ""
    worded: bool = False
    pattern: str = ""
    words: str = ""
    reader: Callable[[Any], Any] | None = None

    @property
    def offered(self) -> tuple[str, ...]:
        """The only values allowed, of a table as it is now."""
        if not isinstance(self.choices, Mapping):
            return tuple(self.choices)
        entries = self.choices.items()
        return tuple(name for name, entry in entries if getattr(entry, "offered", True))

    def read(self, typed: Any) -> Any:
        """Turn what a user typed, a text or a list of texts, into a value.

        Raises:
            UserError: it is of another kind, or out of range.
        """
        if self.reader is not None:
            return self.reader(typed)
        if self.several:
            return tuple(self._read(text) for text in typed)
        return self._read(typed)

    def _read(self, text: str) -> Any:
        value: Any = text
        if self.kind is bool:
            value = TRUTHS.get(text.lower(), text)
        elif text:  # the path of an empty text would be the present folder
            try:
                value = self.kind(text)
            except ValueError:
                value = text
        if self.kind is Path or self.metavar in PLACES:
            value = type(value)(at_home(value)) if text.startswith("~") else value
        self._check(value)
        return value

    def check(self, value: Any) -> None:
        """Raise UserError unless ``value`` is of the right kind and in range."""
        if value is None and self.optional:
            return
        if self.required and value == ():
            raise UserError(self.missing)
        for each in value if self.several else (value,):
            self._check(each)

    def _check(self, value: Any) -> None:
        if not self._allows(value):
            shown = repr(value) if value == "" or not self.flag else value
            given = f"{self.flag} {shown}".strip()
            raise UserError(f"{given} was given; {self.expected}; change it")

    def _allows(self, value: Any) -> bool:
        if self.kind is Path:
            return isinstance(value, Path)
        # A bool is an int to Python, and an int is as good as a float.
        kinds = {float: (int, float)}.get(self.kind, (self.kind,))
        if type(value) not in kinds:
            return False
        if self.kind is str:
            return self._allows_text(value)
        return self.kind is bool or self._in_range(value)

    def _allows_text(self, value: str) -> bool:
        if self.choices:
            return value in self.offered
        # A text may be empty, a name may not.
        return bool(re.fullmatch(self.pattern or ".*", value, re.DOTALL)) and (
            value != "" or not self.metavar
        )

    def _in_range(self, value: float) -> bool:
        low = -math.inf if self.minimum is None else self.minimum
        high = math.inf if self.maximum is None else self.maximum
        # An int of 400 digits is finite, and too large for `isfinite`.
        return (type(value) is int or math.isfinite(value)) and low <= value <= high

    @property
    def expected(self) -> str:
        """Say in words what values are allowed."""
        if self.choices:
            return f"expected {one_of(self.offered)}"
        if self.words:
            return f"expected {self.words}"
        if self.metavar and self.kind in (str, Path):
            return f"expected the name of a {self.metavar.lower()}"
        truth = "true or false" if self.worded else "on or off"
        kind = {int: "a whole number", float: "a number", bool: truth}.get(self.kind, "text")
        if self.minimum is not None and self.maximum is not None:
            return f"expected {kind} from {self.minimum} to {self.maximum}"
        if self.minimum is not None:
            return f"expected {kind}, {self.minimum} or more"
        return f"expected {kind}"

    @property
    def missing(self) -> str:
        """Say that it was not given and has to be."""
        value = self.metavar or ("NAME" if self.choices else self.kind.__name__.upper())
        name = self.flag or value
        usage = value if self.positional else f"{self.flag} {value}"
        return f"{name} was not given; {self.expected}; add {usage}"


def option(default: Any, help: str, kind: type | None = None, **rest: Any) -> Any:
    """Make a dataclass field that carries an ``Option``.

    Args:
        default: The field's default. None means that the program works the value out, so None is
            allowed then; REQUIRED means that there is none.
        help: One sentence.
        kind: Needed where the default does not tell it: None, REQUIRED, or a tuple.
        **rest: Other attributes of ``Option``.
    """
    made = Option(
        help=help,
        kind=kind or type(default),
        optional=default is None,
        required=default is REQUIRED,
        **rest,
    )
    return field(default=default, metadata={"option": made})


def device_option(help: str = "where to compute: auto, cpu, cuda, cuda:1 or mps") -> Any:
    """Make the field ``device`` of a program."""
    return option(
        "auto",
        help,
        metavar="DEVICE",
        group="model",
        pattern=r"auto|(cpu|cuda|mps)(:\d+)?",
        words="auto, cpu, cuda, cuda:N or mps",
    )


def max_pixels_option(group: str = "picture") -> Any:
    """Make the field ``max_pixels`` of a program that reads pictures."""
    return option(
        PIXELS,
        "the most pixels (width times height) of a picture that is read",
        minimum=1,
        group=group,
    )


def overrides_option(*sections: str) -> Any:
    """Make the field ``overrides`` of a program that reads a model's configuration.

    Args:
        *sections: What it reads of the configuration, such as ``model``; none given is all.
    """
    return option(
        (),
        "changes of the configuration",
        str,
        positional=True,
        several="*",
        metavar="a.b=c",
        pattern=rf"({'|'.join(sections)})\..*" if sections else OVERRIDE,
        words="a flag, or a change of the configuration as "
        + one_of([f"{section}.b=c" for section in sections or ("a",)]),
    )


def changed(settings: Any, name: str, **changes: Any) -> Any:
    """Make a field like another settings class's, but for its ``default`` or what is said of it.

    Args:
        settings: That class.
        name: The field there.
        **changes: ``default``, and attributes of ``Option``.
    """
    theirs = settings.__dataclass_fields__[name]
    default, made = changes.pop("default", theirs.default), theirs.metadata["option"]
    optional, required = made.optional or default is None, default is REQUIRED
    made = replace(made, **changes, optional=optional, required=required)
    return field(default=default, metadata={"option": made})


def options_of(settings: Any) -> Iterator[Option]:
    """Yield the options of a settings class or object, named, in the order of its fields.

    A field without an option is none that the user sets.
    """
    for each in fields(settings):
        made: Option | None = each.metadata.get("option")
        if made is not None:
            flag = "" if made.positional else made.flag or f"--{each.name}"
            yield replace(made, name=each.name, flag=flag)


def flag_of(settings: Any, name: str) -> str:
    """Return the flag of one setting of a settings class or object."""
    return next(each.flag for each in options_of(settings) if each.name == name)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A schema: fields made by ``option``, which are a program's flags and are checked alike.

    Attributes:
        program: The program's name, before its errors and in ``--help``.
        groups: Headings of ``--help`` by ``Option.group``; an option of another group stands among
            the unnamed ones.

    Example:
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Greeting(Settings):
        ...     times: int = option(1, "how often", minimum=1)
        >>> Greeting(times=0).validate()
        Traceback (most recent call last):
        ...
        ldm.errors.UserError: --times 0 was given; expected a whole number, 1 or more; change it
    """

    program: ClassVar[str] = "ldm"
    groups: ClassVar[Mapping[str, str]] = {}

    def validate(self) -> None:
        """Check each value, then, in subclasses, those that depend on one another.

        Raises:
            UserError: naming the flag, what it allows and what to do.
        """
        for each in options_of(self):
            each.check(getattr(self, each.name))
