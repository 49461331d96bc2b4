"""Find a model's weights and configuration, in a model-zoo folder or in a training run's.

    FOLDER/config.yaml and FOLDER/model.ckpt                          CompVis's model zoo
    RUN/configs/*-project.yaml and RUN/checkpoints/last.ckpt          a run of main.py

Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from ldm.config import load_config
from ldm.errors import UserError

CHECKPOINTS = ("model.ckpt", "model.safetensors", "last.ckpt", "checkpoints/last.ckpt")
EXPECTED = (
    "expected a checkpoint file, a folder with config.yaml and model.ckpt (or model.safetensors), "
    "or the folder of a training run"
)


@dataclass(frozen=True)
class ModelFiles:
    """A model on disk.

    Attributes:
        ckpt: The weights.
        configs: YAML files, to be merged in this order.
        folder: The model's folder, or the run's.
    """

    ckpt: Path
    configs: tuple[Path, ...]
    folder: Path

    def load_config(self, overrides: tuple[str, ...] | list[str] = ()) -> DictConfig:
        """Merge the configuration, then ``a.b=c`` overrides.

        Raises:
            UserError: As ``ldm.config.load_config``.
        """
        return load_config(*self.configs, overrides=list(overrides))


def find_model_files(
    path: str | Path, flag: str = "--resume", config: str | Path | None = None
) -> ModelFiles:
    """Find the files of a model, given its checkpoint file or its folder.

    Args:
        path: The file, or the folder.
        flag: The flag that the path was given to, for the message.
        config: A YAML file to use in place of the one beside the checkpoint.

    Raises:
        UserError: No such path, no checkpoint in the folder, or no configuration with it.
    """
    given = Path(path)
    ckpt = given if given.is_file() else _checkpoint_in(given, flag)
    run = ckpt.resolve().parent.parent
    in_run = ckpt.resolve().parent.name == "checkpoints"
    if config is not None:
        return ModelFiles(ckpt, (Path(config),), run if in_run else ckpt.parent)
    if in_run and (found := find_configs(run)):
        return ModelFiles(ckpt, found, run)
    for near in (ckpt.with_suffix(".yaml"), ckpt.with_name("config.yaml")):
        if near.is_file():
            return ModelFiles(ckpt, (near,), ckpt.parent)
    raise UserError(
        f"{flag} {path}: no configuration belongs to {ckpt}; expected config.yaml beside it, or "
        f"configs/*-project.yaml in its training's folder; put it there, or add --config"
    )


def find_configs(folder: str | Path) -> tuple[Path, ...]:
    """Return the YAML files that describe a folder's model, oldest first; empty if there are none.

    A run that was resumed has one for each start.
    """
    folder = Path(folder)
    projects = tuple(sorted((folder / "configs").glob("*-project.yaml")))
    own = folder / "config.yaml"
    return projects or ((own,) if own.is_file() else ())


def _checkpoint_in(folder: Path, flag: str) -> Path:
    if not folder.is_dir():
        raise UserError(f"{flag} {folder}: nothing is there; {EXPECTED}; check the path")
    for name in CHECKPOINTS:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{flag} {folder}: the folder holds no checkpoint; {EXPECTED}")
