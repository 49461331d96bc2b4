"""Find a model's weights and configuration, in a model-zoo folder or in a training run's.

    FOLDER/config.yaml and FOLDER/model.ckpt                          CompVis's model zoo
    RUN/configs/*-project.yaml and RUN/checkpoints/last.ckpt          a run of main.py

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from ldm.checkpoint.default_config import find_configs, own_config
from ldm.checkpoint.diffusers.json_files import INDEX, is_diffusers
from ldm.checkpoint.found_config import load_model_config
from ldm.errors import UserError
from ldm.paths import (
    MISSING,
    file_fault,
    folder_fault,
    is_file,
    is_folder,
    other_case,
    real_path,
)

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
        given: Whether the user gave the YAML, or trusts what it names.
        remedy: The flag to give it by; "" if there is none.
    """

    ckpt: Path
    configs: tuple[Path, ...]
    folder: Path
    given: bool = False
    remedy: str = "--config"

    def load_config(
        self, overrides: Sequence[str] = (), recorded: Sequence[str] = ()
    ) -> DictConfig:
        """Merge the configuration, then ``a.b=c`` overrides.

        Raises:
            UserError: As ``load_model_config``.
        """
        return load_model_config(
            *self.configs,
            given=self.given,
            overrides=overrides,
            recorded=recorded,
            remedy=self.remedy,
        )


def find_model_files(
    path: str | Path,
    flag: str = "--resume",
    config: str | Path | None = None,
    *,
    trust: bool = False,
) -> ModelFiles:
    """Find the files of a model, given its checkpoint file or its folder.

    Args:
        path: The file, or the folder.
        flag: The flag that the path was given to, for the message.
        config: A YAML file to use in place of the one beside the checkpoint.
        trust: Whether the YAML that is found may name any code, as a given one may.

    Raises:
        UserError: No such path, no checkpoint in the folder, or no configuration with it.
    """
    given = Path(path)
    ckpt = given if is_file(given) else _checkpoint_in(given, flag)
    run = real_path(ckpt).parent.parent
    in_run = real_path(ckpt).parent.name == "checkpoints"
    has_config = flag in ("--resume", "--ckpt")  # the model's own
    trusted = {"given": trust or config is not None, "remedy": "--config" if has_config else ""}
    if config is not None:
        return ModelFiles(ckpt, (Path(config),), run if in_run else ckpt.parent, **trusted)
    if in_run and (found := find_configs(run)):
        return ModelFiles(ckpt, found, run, **trusted)
    if near := own_config(ckpt):
        return ModelFiles(ckpt, (near,), ckpt.parent, **trusted)
    other = ", or add --config" if has_config else ""
    raise UserError(
        f"{flag} {path}: no configuration belongs to {ckpt}; expected config.yaml beside it, or "
        f"configs/*-project.yaml in its training's folder; put it there{other}"
    )


def check_model(path: Path, given: str, flag: str) -> Path:
    """Return the path of a checkpoint's file or a diffusers folder, which can be read.

    Args:
        path: Where it is.
        given: What the user gave, for the message.
        flag: The flag that it was given to.

    Raises:
        UserError: It is neither; the message says why.
    """
    if is_folder(path):
        own = None if is_diffusers(path) else f"is a folder without {INDEX}, so no diffusers model"
        fault = folder_fault(path) or own
    else:
        fault = file_fault(path)
    if fault:
        what = (
            f"{flag}: there is no file {given}" if fault == MISSING else f"{flag} {given} {fault}"
        )
        raise UserError(
            f"{what}; expected a .ckpt or .safetensors checkpoint, or a diffusers folder; check "
            "the path"
        )
    return path


def _checkpoint_in(folder: Path, flag: str) -> Path:
    if fault := folder_fault(folder):
        what = ": nothing is there" if fault == MISSING else f" {fault}"
        raise UserError(f"{flag} {folder}{what}; {EXPECTED}; check the path")
    for name in CHECKPOINTS:
        if found := other_case(folder, name):
            return found
    raise UserError(f"{flag} {folder}: the folder holds no checkpoint; {EXPECTED}")
