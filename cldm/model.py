"""Build a model from a YAML, and read weights, under ControlNet's names."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ldm.checkpoint.io import read_checkpoint
from ldm.config import build, load_config

logger = logging.getLogger(__name__)

__all__ = ["create_model", "get_state_dict", "load_state_dict"]


def get_state_dict(d: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the weights of what ``torch.load`` gave."""
    return d.get("state_dict", d)


def load_state_dict(ckpt_path: str, location: str = "cpu") -> dict[str, Tensor]:
    """Read a checkpoint's tensors; nothing in the file is executed.

    Args:
        ckpt_path: A ``.ckpt``, ``.pth`` or ``.safetensors`` file.
        location: The device they come to.

    Raises:
        UserError: The file is missing, damaged or asks to run code.
    """
    tensors = read_checkpoint(ckpt_path).tensors
    logger.info("loaded state_dict from %s", ckpt_path)
    device = torch.device(location)
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def create_model(config_path: str) -> nn.Module:
    """Build the model of a YAML on the CPU, with new weights.

    Raises:
        UserError: The file is missing, or describes no model.
    """
    model = build(load_config(config_path)).cpu()
    logger.info("loaded model config from %s", config_path)
    return model
