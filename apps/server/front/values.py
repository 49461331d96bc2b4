"""Values of a stranger's request, each checked by kind and range; what nobody reads is refused.

fields = Fields({"steps": 20, "widht": 512})
fields.whole("steps", 20, low=1, high=150)      # 20
fields.close()                                  # Unfit: widht is unknown; the nearest is width
"""

from __future__ import annotations

import contextlib
import difflib
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from apps.server.refused import Refused, for_strangers
from ldm.errors import UserError
from ldm.images.embed import encodable
from ldm.legible import quoted
from ldm.settings.option import MAX_SEED, one_of

_SHOWN = 80  # characters of a value or a name
_MOST_NAMES = 8
_RANDOM_SEEDS = 2**32 - 2**16  # JavaScript's numbers hold them, and those that follow


class Unfit(Refused):
    """A request, or a field of it, that is not done: status 422.

    Args:
        text: One line: what was given, what is expected, what to do.
        field: The field that it is about; None is the request as a whole.
        code: A word for programs, such as ``model_not_found``.
    """

    def __init__(self, text: str, field: str | None = None, code: str | None = None) -> None:
        super().__init__(422, text)
        self.field, self.code = field, code


@contextlib.contextmanager
def about(field: str | None, hidden: Iterable[Path | str] = ()) -> Iterator[None]:
    """Refuse a request for what a program would tell its user.

    Args:
        field: What it is about, if it is one field.
        hidden: Paths that are not shown.

    Raises:
        Unfit: The block raised a ``UserError``; its flags are named as fields are.
    """
    try:
        yield
    except UserError as error:
        raise Unfit(for_strangers(str(error), hidden), field) from error


