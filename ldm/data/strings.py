"""A sequence of strings in two arrays, which a loader's workers share instead of copying."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


class Strings(Sequence[str]):
    """An immutable sequence of strings.

    Every access to a Python object writes its reference count, so a list of a million names is
    copied page by page into each forked worker. An array is not.
    """

    def __init__(self, texts: Iterable[str]):
        parts = [text.encode("utf-8", "surrogateescape") for text in texts]  # any file name works
        self._ends = np.cumsum([0, *map(len, parts)], dtype=np.int64)
        self._bytes = np.frombuffer(b"".join(parts), np.uint8)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(f"text {index} of {len(self)}")
        start, end = self._ends[index : index + 2]
        return self._bytes[start:end].tobytes().decode("utf-8", "surrogateescape")
