"""Texts that were encoded, kept for the requests that come after, within a number of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any
from weakref import ref

from torch import Tensor, nn

from ldm.prompts.encoding import EncodedPart

ROOM = 256 * 2**20  # bytes; a prompt of Stable Diffusion takes 0.23 MB


class TextCache:
    """Encoded texts of one model; those that were not asked for longest are dropped first.

    Another model empties it. A weight that is changed in place is not noticed: ``clear`` it.

    Args:
        room: Bytes that the encodings may take.
    """

    def __init__(self, room: int = ROOM) -> None:
        self.room, self.held = room, 0
        self._known: OrderedDict[Hashable, Any] = OrderedDict()
        self._model: Callable[[], nn.Module | None] = lambda: None
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._known)

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._known.clear()
            self.held = 0

    def get(self, model: nn.Module, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return what is known of a model under a key, or make and keep it.

        Args:
            model: What encodes.
            key: The text, and all else that its encoding depends on.
            make: Encodes it: a tensor, or parts with tensors.
        """
        if self._model() is not model:
            self.clear()
            self._model = ref(model)
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        made = make()
        with self._lock:
            if key not in self._known:
                self._known[key] = made
                self.held += _bytes(made)
            while self.held > self.room and self._known:
                self.held -= _bytes(self._known.popitem(last=False)[1])
        return made


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.nbytes
    parts = value.states if isinstance(value, EncodedPart) else value
    return sum(map(_bytes, parts))