class Fields:
    """The fields of one request, or of an object within it.

    A field that is null counts as not given, as in the APIs that are served here.

    Args:
        values: By name.
        typed: Whether values are JSON's; else texts, as forms have them.
    """

    def __init__(self, values: Mapping[str, Any], *, typed: bool = True) -> None:
        self._values = {name: each for name, each in values.items() if each is not None}
        self._typed = typed
        self._read: set[str] = set()

    def given(self, name: str) -> bool:
        """Return whether a field has a value."""
        return name in self._values

    def raw(self, name: str) -> Any:
        """Return a field's value as it is; None if it has none."""
        self._read.add(name)
        return self._values.get(name)

    def text(self, name: str, default: str = "", *, most: int) -> str:
        """Return a text of at most ``most`` characters.

        Raises:
            Unfit: It is none, is longer, or is not Unicode.
        """
        value = self._known(name, default)
        if not isinstance(value, str):
            raise wrong(name, value, "text")
        if len(value) > most:
            raise Unfit(
                f"{name} has {len(value)} characters; expected at most {most}; make it shorter",
                name,
            )
        if encodable(value) != value or "\0" in value:
            raise Unfit(
                f"{name} holds half a character (a lone surrogate) or a NUL; expected Unicode "
                "text; take it out",
                name,
            )
        return value

    def whole(self, name: str, default: int, *, low: int, high: int) -> int:
        """Return a whole number from ``low`` to ``high``.

        Raises:
            Unfit: It is none.
        """
        value = self._number(self._known(name, default))
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int or not low <= value <= high:
            raise wrong(name, value, f"a whole number from {low} to {high}")
        return value

    def number(self, name: str, default: float, *, low: float, high: float) -> float:
        """Return a number from ``low`` to ``high``.

        Raises:
            Unfit: It is none, or is not finite.
        """
        value = self._number(self._known(name, default))
        if type(value) not in (int, float) or not low <= value <= high:  # NaN is never in between
            raise wrong(name, value, f"a number from {low:g} to {high:g}")
        return float(value)

    def side(self, name: str, default: int, *, multiple: int, most: int) -> int:
        """Return a side of a picture, in pixels: a multiple of what the model needs.

        Raises:
            Unfit: It is none.
        """
        value = self.whole(name, default, low=1, high=most)
        if value % multiple:
            below = max(value // multiple, 1) * multiple
            raise wrong(
                name, value, f"a multiple of {multiple}, such as {below} or {below + multiple}"
            )
        return value

    def seed(self, pictures: int, name: str = "seed") -> int:
        """Return a seed; a random one where it is -1 or not given.

        Args:
            pictures: How many seeds that follow it may be needed.
            name: The field.

        Raises:
            Unfit: It is none.
        """
        seed = self.whole(name, -1, low=-1, high=MAX_SEED - pictures)
        return secrets.randbelow(_RANDOM_SEEDS) if seed == -1 else seed

    def truth(self, name: str, default: bool) -> bool:
        """Return true or false.

        Raises:
            Unfit: It is neither.
        """
        value = self._known(name, default)
        if not self._typed and isinstance(value, str):
            value = {"true": True, "false": False}.get(value.lower(), value)
        if not isinstance(value, bool):
            raise wrong(name, value, "true or false")
        return value

    def choice(self, name: str, default: str, choices: Collection[str]) -> str:
        """Return one of a few words.

        Raises:
            Unfit: It is none of them.
        """
        value = self._known(name, default)
        if not isinstance(value, str) or value not in choices:
            raise wrong(name, value, one_of(choices))
        return value

    def mapping(self, name: str) -> Mapping[str, Any]:
        """Return an object; an empty one where it is not given.

        Raises:
            Unfit: It is none.
        """
        value = self._known(name, {})
        if not isinstance(value, Mapping):
            raise wrong(name, value, "an object")
        return value

    def only(self, name: str, allowed: Collection[Any], why: str) -> None:
        """Check that a field asks for nothing: it is not given, or has one of some values.

        Args:
            name: The field.
            allowed: Values that ask for nothing.
            why: What is not done here, for the message.

        Raises:
            Unfit: It has another value.
        """
        self._read.add(name)
        value = self._values.get(name)
        if value is not None and not any(self._same(value, each) for each in allowed):
            shown = " or ".join(map(_in_json, allowed)) or "nothing"
            raise Unfit(
                f"{name} {_short(value)} is not supported: {why}; expected {shown}; leave it out",
                name,
            )

    def ignore(self, names: Iterable[str]) -> None:
        """Take fields of any value that change no picture."""
        self._read.update(names)

    def close(self) -> None:
        """Check that every field that was given has been read.

        Raises:
            Unfit: Some are unknown; each is named, with the nearest that is known.
        """
        unknown = sorted(self._values.keys() - self._read)
        if not unknown:
            return
        named = [self._with_nearest(name) for name in unknown[:_MOST_NAMES]]
        more = f" and {len(unknown) - _MOST_NAMES} more" if len(unknown) > _MOST_NAMES else ""
        raise Unfit(
            f"unknown: {', '.join(named)}{more}; expected fields that this server knows; "
            "leave them out",
            unknown[0],
        )

    def _with_nearest(self, name: str) -> str:
        near = difflib.get_close_matches(name[:_SHOWN], self._read, n=1)
        return quoted(name, _SHOWN) + (f" (the nearest is {near[0]})" if near else "")

    def _same(self, value: Any, allowed: Any) -> bool:
        if not self._typed:
            return isinstance(value, str) and value.lower() == str(allowed).lower()
        numbers = (int, float)
        if type(value) in numbers and type(allowed) in numbers:
            return value == allowed
        return type(value) is type(allowed) and value == allowed

    def _known(self, name: str, default: Any) -> Any:
        value = self.raw(name)
        return default if value is None else value

    def _number(self, value: Any) -> Any:
        if self._typed or not isinstance(value, str) or len(value) > _SHOWN:
            return value  # a long text is no number: never cut, as its end may be anything
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
        return value


def wrong(name: str, value: Any, expected: str) -> Unfit:
    """Say that a field has a value that it cannot have."""
    return Unfit(f"{name} {_short(value)} was given; expected {expected}; change it", name)


def _in_json(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)


def _short(value: Any) -> str:
    return quoted(value, _SHOWN)
