"""Base class of captioned streams."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import IterableDataset


class Txt2ImgIterableBaseDataset(IterableDataset):
    """A stream of pictures with captions that a loader's workers can share.

    A subclass yields items; each worker reads ``sample_ids``, its share of ``valid_ids``.

    Args:
        num_records: Number of records; what ``len`` returns.
        valid_ids: Identifiers of the records that may be read.
        size: Side of the pictures in pixels.
    """

    def __init__(
        self, num_records: int = 0, valid_ids: Sequence[Any] | None = None, size: int = 256
    ):
        super().__init__()
        self.num_records = num_records
        self.valid_ids = list(valid_ids) if valid_ids is not None else []
        self.sample_ids = self.valid_ids
        self.size = size

    def __len__(self) -> int:
        return self.num_records

    @abstractmethod
    def __iter__(self) -> Iterator[Any]:
        """Yield items."""
