"""A tiny model to train adapters on, pictures to train them with, and runs of main.py."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from tiny_model import write_tiny_model

import main


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 20, 3), np.uint8)
    Image.fromarray(pixels).save(path)


@dataclass
class Runs:
    """A folder with a tiny model, and what main.py makes of configurations there."""

    folder: Path
    base: Path

    def config(self, adapter: dict | None, **model: object) -> dict:
        """Return a run's configuration: two steps of batch 2, on pictures of noise."""
        params = {
            "base_config": str(self.folder / "config.yaml"),
            "ckpt_path": str(self.base),
            "monitor": None,
            **({} if adapter is None else {"adapter_config": adapter}),
            **model,
        }
        data = {
            "target": "ldm.data.subject.SubjectFolder",
            "params": {"root": str(self.folder / "subject"), "size": 16, "name": "thing"},
        }
        return {
            "model": {
                "base_learning_rate": 0.005,
                "target": "ldm.training.adapters.hub.AdaptedDiffusion",
                "params": params,
            },
            "data": {
                "target": "main.DataModuleFromConfig",
                "params": {"batch_size": 2, "num_workers": 0, "train": copy.deepcopy(data)},
            },
            "lightning": {
                "trainer": {"max_steps": 2, "log_every_n_steps": 1},
                "callbacks": {"image_logger": {"params": {"disabled": True}}},
            },
        }

    def start(self, name: str, config: dict, *arguments: str) -> int:
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return main.main(["-b", str(path), "-t", "-n", name, "-l", str(self.folder), *arguments])

    def go_on(self, name: str, *arguments: str) -> int:
        return main.main(["-r", str(self.run(name)), "-t", *arguments])

    def run(self, name: str) -> Path:
        (found,) = self.folder.glob(f"*_{name}")
        return found

    def checkpoint(self, name: str) -> dict:
        return torch.load(self.run(name) / "checkpoints" / "last.ckpt", weights_only=True)

    def file(self, name: str, ending: str = "safetensors") -> Path:
        return self.run(name) / "adapter" / f"{name}.{ending}"

    def weights(self) -> dict:
        return load_file(self.base)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    for number in range(3):
        picture(folder / "subject" / f"{number}.png", number)
    return Runs(folder, write_tiny_model(folder))
