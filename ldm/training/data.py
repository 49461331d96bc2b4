"""Build datasets from YAML, and read them in an order that a resumed run continues."""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import Callable, Iterator
from functools import partial
from numbers import Integral
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, get_worker_info

from ldm.building import build_from, refusals_in_words
from ldm.data.base import Txt2ImgIterableBaseDataset
from ldm.errors import UserError
from ldm.processor import cores
from ldm.training.exactness import ExactBatches
from ldm.training.seeding import NumberedSampler, SeededItems

logger = logging.getLogger(__name__)


class WrappedDataset(Dataset):
    """Give any object with a length and items the Dataset interface."""

    def __init__(self, dataset: Any):
        self.data = dataset

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, idx: int) -> Any:
        return self.data[idx]


class ResumableSampler(Sampler[int]):
    """Draw every item once per pass, starting at ``position``.

    Pass p is a permutation that depends only on ``(seed, p)``, so resuming needs only the number of
    samples seen. With several processes each takes every ``world``-th item; the pass is padded from
    its beginning so that all get the same number.

    Args:
        length: Items in the dataset.
        shuffle: False keeps the dataset's order.
        seed: First part of the seed of each permutation.
        position: Returns how many samples all processes together have seen since the run began.
        rank: Number of this process.
        world: Number of processes.
    """

    def __init__(
        self,
        length: int,
        *,
        shuffle: bool,
        seed: int = 0,
        position: Callable[[], int] = lambda: 0,
        rank: int = 0,
        world: int = 1,
    ):
        self.length, self.shuffle, self.seed, self.position = length, shuffle, seed, position
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        return math.ceil(self.length / self.world)

    def __iter__(self) -> Iterator[int]:
        total = len(self) * self.world
        number, offset = divmod(self.position(), total)
        order = torch.arange(self.length)
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
            order = torch.randperm(self.length, generator=generator)
        order = order.repeat(math.ceil(total / self.length))[:total]
        return iter(order[offset + self.rank :: self.world].tolist())


def worker_init_fn(_: int, rank: int = 0, world: int = 1) -> None:
    """Leave signals to the main process, and take this worker's share of an iterable dataset.

    A worker inherits the handlers that save a checkpoint, and Ctrl-C reaches the whole group.

    Args:
        rank: Number of the process that the worker loads for.
        world: Number of processes.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    info = get_worker_info()
    take_share(info.dataset, rank * info.num_workers + info.id, world * info.num_workers)


def own_words(error: UserError) -> str:
    """Return a worker's error message without the traceback that torch puts before it."""
    return str(error).rpartition(f"{UserError.__module__}.{UserError.__name__}: ")[2].strip()


def take_share(dataset: Any, number: int, count: int) -> None:
    """Reduce an iterable dataset to the ``number``-th of ``count`` shares of its records."""
    if isinstance(dataset, Txt2ImgIterableBaseDataset):
        dataset.sample_ids = dataset.valid_ids[number::count]


