"""A model of the demo's kind, small enough to draw with in a blink, with random weights."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf
from safetensors.torch import save_file

from ldm.config import load_config
from ldm.util import instantiate_from_config

DEMO = Path(__file__).resolve().parents[1] / "configs" / "demo" / "txt2img.yaml"


def write_small_demo(folder: Path) -> tuple[Path, Path]:
    """Write config.yaml and model.safetensors into ``folder`` and return their paths."""
    unet = "model.params.unet_config.params"
    config = load_config(DEMO, overrides=[f"{unet}.model_channels=32", f"{unet}.num_res_blocks=1"])
    OmegaConf.save(config, folder / "config.yaml")
    save_file(instantiate_from_config(config.model).state_dict(), folder / "model.safetensors")
    return folder / "config.yaml", folder / "model.safetensors"
