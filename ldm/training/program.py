"""What ``main.py`` does: settle the run's folder and configuration, build, train, test."""

from __future__ import annotations

import difflib
import inspect
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from ldm.config import build, load_config
from ldm.errors import UserError
from ldm.rng import seed_everything
from ldm.training.arguments import TrainingOptions
from ldm.training.callbacks import SetupCallback
from ldm.training.checkpoints import LAST, AtomicCheckpointIO, LastCheckpoint, Stopped
from ldm.training.metrics import MetricsFile
from ldm.training.task import TrainingTask
from ldm.util import count_params, instantiate_from_config

logger = logging.getLogger(__name__)

SECTIONS = ("model", "data", "lightning")
LIGHTNING_KEYS = ("trainer", "callbacks", "modelcheckpoint", "logger")
# Settings that differ from Lightning's own: a YAML or a flag wins over them.
TRAINER_DEFAULTS = {
    "devices": 1,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    # Tables that models make on first use, made in inference mode, could not be trained on.
    "inference_mode": False,
}


# Warnings that do not hold here: the sampler resumes by itself, a resumed run's folder is not
# empty, a frozen first stage is in eval mode on purpose.
QUIET = (
    ".*dataloader is not resumable",
    ".*exists and is not empty",
    ".*in eval mode at the start of training",
    ".*LeafSpec",
)


@dataclass(frozen=True)
class Run:
    """Where a run keeps its things, and the checkpoint it continues from."""

    logdir: Path
    now: str
    ckpt_path: Path | None = None

    @property
    def ckptdir(self) -> Path:
        """Folder of the checkpoints."""
        return self.logdir / "checkpoints"

    @property
    def cfgdir(self) -> Path:
        """Folder of the merged configurations."""
        return self.logdir / "configs"


def run(options: TrainingOptions) -> int:
    """Train and test as the options and configurations say; return the exit code.

    Raises:
        UserError: Something given cannot be used; nothing was written.
    """
    with console_log():
        return _run(options)


def _run(options: TrainingOptions) -> int:
    place = find_run(options)
    saved, config, lightning = load_run_config(options, place)
    seed_everything(options.seed)
    model = build(config, "model")
    data = build(config, "data")
    data.setup()
    task = TrainingTask(model, seed=options.seed)
    last = _last_checkpoint(options, lightning, place)
    callbacks = [*make_callbacks(options, saved, lightning, place, model, data), last]
    trainer = make_trainer(lightning, callbacks, place)
    set_learning_rate(model, config, data.batch_size, trainer, options.scale_lr)
    if not options.train and not data.has("test"):
        raise UserError("neither --train nor a test set given; add --train to train the model")
    try:
        return _fit_and_test(trainer, task, data, options, place, last)
    except Exception as error:
        if options.debug and not isinstance(error, UserError):
            import pdb

            pdb.post_mortem(error.__traceback__)
        raise


def _fit_and_test(
    trainer: pl.Trainer,
    task: TrainingTask,
    data: Any,
    options: TrainingOptions,
    place: Run,
    last: LastCheckpoint,
) -> int:
    count_params(task.model, verbose=True)
    device = trainer.strategy.root_device
    logger.info("%d x %s, precision %s", trainer.world_size, device.type, trainer.precision)
    logger.info("run folder %s", place.logdir)
    if options.train:
        try:
            with last.listening():
                trainer.fit(task, datamodule=data, ckpt_path=place.ckpt_path)
        except Stopped as stop:
            logger.info("%s; continue with: --resume %s --train", stop, place.logdir)
            return stop.exit_code
        except MisconfigurationException as error:
            raise UserError(f"Lightning refuses the settings: {_one_line(error)}") from error
        logger.info("trained to step %d; %s", trainer.global_step, place.ckptdir / LAST)
    if data.has("test") and not options.no_test:
        untrained = None if options.train else place.ckpt_path
        trainer.test(task, datamodule=data, ckpt_path=untrained, verbose=trainer.is_global_zero)
    return 0