class DataModuleFromConfig(pl.LightningDataModule):
    """Build datasets from ``target``/``params`` mappings and load them in batches.

    Args:
        batch_size: Items per batch and device.
        train: Dataset configuration, as are ``validation``, ``test`` and ``predict``.
        wrap: Wrap datasets that do not derive from ``torch.utils.data.Dataset``.
        num_workers: Loader processes; None uses twice the batch size, at most the CPU's cores
            minus one.
        shuffle_test_loader: Shuffle the test set.
        use_worker_init_fn: Kept for CompVis: today torch seeds NumPy in every worker itself.
        shuffle_val_dataloader: Shuffle the validation set.
    """

    def __init__(
        self,
        batch_size: int,
        train: Any = None,
        validation: Any = None,
        test: Any = None,
        predict: Any = None,
        wrap: bool = False,
        num_workers: int | None = None,
        shuffle_test_loader: bool = False,
        use_worker_init_fn: bool = False,  # noqa: ARG002 - kept for CompVis
        shuffle_val_dataloader: bool = False,
    ):
        super().__init__()
        given = {"train": train, "validation": validation, "test": test, "predict": predict}
        self.dataset_configs = {name: cfg for name, cfg in given.items() if cfg is not None}
        self.batch_size = _whole("batch_size", batch_size, 1)
        self.wrap = wrap
        workers = _default_workers(self.batch_size) if num_workers is None else num_workers
        self.num_workers = _whole("num_workers", workers, 0)
        self.shuffle = {"validation": shuffle_val_dataloader, "test": shuffle_test_loader}
        self.datasets: dict[str, Any] = {}

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002 - Lightning's signature
        """Build the datasets, once."""
        for name, config in self.dataset_configs.items():
            if name not in self.datasets:
                self.datasets[name] = self._build(name, config)

    def _build(self, name: str, config: Any) -> Any:
        with refusals_in_words():
            dataset = build_from(config, where=f"data.params.{name}")
        if not isinstance(dataset, IterableDataset) and len(dataset) == 0:
            raise UserError(
                f"data.params.{name}: {config['target']} has no items; expected at least one: "
                "check its paths"
            )
        return WrappedDataset(dataset) if self.wrap else dataset

    def has(self, name: str) -> bool:
        """Check whether a ``train``, ``validation``, ``test`` or ``predict`` set is configured."""
        return name in self.dataset_configs

    # An absent set is an empty list: Lightning then skips that loop.

    def train_dataloader(self) -> Any:
        """Load the training set in shuffled passes, from the run's current position."""
        return self._loader("train") if self.has("train") else []

    def val_dataloader(self) -> Any:
        """Load the validation set."""
        return self._loader("validation") if self.has("validation") else []

    def test_dataloader(self) -> Any:
        """Load the test set."""
        return self._loader("test") if self.has("test") else []

    def predict_dataloader(self) -> Any:
        """Load the prediction set."""
        return self._loader("predict") if self.has("predict") else []

    def teardown(self, stage: str | None = None) -> None:  # noqa: ARG002 - Lightning's signature
        """Log how many bad items of each dataset were skipped."""
        for dataset in self.datasets.values():
            bad = getattr(getattr(dataset, "data", dataset), "bad_items", None)
            if bad is not None and bad.count:
                logger.warning("%s", bad.summary())

    def _loader(self, name: str) -> DataLoader:
        dataset, sampler, shuffle = self.datasets[name], None, None
        rank, world = self._place()
        if not isinstance(dataset, IterableDataset):
            shuffle = self.shuffle.get(name, name == "train")
            if (exact := self._exact()) is not None:
                dataset, sampler = self._ordered(name, dataset, exact, shuffle)
                shuffle = None
        elif hasattr(dataset, "take_place"):  # shares its records itself
            dataset.take_place(rank, world, self._samples_done(name))
            exact = self._exact()
            if name == "train" and exact is not None and hasattr(dataset, "follow"):
                exact.follow(dataset, max(1, self.num_workers), rank, world)
        elif self.num_workers == 0:
            take_share(dataset, rank, world)
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            shuffle=shuffle,
            num_workers=self.num_workers,
            worker_init_fn=partial(worker_init_fn, rank=rank, world=world),
            persistent_workers=self.num_workers > 0,
        )

    def _place(self) -> tuple[int, int]:
        """Return this process's number and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _samples_done(self, name: str) -> int:
        exact = self._exact()
        return exact.samples_done if exact is not None and name == "train" else 0

    def _exact(self) -> ExactBatches | None:
        """Return what counts the run's batches; a Trainer of somebody's own may have nothing."""
        return ExactBatches.find(self.trainer) if self.trainer else None

    def _ordered(
        self, name: str, dataset: Any, exact: ExactBatches, shuffle: bool
    ) -> tuple[Dataset, Sampler]:
        """Give each item its own random numbers, in an order that a resumed run continues."""
        rank, world = self._place()
        training = name == "train"
        position = (lambda: exact.samples_done) if training else (lambda: 0)
        sampler = ResumableSampler(
            len(dataset),
            shuffle=shuffle,
            seed=exact.seed if training else 0,
            position=position,
            rank=rank,
            world=world,
        )
        numbered = NumberedSampler(sampler, position, rank, world)
        return SeededItems(dataset, exact.seed, name), numbered


def _whole(name: str, value: Any, least: int) -> int:
    """Check a number of ``data.params``; 2.0 is 2, as YAML's 1e3 is a float."""
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(whole, bool) or not isinstance(whole, Integral) or whole < least:
        raise UserError(
            f"data.params.{name} is {value!r}; expected a whole number, {least} or more; correct "
            "the configuration"
        )
    return int(whole)


def _default_workers(batch_size: int) -> int:
    return min(2 * batch_size, cores() - 1)
