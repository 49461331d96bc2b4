"""Find a run's folder and merge its configuration; check both before anything is built."""

from __future__ import annotations

import difflib
import inspect
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ldm.config import load_config
from ldm.errors import UserError
from ldm.paths import is_file, listing, real_path, unreachable, writing_fault
from ldm.training.arguments import TrainingOptions
from ldm.training.checkpoints import LAST
from ldm.training.strategies import UNUSED
from ldm.training.trainer_values import check_trainer

SECTIONS = ("model", "data", "lightning")
# What stands beside ``model`` for whoever draws with it; kept with the run.
OF_THE_MODEL = ("languages", "sampling", "scale", "knows")
LIGHTNING_KEYS = (
    "trainer",
    "callbacks",
    "modelcheckpoint",
    "logger",
    "channels_last",
    "scale_lr",
    "find_unused_parameters",
    "gradient_compression",
    "async_checkpoints",
)
# Defaults that differ from Lightning's own; a YAML or a flag overrides them.
TRAINER_DEFAULTS = {
    "devices": 1,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    # Tables that models make on first use could not be trained on if made in inference mode.
    "inference_mode": False,
}


@dataclass(frozen=True)
class Run:
    """The folders of a run, and the checkpoint that it continues from."""

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


def find_run(options: TrainingOptions) -> Run:
    """Choose the run's folder, without creating anything yet.

    Raises:
        UserError: There is no configuration, or nothing to resume at that path.
    """
    now = datetime.now().strftime("%Y-%m-%dT%H-%M-%S")
    if options.resume is None:
        if not options.base:
            raise UserError("no configuration given; add --base CONFIG.yaml or --resume RUN")
        name = options.name or options.base[0].stem
        _check_logdir(options.logdir)
        return Run(options.logdir / f"{now}_{name}{options.postfix}", now)
    path = options.resume
    folders = [f.parent for f in real_path(path).parents if f.name == "checkpoints"]
    if is_file(path) and folders:
        return Run(folders[0], now, path)
    if is_file(path):
        raise UserError(
            f"--resume {str(path)!r} is not in a run's folder; expected RUN/checkpoints/NAME.ckpt; "
            "to begin a new run with its weights give model.params.ckpt_path"
        )
    checkpoint = path / "checkpoints" / LAST
    if not is_file(checkpoint):
        fault = unreachable(path) or "is a folder without checkpoints/last.ckpt"
        raise UserError(
            f"--resume {str(path)!r} {fault}; expected a run's folder or a checkpoint in it"
        )
    return Run(path, now, checkpoint)


def _check_logdir(logdir: Path) -> None:
    fault = writing_fault(logdir)
    if fault is None and not str(logdir).isprintable():  # TensorBoard can only write UTF-8
        fault = "has characters that logs cannot name"
    if fault:
        raise UserError(
            f"--logdir {str(logdir)!r} {fault}; expected a folder that can be written to; give "
            "another one"
        )


def load_run_config(
    options: TrainingOptions, place: Run
) -> tuple[DictConfig, DictConfig, DictConfig]:
    """Merge a resumed run's configurations, then ``--base``, then overrides and flags.

    Returns:
        What to save (model and data; references such as ``${lightning.trainer.max_steps}`` are kept
        so that they follow when a run is extended); the same with references resolved; and the
        ``lightning`` section, resolved.

    Raises:
        UserError: A file cannot be read, a section, setting or reference is unknown, or a setting
            of the Trainer has a value of another kind.
    """
    earlier = listing(place.cfgdir, "*.yaml") if place.ckpt_path else []
    if place.ckpt_path and not earlier and not options.base:
        raise UserError(f"{str(place.cfgdir)!r} holds no YAML to resume; add --base CONFIG.yaml")
    config = load_config(*earlier, *options.base, overrides=options.overrides)
    _check_keys(config, (*SECTIONS, *OF_THE_MODEL), "the configuration")
    defaults = OmegaConf.create({"lightning": {"trainer": TRAINER_DEFAULTS}})
    flags: dict[str, Any] = {"trainer": options.trainer}
    # Saved with the run, so that it goes on as it began.
    for name in ("channels_last", "scale_lr", "gradient_compression", "async_checkpoints"):
        if (given := getattr(options, name)) is not None:
            flags[name] = given
    config = OmegaConf.merge(defaults, config, {"lightning": flags})
    if options.latents is not None:
        _train_on_latents(config, options.latents)
    _check_keys(config.lightning, LIGHTNING_KEYS, "lightning")
    config.lightning.trainer = _modern_trainer(config.lightning.trainer)
    _find_unused(config.lightning)
    resolved = config.copy()
    try:
        OmegaConf.resolve(resolved)
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"the configuration refers to nothing: {reason}; correct it") from error
    config.pop("lightning")
    lightning = resolved.pop("lightning")
    check_trainer(lightning.trainer)
    return config, resolved, lightning


def _train_on_latents(config: DictConfig, folder: Path) -> None:
    """Replace the training set with a folder of precomputed latents."""
    if OmegaConf.select(config, "data.params") is None:
        raise UserError("--latents given, but the configuration has no data.params; add --base")
    target = "ldm.data.precomputed.PrecomputedLatents"
    config.data.params.train = {"target": target, "params": {"root": str(folder)}}


def _check_keys(config: DictConfig, known: tuple[str, ...], where: str) -> None:
    for key in config:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes: {', '.join(known)}"
            raise UserError(f"{where} has an unknown key {key!r}; {hint}")


def _devices(given: Any, name: str) -> int | str | list[int]:
    """Read devices as older Lightning did: 2 is a count; "0,1", "2," and [2] are device numbers."""
    text = str(0 if given is None else given).strip("[] ")
    if text == "auto":
        return text
    try:
        if "," in text or isinstance(given, ListConfig) or str(given).startswith("["):
            return [int(part) for part in text.split(",") if part.strip()]
        return int(text)
    except ValueError as error:
        raise UserError(
            f"{name} {given!r} given; expected a number of devices, or their indices as 0,1"
        ) from error


def _find_unused(lightning: DictConfig) -> None:
    """Translate the reference's ``lightning.find_unused_parameters`` to the name of a strategy.

    False is what ``ldm.training.strategies`` does by itself; on one device it says nothing.
    """
    trainer = lightning.trainer
    alone = trainer.devices in (1, "auto") and trainer.get("num_nodes", 1) == 1
    given = lightning.pop("find_unused_parameters", False)
    if given and not alone and trainer.get("strategy", "auto") in ("auto", "ddp"):
        trainer.strategy = f"ddp{UNUSED}"


def _modern_trainer(trainer: DictConfig) -> DictConfig:
    """Translate settings that older Lightning named differently, and check every name."""
    if trainer.get("accelerator") == "ddp":  # once named a strategy, not a device type
        trainer.accelerator, trainer.strategy = "auto", "ddp"
    if "gpus" in trainer:
        devices = _devices(trainer.pop("gpus"), "gpus")
        trainer.accelerator = "gpu" if devices else "cpu"
        trainer.devices = devices or 1
    trainer.devices = _devices(trainer.devices, "devices")
    if trainer.get("accelerator") == "cpu" and isinstance(trainer.devices, ListConfig):
        trainer.devices = len(trainer.devices)  # CPU processes have no device numbers
    accepted = tuple(inspect.signature(pl.Trainer).parameters)
    _check_keys(trainer, accepted, "lightning.trainer")
    return trainer