def find_run(options: TrainingOptions) -> Run:
    """Name the run's folder; nothing is made yet.

    Raises:
        UserError: No configuration, or nothing to resume at that path.
    """
    now = datetime.now().strftime("%Y-%m-%dT%H-%M-%S")
    if options.resume is None:
        if not options.base:
            raise UserError("no configuration given; add --base CONFIG.yaml or --resume RUN")
        name = options.name or options.base[0].stem
        return Run(options.logdir / f"{now}_{name}{options.postfix}", now)
    path = options.resume
    if path.is_file():
        return Run(path.resolve().parent.parent, now, path)
    checkpoint = path / "checkpoints" / LAST
    if not checkpoint.is_file():
        found = "a folder without checkpoints/last.ckpt" if path.is_dir() else "no file or folder"
        raise UserError(
            f"--resume {str(path)!r} is {found}; expected a run's folder or a checkpoint in it"
        )
    return Run(path, now, checkpoint)


def load_run_config(
    options: TrainingOptions, place: Run
) -> tuple[DictConfig, DictConfig, DictConfig]:
    """Merge a resumed run's configurations, then ``--base``, then overrides and flags.

    Returns:
        What to save (model and data, references such as ``${lightning.trainer.max_steps}`` kept, so
        that a longer continuation moves them too); the same with references resolved; and the
        ``lightning`` section, resolved.

    Raises:
        UserError: A file cannot be read, or a section, setting or reference is unknown.
    """
    earlier = sorted(place.cfgdir.glob("*.yaml")) if place.ckpt_path else []
    if place.ckpt_path and not earlier and not options.base:
        raise UserError(f"{str(place.cfgdir)!r} holds no YAML to resume; add --base CONFIG.yaml")
    config = load_config(*earlier, *options.base, overrides=options.overrides)
    _check_keys(config, SECTIONS, "the configuration")
    defaults = OmegaConf.create({"lightning": {"trainer": TRAINER_DEFAULTS}})
    flags = OmegaConf.create({"lightning": {"trainer": options.trainer}})
    config = OmegaConf.merge(defaults, config, flags)
    _check_keys(config.lightning, LIGHTNING_KEYS, "lightning")
    config.lightning.trainer = _modern_trainer(config.lightning.trainer)
    resolved = config.copy()
    try:
        OmegaConf.resolve(resolved)
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"the configuration refers to nothing: {reason}; correct it") from error
    config.pop("lightning")
    return config, resolved, resolved.pop("lightning")


def _check_keys(config: DictConfig, known: tuple[str, ...], where: str) -> None:
    for key in config:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes: {', '.join(known)}"
            raise UserError(f"{where} has an unknown key {key!r}; {hint}")


def _modern_trainer(trainer: DictConfig) -> DictConfig:
    """Translate ``gpus`` of older Lightning and check every name."""
    if "gpus" in trainer:
        gpus = trainer.pop("gpus")
        wanted = gpus.strip(",") if isinstance(gpus, str) else gpus
        trainer.accelerator = "gpu" if gpus not in (0, "0", None) else "cpu"
        trainer.devices = wanted if trainer.accelerator == "gpu" else 1
        if isinstance(gpus, str) and trainer.accelerator == "gpu":
            trainer.devices = [int(part) for part in wanted.split(",")]
    accepted = tuple(inspect.signature(pl.Trainer).parameters)
    _check_keys(trainer, accepted, "lightning.trainer")
    if isinstance(trainer.get("val_check_interval"), int):
        # Batches are then counted over the ends of epochs, so that a small set needs no care.
        trainer.setdefault("check_val_every_n_epoch", None)
    return trainer


