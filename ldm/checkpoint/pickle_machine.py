"""Run a pickle's program over plain values: nothing is imported, and no tensor is made. No torch.

The opcodes are parsed by the standard library's ``pickletools``; what they do is written here, so
that a pickle reaches nothing but the values it made itself. What a name stands for and what comes
of calling it is the reader's to say (``ldm.checkpoint.unpickle``).
"""

from __future__ import annotations

import gc
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from ldm import budgets

_LONGEST_KEY = 16  # values of a tuple that is a key: its hash is not kept


class PickleFault(ValueError):
    """A pickle is damaged or forged, or claims too much; the message says what is wrong."""


class Ordered(OrderedDict):
    """A state dict. Its one attribute is the versions of modules, ``_metadata``."""

    _metadata: Any = None


class Held(dict):
    """Stands for a module that only holds parameters: takes them, and nothing else, by name."""

    def restore(self, state: Any) -> None:
        """Take the parameters of a module's state."""
        found = state.get("_parameters") if isinstance(state, dict) else None
        self.update(found if isinstance(found, dict) else {})


class Inert:
    """Stands for an object that is not made: takes everything, keeps nothing.

    Attributes:
        kind: The dotted path of its class.
    """

    __slots__ = ("kind",)

    def __init__(self, kind: str) -> None:
        self.kind = kind


class Reader(Protocol):
    """Says what a pickle's names, calls and persistent identities stand for."""

    def find(self, module: str, name: str) -> Any:
        """Return what stands for a global."""

    def call(self, function: Any, arguments: tuple) -> Any:
        """Return what comes of calling something; only ``find`` gives what may be called."""

    def new(self, cls: Any) -> Any:
        """Return what stands for an object of a class, to be restored from its state."""

    def persistent(self, identity: Any) -> Any:
        """Return what stands for an object that is stored outside the pickle."""


def run(source: Any, reader: Reader) -> Any:
    """Read one pickle.

    Args:
        source: An open file or a ``Window`` at the pickle's first byte; left behind its last.
        reader: Resolves names.

    Returns:
        Numbers, texts, lists, tuples, dicts, sets and what the reader gave.

    Raises:
        PickleFault: The pickle is cut short, damaged or beyond ``ldm.budgets``; or the reader's.
    """
    try:
        with _uncollected():
            return _run(source, _Machine(reader))
    except (IndexError, KeyError, TypeError, UnicodeError, OverflowError) as error:
        raise PickleFault(f"a damaged pickle ({type(error).__name__})") from error
    except PickleFault:
        raise
    except ValueError as error:  # of pickletools
        raise PickleFault(f"a damaged pickle ({error})") from error


def _run(source: Any, machine: _Machine) -> Any:
    for count, (opcode, argument, _) in enumerate(pickletools.genops(source)):
        if count > budgets.PICKLE_OPCODES:
            raise PickleFault(f"a pickle of more than {budgets.PICKLE_OPCODES} opcodes")
        machine.obey(opcode.name, argument)
    return machine.result()


