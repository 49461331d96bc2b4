"""What ``main.py`` does: build model, data and Trainer, train, test."""

from __future__ import annotations

import logging
import math
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig

from ldm.config import build
from ldm.errors import UserError
from ldm.images.opening import allow_pixels
from ldm.legible import legible
from ldm.rng import seed_everything
from ldm.training.adversarial import take_over
from ldm.training.arguments import TrainingOptions
from ldm.training.assembly import (
    make_callbacks,
    make_last_checkpoint,
    make_trainer,
)
from ldm.training.checkpoints import LAST, LastCheckpoint, Stopped, check_resumable
from ldm.training.data import WrappedDataset
from ldm.training.endings import check_writable, endings_in_words
from ldm.training.exactness import ExactBatches
from ldm.training.settings import Run, find_run, load_run_config
from ldm.util import count_params

logger = logging.getLogger(__name__)

# Warnings that do not hold here: the sampler resumes by itself, a resumed run's folder is not
# empty, a frozen first stage is in eval mode on purpose, a set that is not configured is empty,
# schedules of a model that steps by hand keep their interval, a step's figure is one process's.
QUIET = (
    ".*dataloader is not resumable",
    ".*exists and is not empty",
    ".*in eval mode at the start of training",
    "Total length of `list` across ranks is zero",
    ".*LeafSpec",
    "The lr scheduler dict contains",
    ".*sync_dist=True",
)


def run(options: TrainingOptions) -> int:
    """Train and test as the options and configurations say; return the exit code.

    Raises:
        UserError: Something given cannot be used; nothing was written.
    """
    with console_log():
        return _run(options)


def _run(options: TrainingOptions) -> int:
    allow_pixels(options.max_pixels)
    place = find_run(options)
    saved, config, lightning = load_run_config(options, place)
    if options.train:
        check_writable(place)
    seed_everything(options.seed)
    model = build_model(config, channels_last=bool(lightning.get("channels_last")))
    data = build(config, "data")
    data.setup()
    check_precomputed(model, data)
    monitor = getattr(model, "monitor", None) if data.has("validation") else None
    callbacks = make_callbacks(
        lightning, place, saved, monitor=monitor, every=options.progress_every
    )
    last = make_last_checkpoint(options, lightning, place)
    exact = ExactBatches(options.seed)
    trainer = make_trainer(lightning, [exact, *callbacks, last], place, model)
    set_learning_rate(
        model, config, data.batch_size, trainer, bool(lightning.get("scale_lr", True))
    )
    take_over(trainer, model)
    if place.ckpt_path is not None:
        check_resumable(place.ckpt_path, model, training=options.train)
    if not options.train and not data.has("test"):
        raise UserError("neither --train nor a test set given; add --train to train the model")
    describe(model, trainer, place)
    try:
        if options.train:
            fit(trainer, model, data, last, place)
        if data.has("test") and not options.no_test:
            trained = None if options.train else place.ckpt_path
            with endings_in_words(trainer, place):
                trainer.test(
                    model, datamodule=data, ckpt_path=trained, verbose=trainer.is_global_zero
                )
        return 0
    except Stopped as stop:
        logger.info("%s; continue with: --resume %s --train", stop, place.logdir)
        return stop.exit_code
    except Exception as error:
        if options.debug and not isinstance(error, UserError):
            import pdb

            pdb.post_mortem(error.__traceback__)
        raise


def build_model(config: DictConfig, *, channels_last: bool) -> pl.LightningModule:
    """Build what is trained.

    Raises:
        UserError: It cannot be built, or is nothing that trains.
    """
    model = build(config, "model")
    if not isinstance(model, pl.LightningModule):
        raise UserError(
            f"model.target is {type(model).__name__}, which is no LightningModule; expected a model"
            " that trains, such as ldm.models.diffusion.ddpm.LatentDiffusion; name one"
        )
    return model.to(memory_format=torch.channels_last) if channels_last else model


def check_precomputed(model: Any, data: Any) -> None:
    """Let data sets that were computed with some model refuse another one."""
    for dataset in data.datasets.values():
        dataset = dataset.data if isinstance(dataset, WrappedDataset) else dataset
        if hasattr(dataset, "check_model"):
            dataset.check_model(model)


def describe(model: pl.LightningModule, trainer: pl.Trainer, place: Run) -> None:
    """Log what is about to run, where, and on what."""
    count_params(model, verbose=True)
    device = trainer.strategy.root_device
    logger.info("%d x %s, precision %s", trainer.world_size, device.type, trainer.precision)
    logger.info("run folder %s", place.logdir)


def fit(
    trainer: pl.Trainer, model: pl.LightningModule, data: Any, last: LastCheckpoint, place: Run
) -> None:
    """Train to the end.

    Raises:
        Stopped: A signal or the time limit came first.
        UserError: As ``endings_in_words``.
    """
    with endings_in_words(trainer, place), last.listening():
        trainer.fit(model, datamodule=data, ckpt_path=place.ckpt_path)
    logger.info("trained to step %d; %s", trainer.global_step, place.ckptdir / LAST)


def set_learning_rate(
    model: Any, config: DictConfig, batch_size: int, trainer: pl.Trainer, scale: bool
) -> None:
    """Set ``model.learning_rate`` from ``model.base_learning_rate``.

    With ``scale`` it is multiplied by accumulation x processes x batch size, as in the reference.

    Raises:
        UserError: It is missing, or no finite number above 0.
    """
    base = config.model.get("base_learning_rate")
    if base is None:
        raise UserError("model.base_learning_rate is missing; add it to the configuration")
    base = _rate(base)
    accumulate, world = trainer.accumulate_grad_batches, trainer.world_size
    model.learning_rate = accumulate * world * batch_size * base if scale else base
    factors = f"{accumulate} (accumulation) x {world} (processes) x {batch_size} (batch size)"
    how = f" = {factors} x {base:.3g}"
    logger.info("learning rate %.3g%s", model.learning_rate, how if scale else "")


def _rate(given: Any) -> float:
    """Read a learning rate; YAML 1.1 takes 1e-4 for a text."""
    try:
        rate = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        rate = math.nan
    if not 0 < rate < math.inf:
        raise UserError(
            f"model.base_learning_rate is {given!r}; expected a number above 0, as 1.0e-4; change "
            "it in the configuration or with model.base_learning_rate=1.0e-4"
        )
    return rate


class _Legible(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = "\n".join(map(legible, record.message.split("\n")))
        return super().formatMessage(record)


@contextmanager
def console_log() -> Iterator[None]:
    """Send the package's log to stdout, one dated line each, readable in a file.

    Lightning's own lines repeat ours or advertise; its warnings stay, less those in ``QUIET``.
    """
    ours, theirs = logging.getLogger("ldm"), logging.getLogger("pytorch_lightning")
    levels = ours.level, theirs.level
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Legible("%(asctime)s  %(message)s", "%Y-%m-%d %H:%M:%S"))
    ours.addHandler(handler)
    # Lightning starts the other processes with LOCAL_RANK set; one of them speaks for all.
    ours.setLevel(logging.INFO if os.environ.get("LOCAL_RANK", "0") == "0" else logging.WARNING)
    theirs.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for text in QUIET:
            warnings.filterwarnings("ignore", message=text)
        try:
            yield
        finally:
            ours.removeHandler(handler)
            ours.setLevel(levels[0])
            theirs.setLevel(levels[1])
