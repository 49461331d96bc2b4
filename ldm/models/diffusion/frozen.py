"""A diffusion model that is trained already, for what learns from it: frozen, with its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ldm.building import build_from
from ldm.checkpoint.default_config import find_configs
from ldm.checkpoint.folders import find_model_files
from ldm.checkpoint.load import for_inference, load_component
from ldm.config import load_config
from ldm.errors import UserError
from ldm.paths import at_home, is_file


def frozen_diffusion_model(path: str, ckpt_path: str | None) -> tuple[nn.Module, Mapping[str, Any]]:
    """Build the diffusion model at a path, frozen; return it with its UNet's parameters.

    On the meta device it has no weights.

    Raises:
        UserError: There is none.
    """
    given = at_home(path)
    configs = (given,) if is_file(given) else find_configs(given)
    if not configs:
        raise UserError(
            f"diffusion_path {path}: no configuration is there; expected a YAML file, or a folder "
            "with config.yaml or configs/*-project.yaml; correct model.params.diffusion_path"
        )
    config = load_config(*configs)
    # A ckpt_path in it is where that training began, not where it ended.
    model = build_from(for_inference(config.model), where=f"{configs[-1]}: model")
    if not model.betas.is_meta and not next(model.parameters()).is_meta:
        found = ckpt_path or find_model_files(_beside(given), "diffusion_path").ckpt
        load_component(model, found, prefix="diffusion_model.")
    return model.eval().requires_grad_(False), config.model.params.unet_config.params


def _beside(path: Path) -> Path:
    return path.parent if is_file(path) else path
