"""Read a diffusers folder's weights under CompVis's names.

A part is one file or several shards with an index, safetensors or pickled (read safely), in full
precision or a variant (``fp16``). If there are several, the one with the most precision is used.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from ldm.checkpoint.diffusers.json_files import KEPT, find_weights
from ldm.checkpoint.diffusers.keymaps import PARTS, unet_from_diffusers, vae_from_diffusers
from ldm.checkpoint.diffusers.text_keymaps import (
    clip_from_transformers,
    open_clip_from_transformers,
    stand_ins,
    text_kind,
)
from ldm.checkpoint.diffusers.to_json import betas_of
from ldm.checkpoint.diffusers.to_yaml import folder_config
from ldm.checkpoint.io import Checkpoint, read_checkpoint
from ldm.checkpoint.names import SCHEDULE, component_of
from ldm.errors import UserError
from ldm.paths import is_file

logger = logging.getLogger(__name__)

SECTIONS = ("unet_config", "first_stage_config", "cond_stage_config")


@dataclass(frozen=True)
class DiffusersModel:
    """A folder's model in this project's terms.

    Attributes:
        config: The configuration, from its JSON files or from the caller.
        checkpoint: Its weights by CompVis's names, and what a conversion kept beside them.
        files: The files that were read, by part.
    """

    config: DictConfig
    checkpoint: Checkpoint
    files: dict[str, list[Path]] = field(default_factory=dict)

    def completed(self, wanted: Mapping[str, Tensor]) -> tuple[Checkpoint, list[str]]:
        """Add stand-ins for what an open_clip text tower has and such a folder lacks.

        Args:
            wanted: The model's tensors; only their shapes are read.

        Returns:
            The weights, and the names of the stand-ins among them; see ``stand_ins``.
        """
        prefix = PARTS["text_encoder"]
        present = {n.removeprefix(prefix): v for n, v in self.checkpoint.tensors.items()}
        if text_kind(present) != "open_clip":
            return self.checkpoint, []
        shapes = {n.removeprefix(prefix): tuple(v.shape) for n, v in wanted.items()}
        made = {prefix + n: value for n, value in stand_ins(present, shapes).items()}
        return replace(self.checkpoint, tensors={**self.checkpoint.tensors, **made}), list(made)


def read_diffusers(path: str | Path, config: DictConfig | None = None) -> DiffusersModel:
    """Read a diffusers folder.

    Args:
        path: The folder.
        config: The configuration to name the weights by; None derives it from the folder.

    Raises:
        UserError: As ``folder_config``; or weights are missing, damaged, pickles that ask to run
            code, or have names that the configuration does not have.
    """
    path = Path(path)
    config = folder_config(path) if config is None else config
    files = {part: find_weights(path, part) for part in PARTS}
    weights = {part: _read(found) for part, found in files.items()}
    kept = _kept(path, config)
    checkpoint = Checkpoint(
        {**_renamed(weights, config), **kept.tensors},
        path,
        metadata=kept.metadata,
        global_step=kept.global_step,
    )
    return DiffusersModel(config, checkpoint, files)


def _kept(path: Path, config: DictConfig) -> Checkpoint:
    """Read what a conversion kept, without its schedule if the folder's has changed since."""
    if not is_file(path / KEPT):
        return Checkpoint({}, path)
    kept = read_checkpoint(path / KEPT)
    own, betas = betas_of(config.model.params), kept.tensors.get("betas")
    if betas is None or np.allclose(betas.float().numpy(), own, rtol=1e-4, atol=0.0):
        return kept
    logger.warning("%s holds another noise schedule than the folder; the folder's is used", KEPT)
    others = {n: v for n, v in kept.tensors.items() if component_of(n) != SCHEDULE}
    return replace(kept, tensors=others)


def _renamed(weights: Mapping[str, Mapping[str, Tensor]], config: DictConfig) -> dict[str, Tensor]:
    unet, autoencoder, text = (_section(config, name) for name in SECTIONS)
    open_clip = str(text.get("target")).endswith("FrozenOpenCLIPEmbedder")
    from_text = open_clip_from_transformers if open_clip else clip_from_transformers
    parts = {
        "unet": unet_from_diffusers(weights["unet"], unet["params"]),
        "vae": vae_from_diffusers(weights["vae"], autoencoder["params"]["ddconfig"]),
        "text_encoder": from_text(weights["text_encoder"]),
    }
    return {f"{PARTS[part]}{n}": v for part, state in parts.items() for n, v in state.items()}


def _section(config: DictConfig, name: str) -> dict[str, Any]:
    node = OmegaConf.select(config, f"model.params.{name}")
    if not isinstance(node, DictConfig):
        raise UserError(
            f"the configuration has {node!r} for model.params.{name}; expected a text-to-image "
            "model's, to name a diffusers folder's weights by; leave --config out"
        )
    return OmegaConf.to_container(node, resolve=True)


def _read(files: list[Path]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= read_checkpoint(file).tensors
    return tensors
