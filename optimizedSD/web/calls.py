"""What a page's own calls may hold: their JSON is checked, and written anew from what was checked.

A call names a function of the page, and its inputs: texts, numbers and switches of any value
(``fields`` and ``limits`` judge those), lists of chosen texts, and files, which must be uploads or
pictures that the page shows. What else it holds is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldm.budgets import UPLOADED_FILES
from ldm.errors import UserError
from optimizedSD.web.uploads import Uploads, shown_picture

if TYPE_CHECKING:
    from gradio import Blocks

SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LARGEST_NUMBER = 2.0**64
_MOST_CHOSEN = 100  # texts of one list
_FILE = {"_type": "gradio.FileData"}


@dataclass(frozen=True)
class Function:
    """A function of a page.

    Attributes:
        queued: Whether it is called through gradio's queue.
        inputs: The kinds of its inputs: ``imageeditor``, ``image``, ``state`` or a control's.
        clicked: Whether it is told which picture was clicked.
    """

    queued: bool
    inputs: tuple[str, ...]
    clicked: bool = False


@dataclass(frozen=True)
class Calls:
    """The calls that a page makes.

    Attributes:
        functions: The page's functions by their number.
        triggers: The numbers of the components that call them.
        uploads: The files that a call may name.
        folders: Those whose pictures it may name too, since the page shows them.
    """

    functions: Mapping[int, Function]
    triggers: frozenset[int]
    uploads: Uploads
    folders: Sequence[str | Path] = ()

    @classmethod
    def of(cls, blocks: Blocks, uploads: Uploads, folders: Sequence[str | Path] = ()) -> Calls:
        """Return the calls of a page as gradio knows it."""
        functions = {
            number: Function(
                queued=fn.queue,
                inputs=tuple(each.get_block_name() for each in fn.inputs),
                clicked=bool(fn.collects_event_data),
            )
            for number, fn in blocks.fns.items()
            if fn.fn is not None  # others run in the browser alone
        }
        targets = [target for fn in blocks.fns.values() for target, _ in fn.targets]
        known = frozenset(each for each in targets if each is not None)
        return cls(functions, known, uploads, folders)

    def checked(self, body: bytes, *, queued: bool) -> tuple[bytes, str]:
        """Return the JSON of a call without anything that the page would not send, and its session.

        Args:
            body: The JSON.
            queued: Whether it is to join the queue.

        Raises:
            UserError: It is not a call of this page.
        """
        call = _parsed(body)
        session, number = call.get("session_hash"), call.get("fn_index")
        if not (isinstance(session, str) and SESSION.fullmatch(session)):
            raise _wrong("its session", "letters and digits")
        if type(number) is not int or number not in self.functions:
            raise _wrong("its function", "one of this page's")
        function = self.functions[number]
        if function.queued != queued:
            raise _wrong("its address", "the queue for a run, and no queue for a button")
        trigger = call.get("trigger_id")
        known = type(trigger) is int and trigger in self.triggers
        cleaned = {
            "data": self._inputs(function, call.get("data")),
            "event_data": self._clicked(call.get("event_data")) if function.clicked else None,
            "fn_index": number,
            "trigger_id": trigger if known else None,
            "session_hash": session,
        }
        return json.dumps(cleaned).encode(), session

    def _inputs(self, function: Function, data: Any) -> list[Any]:
        if not isinstance(data, list) or len(data) != len(function.inputs):
            raise _wrong("its data", f"{len(function.inputs)} values")
        read: Mapping[str, Callable[[Any], Any]] = {
            "imageeditor": self._edited,
            "image": self._file,
            "state": _kept,
            "dropdown": _chosen,
            "checkboxgroup": _chosen,
        }
        kinds = zip(function.inputs, data, strict=True)
        return [read.get(kind, _plain)(value) for kind, value in kinds]

    def _edited(self, value: Any) -> dict[str, Any] | None:
        """Return the value of the editor with its files."""
        if value is None:
            return None
        layers = value.get("layers") or [] if isinstance(value, dict) else None
        if not isinstance(layers, list) or len(layers) > UPLOADED_FILES:
            raise _wrong("the editor's value", f"a picture, and at most {UPLOADED_FILES} layers")
        return {
            "background": self._file(value.get("background")),
            "layers": [self._file(layer) for layer in layers],
            "composite": self._file(value.get("composite")),
            "id": None,
        }

    def _clicked(self, event: Any) -> dict[str, Any]:
        """Return which picture was clicked, and its file if the page may show it."""
        index = event.get("index") if isinstance(event, dict) else None
        if type(index) is not int or index < 0:
            raise _wrong("what was clicked", "the number of a picture")
        value = event.get("value")
        image = value.get("image") if isinstance(value, dict) else None
        path = image.get("path") if isinstance(image, dict) else None
        found = shown_picture(path, self.folders) if isinstance(path, str) else None
        return {"index": index, "value": found and {"image": {"path": str(found[0])}}}

    def _file(self, value: Any) -> dict[str, Any] | None:
        if value is None:
            return None
        path = value.get("path") if isinstance(value, dict) else None
        if not (isinstance(path, str) and self._may_name(path)):
            raise _wrong("a file in it", "one that was uploaded to this page a short while ago")
        return {"path": path, "meta": _FILE}

    def _may_name(self, path: str) -> bool:
        return self.uploads.holds(path) or shown_picture(path, self.folders) is not None


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        call = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _wrong("its body", "JSON") from error
    if not isinstance(call, dict):
        raise _wrong("its body", "a JSON object")
    return call


def _plain(value: Any) -> str | float | bool | None:
    """Return the value of a control; whether it suits that control is for later."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and abs(value) <= _LARGEST_NUMBER:  # NaN is not
        return value
    raise _wrong("a value in it", "a text, a number, or true or false")


def _chosen(value: Any) -> Any:
    """Return the value of a control that may hold several texts."""
    if not isinstance(value, list):
        return _plain(value)
    if len(value) > _MOST_CHOSEN or not all(isinstance(each, str) for each in value):
        raise _wrong("a list in it", f"at most {_MOST_CHOSEN} texts")
    return value


def _kept(_: Any) -> None:
    """Return nothing for what never leaves the server; gradio fills it in."""


def _wrong(part: str, expected: str) -> UserError:
    return UserError(f"the call is none of this page's: {part} is not {expected}; reload the page")
