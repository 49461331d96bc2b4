"""Build a run's Trainer, loggers and callbacks from the ``lightning`` section."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import nn

from ldm.building import build_from, refusals_in_words
from ldm.errors import UserError
from ldm.training.arguments import TrainingOptions
from ldm.training.background_checkpoints import BackgroundCheckpointIO
from ldm.training.callbacks import SetupCallback
from ldm.training.checkpoints import AtomicCheckpointIO, LastCheckpoint
from ldm.training.compression import read_compression
from ldm.training.first_batches import FirstBatches
from ldm.training.metrics import MetricsFile
from ldm.training.resumed_rates import LearningRateOnResume
from ldm.training.settings import TRAINER_DEFAULTS, Run
from ldm.training.strategies import choose_strategy


def make_trainer(
    lightning: DictConfig, callbacks: list[pl.Callback], place: Run, model: nn.Module
) -> pl.Trainer:
    """Build the Trainer for ``model``.

    Raises:
        UserError: The Trainer refuses a setting's value, or a package that it needs is missing.
    """
    settings = OmegaConf.to_container(lightning.trainer, resolve=True)
    compression = read_compression(lightning.get("gradient_compression"))
    strategy = choose_strategy(settings, model, compression)
    behind = bool(lightning.get("async_checkpoints"))
    loggers = make_loggers(lightning, place)
    try:
        return pl.Trainer(
            **{**settings, "strategy": strategy},
            callbacks=callbacks,
            logger=loggers,
            plugins=[BackgroundCheckpointIO() if behind else AtomicCheckpointIO()],
            default_root_dir=place.logdir,
            use_distributed_sampler=False,
        )
    except UserError:
        raise
    except (MisconfigurationException, ImportError, ValueError, TypeError) as error:
        given = {k: v for k, v in settings.items() if TRAINER_DEFAULTS.get(k) != v}
        shown = ", ".join(f"{name}={value}" for name, value in given.items())
        raise UserError(
            f"the Trainer refuses its settings ({one_line(error)}); given are {shown}; change one "
            "of them, by its flag or in lightning.trainer"
        ) from error


def _made(config: Any, where: str, **extra: Any) -> Any:
    """Build a callback or logger.

    Raises:
        UserError: Its class refuses a value, or a package that it needs is missing.
    """
    try:
        with refusals_in_words():
            return build_from(config, where=where, **extra)
    except MisconfigurationException as error:
        raise UserError(
            f"{where} cannot be built ({one_line(error)}); correct its params"
        ) from error


def make_loggers(lightning: DictConfig, place: Run) -> list[Any]:
    """Return the CSV logger, TensorBoard if it is installed, and the configured logger."""
    loggers: list[Any] = [MetricsFile(place.logdir)]
    if lightning.get("logger"):
        return [*loggers, _made(lightning.logger, "lightning.logger")]
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        return loggers
    from pytorch_lightning.loggers import TensorBoardLogger

    return [*loggers, TensorBoardLogger(place.logdir, name="tensorboard", version="")]


def make_callbacks(
    lightning: DictConfig, place: Run, saved: DictConfig, *, monitor: str | None, every: int | None
) -> list[pl.Callback]:
    """Build the default callbacks, changed, extended or left out (null) by the configuration.

    Args:
        lightning: The ``lightning`` section.
        place: The run's folder.
        saved: Model and data sections as they will be saved there.
        monitor: Figure that chooses the best checkpoints; None if none is measured.
        every: Steps between two lines on the console; None uses the configuration's.
    """
    defaults = {
        "progress_line": {"target": "ldm.training.callbacks.ProgressLine", "params": {}},
        "image_logger": {"target": "ldm.training.images.ImageLogger", "params": {}},
        "learning_rate_logger": {
            "target": "pytorch_lightning.callbacks.LearningRateMonitor",
            "params": {"logging_interval": "step"},
        },
        "cuda_callback": {"target": "ldm.training.callbacks.CUDACallback", "params": {}},
    }
    given = dict(lightning.get("callbacks") or {})
    given.pop("last_checkpoint", None)
    regular = given.pop("metrics_over_trainsteps_checkpoint", None)
    configs = OmegaConf.merge(OmegaConf.create(defaults), OmegaConf.create(given))
    if every is not None:
        configs.progress_line.params.every_n_train_steps = every
    made = [
        _made(cfg, f"lightning.callbacks.{name}")
        for name, cfg in configs.items()
        if cfg is not None
    ]
    setup = SetupCallback(place.now, place.logdir, place.ckptdir, place.cfgdir, saved, lightning)
    kept = [_step_checkpoint(regular, place)] if regular is not None else []
    always = [setup, FirstBatches(), LearningRateOnResume()]
    return [*always, *made, *_best_checkpoint(lightning, place, monitor), *kept]


def _best_checkpoint(lightning: DictConfig, place: Run, monitor: str | None) -> list[pl.Callback]:
    """Keep the best three by ``monitor``."""
    default: dict[str, Any] = {
        "target": "pytorch_lightning.callbacks.ModelCheckpoint",
        "params": {"dirpath": str(place.ckptdir), "filename": "{epoch:06}-{step:08}"},
    }
    if monitor is not None:
        default["params"] |= {"monitor": monitor, "save_top_k": 3}
    elif not lightning.get("modelcheckpoint"):
        return []
    given = lightning.get("modelcheckpoint") or {}
    merged = OmegaConf.merge(OmegaConf.create(default), given)
    return [_made(merged, "lightning.modelcheckpoint")]


def _step_checkpoint(given: DictConfig, place: Run) -> pl.Callback:
    """Save the weights alone at intervals, and keep all of them, to evaluate over training."""
    default = {
        "target": "pytorch_lightning.callbacks.ModelCheckpoint",
        "params": {
            "dirpath": str(place.ckptdir / "trainstep_checkpoints"),
            "filename": "{epoch:06}-{step:09}",
            "every_n_train_steps": 10000,
            "save_top_k": -1,
            "save_weights_only": True,
        },
    }
    merged = OmegaConf.merge(OmegaConf.create(default), given)
    return _made(merged, "lightning.callbacks.metrics_over_trainsteps_checkpoint")


def make_last_checkpoint(
    options: TrainingOptions, lightning: DictConfig, place: Run
) -> LastCheckpoint:
    """Build ``last.ckpt``'s callback; flags override ``lightning.callbacks.last_checkpoint``."""
    given = (lightning.get("callbacks") or {}).get("last_checkpoint") or {}
    params = dict(given.get("params") or {})
    if options.checkpoint_every is not None:
        params["every_n_train_steps"] = options.checkpoint_every
    config = {"target": "ldm.training.checkpoints.LastCheckpoint", "params": params}
    return _made(
        config,
        "lightning.callbacks.last_checkpoint",
        dirpath=place.ckptdir,
        max_time=options.max_time,
    )


def one_line(error: BaseException) -> str:
    """Return an error's message without its line breaks."""
    return " ".join(str(error).split())
