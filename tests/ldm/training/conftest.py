"""Run main.py in the test's process, or in one of its own, in a folder of the test's own."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from preloaded import run_main

import main

DENOISER = {
    "model": {
        "base_learning_rate": 0.01,
        "target": "training_parts.Denoiser",
        "params": {},
    },
    "data": {
        "target": "main.DataModuleFromConfig",
        "params": {
            "batch_size": 4,
            "num_workers": 0,
            "train": {"target": "training_parts.Pictures"},
            "validation": {"target": "training_parts.Pictures", "params": {"length": 6}},
        },
    },
    "lightning": {
        "trainer": {"max_steps": 7, "log_every_n_steps": 1, "val_check_interval": 5},
        "callbacks": {"image_logger": {"params": {"disabled": True}}},
    },
}


@dataclass
class Workplace:
    """A folder with one configuration; ``main`` runs with it, ``run`` is what it made."""

    folder: Path

    def write(self, config: dict) -> Path:
        path = self.folder / "config.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return path

    def start(self, name: str, *arguments: str) -> int:
        """Train from the beginning."""
        base = ["-b", str(self.folder / "config.yaml"), "-t", "-n", name, "-l", str(self.folder)]
        return main.main([*base, *arguments])

    def go_on(self, name: str, *arguments: str) -> int:
        """Resume the run of that name from its folder."""
        return main.main(["-r", str(self.run(name)), "-t", *arguments])

    def start_apart(self, name: str, *arguments: str) -> None:
        """Train from the beginning, in a process of its own that may fork."""
        config = str(self.folder / "config.yaml")
        self._apart("-b", config, "-t", "-n", name, "-l", str(self.folder), *arguments)

    def go_on_apart(self, name: str, *arguments: str) -> None:
        """Resume the run of that name from its folder, in a process of its own."""
        self._apart("-r", str(self.run(name)), "-t", *arguments)

    def _apart(self, *arguments: str) -> None:
        code, output = run_main(*arguments, cwd=self.folder)
        assert code == 0, output

    def run(self, name: str) -> Path:
        (found,) = self.folder.glob(f"*_{name}")
        return found

    def checkpoint(self, name: str) -> dict:
        path = self.run(name) / "checkpoints" / "last.ckpt"
        return torch.load(path, weights_only=True)

    def figures(self, name: str, figure: str) -> dict[int, str]:
        """Return step -> figure, as written."""
        with (self.run(name) / "metrics.csv").open(encoding="utf-8") as file:
            return {int(row["step"]): row[figure] for row in csv.DictReader(file) if row[figure]}


@pytest.fixture
def work(tmp_path):
    workplace = Workplace(tmp_path)
    workplace.write(DENOISER)
    return workplace