@contextmanager
def _uncollected() -> Iterator[None]:
    """Hold the garbage collector: it would walk a pickle's containers again for every few more."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Window:
    """Part of a file's bytes as something to read from, without copying them.

    Args:
        data: The file's bytes, as a ``mmap.mmap`` or ``bytes``.
        start: Where to begin.
        length: How many bytes may be read.
    """

    def __init__(self, data: Any, start: int, length: int) -> None:
        self._data, self._position = data, start
        self._end = min(start + length, len(data))

    def tell(self) -> int:
        """Return the position in the file."""
        return self._position

    def read(self, count: int) -> bytes:
        """Return the next bytes; fewer at the end."""
        start = self._position
        self._position = min(start + count, self._end)
        return self._data[start : self._position]

    def readline(self) -> bytes:
        """Return the bytes up to and with the next line feed."""
        found = self._data.find(b"\n", self._position, self._end)
        return self.read((self._end if found < 0 else found + 1) - self._position)


class _Machine:
    """The stack, the marks and the memo of one pickle."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._globals = 0

    def obey(self, name: str, argument: Any) -> None:
        """Do what one opcode says."""
        _OBEY.get(name, _refuse)(self, name, argument)

    def result(self) -> Any:
        """Return the value that STOP leaves."""
        return self._stack.pop()

    def _several(self, number: int | None = None) -> list[Any]:
        """Take values off the stack: as many as said, or all down to the last mark."""
        start = self._marks.pop() if number is None else len(self._stack) - number
        if start < 0:
            raise IndexError
        taken = self._stack[start:]
        del self._stack[start:]
        return taken

    def _push(self, _name: str, argument: Any) -> None:
        if type(argument) is int and argument.bit_length() > 8 * budgets.PICKLE_INTEGER:
            raise PickleFault(f"an integer of more than {budgets.PICKLE_INTEGER} bytes")
        self._stack.append(argument)

    def _make(self, name: str, _argument: Any) -> None:
        self._stack.append(_MAKE[name]())

    def _mark(self, *_: Any) -> None:
        self._marks.append(len(self._stack))

    def _pop(self, *_: Any) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._stack.pop()

    def _pop_mark(self, *_: Any) -> None:
        self._several()

    def _dup(self, *_: Any) -> None:
        self._stack.append(self._stack[-1])

    def _stop(self, *_: Any) -> None:
        """End: the value stays on the stack."""

    def _put(self, _name: str, index: int | None) -> None:
        self._memo[len(self._memo) if index is None else index] = self._stack[-1]

    def _get(self, _name: str, index: int) -> None:
        self._stack.append(self._memo[index])

    def _tuple(self, name: str, _argument: Any) -> None:
        self._stack.append(tuple(self._several(_TUPLES[name])))

    def _list(self, *_: Any) -> None:
        self._stack.append(self._several())

    def _dict(self, *_: Any) -> None:
        items = self._several()
        self._stack.append({})
        self._fill(items)

    def _frozenset(self, *_: Any) -> None:
        self._stack.append(frozenset(map(_key, self._several())))

    def _append(self, name: str, _argument: Any) -> None:
        items = self._several(1 if name == "APPEND" else None)
        if type(target := self._stack[-1]) is list:
            target.extend(items)
        else:
            _only_inert(target, name)

    def _add(self, name: str, _argument: Any) -> None:
        items = self._several()
        if type(target := self._stack[-1]) is set:
            target.update(map(_key, items))
        else:
            _only_inert(target, name)

    def _set(self, name: str, _argument: Any) -> None:
        items = self._several(2 if name == "SETITEM" else None)
        if isinstance(self._stack[-1], dict):
            self._fill(items)
        else:
            _only_inert(self._stack[-1], name)

    def _fill(self, items: list[Any]) -> None:
        if len(items) % 2:
            raise PickleFault("a dict with a key and no value")
        self._stack[-1].update(zip(map(_key, items[::2]), items[1::2], strict=True))

    def _build(self, name: str, _argument: Any) -> None:
        (state,) = self._several(1)
        if type(target := self._stack[-1]) is Held:
            target.restore(state)
        elif type(target) is not Ordered:
            _only_inert(target, name)
        elif isinstance(state, dict):
            target._metadata = state.get("_metadata")

    def _global(self, _name: str, argument: str | None) -> None:
        if argument is None:
            module, attribute = self._several(2)
        else:
            module, _, attribute = argument.partition(" ")
        self._stack.append(self._named(module, attribute))

    def _named(self, module: Any, name: Any) -> Any:
        self._globals += 1
        if self._globals > budgets.PICKLE_GLOBALS:
            raise PickleFault(f"a pickle of more than {budgets.PICKLE_GLOBALS} globals")
        if not (isinstance(module, str) and isinstance(name, str)):
            raise PickleFault("a global whose name is no text")
        return self._reader.find(module, name)

    def _call(self, *_: Any) -> None:
        function, arguments = self._several(2)
        self._stack.append(self._called(function, arguments))

    def _new(self, name: str, _argument: Any) -> None:
        cls, *_arguments = self._several(2 if name == "NEWOBJ" else 3)
        self._stack.append(self._reader.new(cls))

    def _inst(self, _name: str, argument: str) -> None:
        module, _, name = argument.partition(" ")
        arguments = tuple(self._several())
        self._stack.append(self._called(self._named(module, name), arguments))

    def _obj(self, *_: Any) -> None:
        function, *arguments = self._several()
        self._stack.append(self._called(function, tuple(arguments)))

    def _called(self, function: Any, arguments: Any) -> Any:
        if type(arguments) is not tuple:
            raise PickleFault("a call whose arguments are no tuple")
        return self._reader.call(function, arguments)

    def _persistent(self, *_: Any) -> None:
        self._stack.append(self._reader.persistent(*self._several(1)))


def _refuse(_machine: _Machine, name: str, _argument: Any) -> None:
    raise PickleFault(f"the opcode {name}, which no file of tensors has")


def _only_inert(target: Any, opcode: str) -> None:
    """Let an opcode change nothing, or refuse it: a pickle may only fill what it has made."""
    if not isinstance(target, Inert):
        raise PickleFault(f"the opcode {opcode} on a {type(target).__name__}")


def _key(value: Any) -> Any:
    """Return a value that may be a key; hashing others can take for ever, or end the process.

    Whole numbers of more than 64 bits are easily made to have one hash all.
    """
    parts = value if type(value) is tuple and len(value) <= _LONGEST_KEY else (value,)
    for part in parts:
        if isinstance(part, (tuple, list, dict, set, frozenset, bytearray)):
            raise PickleFault(f"a {type(part).__name__} as a key")
        if isinstance(part, (str, bytes)) and len(part) > budgets.PICKLE_KEY:
            raise PickleFault(f"a key of {len(part)} characters")
        if type(part) is int and part.bit_length() > 64:
            raise PickleFault("a number of more than 64 bits as a key")
    return value


_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "TUPLE": None}
_MAKE: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT")
_BYTES = ("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8")
_TEXTS = ("BYTEARRAY8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
_OBEY: dict[str, Callable[[_Machine, str, Any], None]] = {
    **dict.fromkeys((*_NUMBERS, *_BYTES, *_TEXTS), _Machine._push),
    **dict.fromkeys(_MAKE, _Machine._make),
    "MARK": _Machine._mark,
    "STOP": _Machine._stop,
    "PROTO": _Machine._stop,
    "FRAME": _Machine._stop,
    "POP": _Machine._pop,
    "POP_MARK": _Machine._pop_mark,
    "DUP": _Machine._dup,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine._put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine._get),
    **dict.fromkeys(_TUPLES, _Machine._tuple),
    "LIST": _Machine._list,
    "DICT": _Machine._dict,
    "FROZENSET": _Machine._frozenset,
    **dict.fromkeys(("APPEND", "APPENDS"), _Machine._append),
    "ADDITEMS": _Machine._add,
    **dict.fromkeys(("SETITEM", "SETITEMS"), _Machine._set),
    "BUILD": _Machine._build,
    **dict.fromkeys(("GLOBAL", "STACK_GLOBAL"), _Machine._global),
    "REDUCE": _Machine._call,
    **dict.fromkeys(("NEWOBJ", "NEWOBJ_EX"), _Machine._new),
    "INST": _Machine._inst,
    "OBJ": _Machine._obj,
    "BINPERSID": _Machine._persistent,
}