def make_trainer(lightning: DictConfig, callbacks: list[pl.Callback], place: Run) -> pl.Trainer:
    """Build the Trainer.

    Raises:
        UserError: A setting's value is refused.
    """
    settings = OmegaConf.to_container(lightning.trainer, resolve=True)
    try:
        return pl.Trainer(
            **settings,
            callbacks=callbacks,
            logger=make_loggers(lightning, place),
            plugins=[AtomicCheckpointIO()],
            default_root_dir=place.logdir,
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise UserError(
            f"the Trainer refuses {settings}: {_one_line(error)}; see lightning.trainer and flags"
        ) from error


def make_loggers(lightning: DictConfig, place: Run) -> list[Any]:
    """Return the CSV logger, TensorBoard where it is installed, and the configured one."""
    loggers: list[Any] = [MetricsFile(place.logdir)]
    if lightning.get("logger"):
        return [*loggers, instantiate_from_config(lightning.logger, where="lightning.logger")]
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        return loggers
    from pytorch_lightning.loggers import TensorBoardLogger

    return [*loggers, TensorBoardLogger(place.logdir, name="tensorboard", version="")]


def make_callbacks(
    options: TrainingOptions,
    config: DictConfig,
    lightning: DictConfig,
    place: Run,
    model: Any,
    data: Any,
) -> list[pl.Callback]:
    """Build the default callbacks, changed and extended by ``lightning.callbacks``."""
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
    configs = OmegaConf.merge(OmegaConf.create(defaults), OmegaConf.create(given))
    if options.progress_every is not None:
        configs.progress_line.params.every_n_train_steps = options.progress_every
    made = [
        instantiate_from_config(cfg, where=f"lightning.callbacks.{name}")
        for name, cfg in configs.items()
    ]
    setup = SetupCallback(place.now, place.logdir, place.ckptdir, place.cfgdir, config, lightning)
    best = _best_checkpoint(lightning, place, getattr(model, "monitor", None), data)
    return [setup, *made, *best]


def _best_checkpoint(
    lightning: DictConfig, place: Run, monitor: str | None, data: Any
) -> list[pl.Callback]:
    """Keep the best three by ``model.monitor``, where there is something to measure it on."""
    default: dict[str, Any] = {
        "target": "pytorch_lightning.callbacks.ModelCheckpoint",
        "params": {"dirpath": str(place.ckptdir), "filename": "{epoch:06}-{step:08}"},
    }
    if monitor is not None and data.has("validation"):
        default["params"] |= {"monitor": monitor, "save_top_k": 3}
    elif not lightning.get("modelcheckpoint"):
        return []
    given = lightning.get("modelcheckpoint") or {}
    merged = OmegaConf.merge(OmegaConf.create(default), given)
    return [instantiate_from_config(merged, where="lightning.modelcheckpoint")]


def _last_checkpoint(options: TrainingOptions, lightning: DictConfig, place: Run) -> LastCheckpoint:
    given = (lightning.get("callbacks") or {}).get("last_checkpoint") or {}
    params = dict(given.get("params") or {})
    if options.checkpoint_every is not None:
        params["every_n_train_steps"] = options.checkpoint_every
    config = {"target": "ldm.training.checkpoints.LastCheckpoint", "params": params}
    return instantiate_from_config(
        config,
        where="lightning.callbacks.last_checkpoint",
        dirpath=place.ckptdir,
        max_time=options.max_time,
    )


def set_learning_rate(
    model: Any, config: DictConfig, batch_size: int, trainer: pl.Trainer, scale: bool
) -> None:
    """Set ``model.learning_rate`` from ``model.base_learning_rate``.

    With ``scale`` it is multiplied by accumulation x processes x batch size, as in the reference.
    """
    base = config.model.get("base_learning_rate")
    if base is None:
        raise UserError("model.base_learning_rate is missing; add it to the configuration")
    base = float(base)
    accumulate, world = trainer.accumulate_grad_batches, trainer.world_size
    model.learning_rate = accumulate * world * batch_size * base if scale else base
    factors = f"{accumulate} (accumulation) x {world} (processes) x {batch_size} (batch size)"
    how = f" = {factors} x {base:.3g}"
    logger.info("learning rate %.3g%s", model.learning_rate, how if scale else "")


@contextmanager
def console_log() -> Iterator[None]:
    """Send the package's log to stdout, one dated line each, readable in a file.

    Lightning's own lines repeat ours or advertise; its warnings stay, less those in ``QUIET``.
    """
    ours, theirs = logging.getLogger("ldm"), logging.getLogger("pytorch_lightning")
    levels = ours.level, theirs.level
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%Y-%m-%d %H:%M:%S"))
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


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
