"""What a YAML says of the model that an adapter is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

import ldm
from ldm.building import check_parameters, import_object
from ldm.checkpoint.load import for_inference
from ldm.config import load_config
from ldm.errors import UserError
from ldm.paths import at_home, exists

ROOT = Path(ldm.__file__).resolve().parents[1]
OF_ITS_TRAINING = (
    "cond_dropout",
    "cond_stage_trainable",
    "ema_decay",
    "ignore_keys",
    "l_simple_weight",
    "learn_logvar",
    "load_only_unet",
    "logvar_init",
    "loss_config",
    "loss_type",
    "monitor",
    "optimizer_config",
    "original_elbo_weight",
    "scheduler_config",
    "snr_gamma",
    "timestep_density",
    "unet_trainable",
    "use_ema",
)
"""Parameters that say how the model was trained: an adapter's own YAML says how that is."""


def base_params(given: str | Path | Mapping[str, Any], hub: type) -> dict[str, Any]:
    """Return the parameters that describe a model, without those of its training.

    Args:
        given: A model's YAML, from the working directory or the repository's root; or what stands
            there under ``model``.
        hub: The class that is to be built with them.

    Raises:
        UserError: It cannot be read, or is of a model that ``hub`` does not train.
    """
    if isinstance(given, Mapping | DictConfig):
        model = given
    else:
        path = at_home(given)
        config = load_config(path if exists(path) else ROOT / path)
        OmegaConf.resolve(config)
        model = config.get("model")
    if not model or "target" not in model:
        raise UserError(
            f"base_config {str(given)!r} has no model with a target; expected the YAML of a model, "
            "such as configs/stable-diffusion/v1-inference.yaml; give one"
        )
    described = for_inference(model)
    target, params = described["target"], described.get("params") or {}
    cls = import_object(target, where="base_config.model.target")
    if not (isinstance(cls, type) and issubclass(hub, cls)):
        raise UserError(
            f"base_config is of a {target.rpartition('.')[2]}, which {hub.__name__} does not train;"
            " expected a LatentDiffusion, or an inpainting model for AdaptedInpaintDiffusion; "
            "change model.target"
        )
    check_parameters(cls, params, "base_config.model")
    return {name: value for name, value in params.items() if name not in OF_ITS_TRAINING}
