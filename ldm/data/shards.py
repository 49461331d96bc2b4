"""Captioned pictures in webdataset shards: tar files in which a sample's parts share a name.

Items: "jpg" (H, W, 3) float32 in [-1, 1], RGB; "txt" str; "file_path_" shard and name, str;
"place_" str, see ``ldm.data.stream_places``.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch.distributed as dist
from torch.utils.data import IterableDataset, get_worker_info

from ldm.data.caption_texts import choose, decode_caption, joined
from ldm.data.framing import Framing, Size
from ldm.data.pictures import read_picture
from ldm.data.records import CAPTION_KEYS
from ldm.data.shard_names import shard_files
from ldm.data.skipping import MOST_IN_A_ROW, BadItem, Tally
from ldm.data.stream_places import PLACE, StreamPlaces, place_of
from ldm.errors import UserError
from ldm.images.opening import PICTURE_ENDINGS

logger = logging.getLogger(__name__)

Sample = dict[str, Any]
T = TypeVar("T")


class CaptionedShards(IterableDataset):
    """A stream of captioned pictures from tar files; the constructor reads one to check them.

    A sample is a picture (any of ``ldm.images.opening.PICTURE_ENDINGS``) and a caption: .txt,
    .caption, or .json with "text", "caption" or "prompt". Bad samples and the rest of broken shards
    are skipped and counted (``bad_items.count``).

    Guaranteed: within a pass each sample is read once over all processes and workers. Consumers
    (processes times workers) share whole shards; if there are fewer shards than consumers, each
    reads all shards and decodes every n-th sample. Order, crops and flips follow from ``seed``, the
    pass and the numbers of processes and workers. A run that is resumed with as many of both goes
    on with the very next sample: what came before is read again, but not decoded.

    Not guaranteed: with other numbers of processes or workers, or other shards, a resumed run does
    not continue the pass. ``take_place`` gives it another order, so that no part of the data is
    favoured. Consumers of unequal shards end a pass at different times: with several processes set
    ``repeat``, else the process that ends first leaves the others waiting.

    Args:
        shards: Pattern or patterns of local paths: see ``ldm.data.shard_names.shard_files``.
        size: Side in pixels, or [height, width].
        shuffle: Size of each worker's shuffle buffer, in samples (compressed pictures in memory);
            0 keeps the order of shards and samples.
        repeat: Start again after each pass, endlessly: for training, which ends by steps.
        seed: First part of the seed of every order, crop and flip.
        random_crop: Cut the picture at a random place; otherwise in the middle.
        flip_p: Probability of mirroring left to right.
        interpolation: "linear", "bilinear", "bicubic" or "lanczos".

    Raises:
        UserError: webdataset is not installed, a pattern names no file, or no sample can be read.
    """

    def __init__(
        self,
        shards: str | Sequence[str],
        size: Size,
        *,
        shuffle: int = 1000,
        repeat: bool = False,
        seed: int = 0,
        random_crop: bool = False,
        flip_p: float = 0.0,
        interpolation: str = "bicubic",
    ):
        if shuffle < 0:
            raise UserError(f"shuffle is {shuffle}; expected a number of samples, 0 or more")
        _tar_samples()  # to report now, not from a worker, that webdataset is not installed
        self.shards = shard_files(shards)
        self.framing = Framing(
            size, random_crop=random_crop, flip_p=flip_p, interpolation=interpolation
        )
        self.shuffle, self.repeat, self.seed = shuffle, repeat, seed
        self.place: tuple[int, int] | None = None
        self.begun_at, self.passes = 0, 0
        self.places: StreamPlaces | None = None
        self.bad_items = Tally(self.shards[0])  # for the first look only
        self._look()
        more = f" and {len(self.shards) - 1} more" if len(self.shards) > 1 else ""
        self.bad_items = Tally(f"{self.shards[0]}{more}")

    def _look(self) -> None:
        looked_at = enumerate(self._samples(self.shards), start=1)
        if next(self._items(looked_at, (0,)), None) is None:
            raise UserError(
                f"none of {len(self.shards)} shards ({self.shards[0]}, ...) has a readable sample; "
                "expected pictures with captions in .tar files; check the shards"
            )

    @property
    def identity(self) -> str:
        """A hash of the shards' names and of what decides their order."""
        names = [Path(shard).name for shard in self.shards]
        told = json.dumps([names, self.seed, self.shuffle])
        return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()

    def take_place(self, rank: int, world: int, samples: int = 0) -> None:
        """Set this process's place, before its workers start; else torch.distributed is asked.

        Args:
            rank: Number of this process.
            world: Number of processes.
            samples: Samples that the run has seen before; a resumed stream takes another order.
        """
        self.place, self.begun_at = (rank, world), samples

    def follow(self, places: StreamPlaces) -> None:
        """Go on, before the workers start, from places that the main process notes; say how."""
        self.places, self.begun_at = places, places.begun_at
        readers = (self.place or (0, 1))[1] * places.readers
        least, rest = divmod(len(self.shards), readers)
        if least:
            each = f"{least} to {least + 1}" if rest else str(least)
            how = f"each reads {each} of them in a pass"
        else:
            how = f"each reads all of them and takes every {readers}th sample"
        logger.info("%d shards for %d readers: %s", len(self.shards), readers, how)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        number, consumers = consumer(self.place)
        info = get_worker_info()
        worker = 0 if info is None else info.id
        reader, seen = self._start(worker)
        number += reader - worker
        empty = False
        while not empty:
            # It persists between epochs if the workers do.
            current, self.passes = self.passes, self.passes + 1
            empty = seen == 0
            for item in self._one_pass((number, consumers), reader, current, seen):
                empty = False
                yield item
            seen = 0
            if not self.repeat:
                return

    def _start(self, worker: int) -> tuple[int, int]:
        """Set the pass to begin with; return whose part to read, and what to pass over of it."""
        if self.places is None:
            return worker, 0
        reader, self.passes, seen = self.places.start_of(worker)
        return reader, seen

    def _one_pass(
        self, share: tuple[int, int], reader: int, current: int, seen: int
    ) -> Iterator[dict[str, Any]]:
        """Yield the items of a pass behind the first ``seen`` samples of this share of it."""
        number, consumers = share
        seed = (self.seed, self.begun_at, current)
        shards = list(self.shards)
        if self.shuffle:
            np.random.default_rng(seed).shuffle(shards)
        by_shard = len(shards) >= consumers
        samples = self._samples(shards[number::consumers] if by_shard else shards)
        if not by_shard:
            samples = itertools.islice(samples, number, None, consumers)
        if self.shuffle:
            samples = shuffled(samples, self.shuffle, np.random.default_rng((*seed, number)))
        counted = itertools.islice(enumerate(samples, start=1), seen, None)
        for count, item in self._items(counted, (*seed, number)):
            yield {**item, PLACE: place_of(reader, current, count)}

    def _samples(self, shards: Iterable[str]) -> Iterator[Sample]:
        # webdataset must not split them itself: it does not know of the sharing above.
        urls = ({"url": shard} for shard in shards)
        return _tar_samples()(urls, handler=self._skip)

    def _items(
        self, samples: Iterable[tuple[int, Sample]], seed: tuple[int, ...]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield what can be read of numbered samples; random choices go by seed and number."""
        in_a_row = 0
        for count, sample in samples:
            try:
                yield count, self._item(sample, np.random.default_rng((*seed, count)))
                in_a_row = 0
            except BadItem as error:
                self._skip(error)
                in_a_row += 1
            if in_a_row == MOST_IN_A_ROW:
                raise UserError(
                    f"{in_a_row} samples in a row cannot be read, the last in {sample['__url__']}; "
                    "expected pictures with captions; check the shards"
                )

    def _item(self, sample: Sample, rng: np.random.Generator) -> dict[str, Any]:
        name = f"{sample['__url__']}: {sample['__key__']}"
        data = next((value for key, value in sample.items() if _is_picture(key)), None)
        if data is None:
            raise BadItem(f"{name} has no picture")
        caption = _caption(sample, name, rng)
        picture = read_picture(data, name, at_least=self.framing.enough)
        return {"jpg": self.framing(picture, rng), "txt": caption, "file_path_": name}

    def _skip(self, error: Exception) -> bool:
        """Count a bad sample or shard; webdataset continues if this returns True."""
        self.bad_items.add(" ".join(str(error).split()))
        return True


def consumer(place: tuple[int, int] | None) -> tuple[int, int]:
    """Return this worker's number among all workers of all processes, and how many there are.

    Args:
        place: Number of the process and how many there are; None asks torch.distributed.
    """
    if place is None:
        together = dist.is_available() and dist.is_initialized()
        place = (dist.get_rank(), dist.get_world_size()) if together else (0, 1)
    rank, world = place
    info = get_worker_info()
    worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
    return rank * workers + worker, world * workers


def shuffled(samples: Iterable[T], held: int, rng: np.random.Generator) -> Iterator[T]:
    """Yield samples in a random order, drawn from a buffer of ``held`` of them."""
    buffer: list[T] = []
    for sample in samples:
        if len(buffer) < held:
            buffer.append(sample)
            continue
        place = int(rng.integers(held))
        buffer[place], sample = sample, buffer[place]
        yield sample
    for place in rng.permutation(len(buffer)):
        yield buffer[place]


def _is_picture(key: str) -> bool:
    return f".{key}" in PICTURE_ENDINGS


def _caption(sample: Sample, name: str, rng: np.random.Generator) -> str:
    try:
        for key in ("txt", "caption"):
            if text := decode_caption(sample.get(key, b"")):
                return text
        entry = json.loads(sample.get("json", b"{}"))
    except ValueError as error:  # bad UTF-8 and bad JSON are ValueErrors too
        raise BadItem(f"{name} has a caption that cannot be read ({error})") from error
    values = (entry.get(key) for key in CAPTION_KEYS) if isinstance(entry, dict) else ()
    texts = next((found for value in values if (found := joined(value))), None)
    if texts is None:
        raise BadItem(f"{name} has no caption")
    return choose(texts, rng)


def _tar_samples() -> Any:
    try:
        from webdataset.tariterators import tarfile_samples
    except ImportError as error:
        raise UserError(
            'shards need webdataset, which is not installed; pip install -e ".[train]"'
        ) from error
    return tarfile_samples
