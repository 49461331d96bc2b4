"""docs/training.md says what is so: its own dataset trains, its commands and settings exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import main
from ldm.settings.command_line import build_parser as build_settings_parser
from ldm.settings.latents import PrecomputeSettings
from ldm.training.arguments import build_parser, parse

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python main\.py (.*?)(?:#.*)?$", PAGE.replace("\\\n", " "), re.MULTILINE)


def block(language: str, containing: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    (found,) = [text for text in blocks if containing in text]
    return found


def test_there_are_commands_on_the_page():
    assert len(COMMANDS) >= 4


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_is_understood_and_its_configurations_exist(command):
    options = parse(shlex.split(command.replace("<", "_").replace(">", "_")))
    assert options.train
    assert all((ROOT / path).is_file() for path in options.base)
    assert options.base or options.resume


def test_every_flag_the_page_names_exists():
    known = {flag for action in build_parser()._actions for flag in action.option_strings}
    other = build_settings_parser(PrecomputeSettings, "")
    known |= {flag for action in other._actions for flag in action.option_strings}
    of_main = re.sub(r"(python (scripts|benchmarks)/|torchrun ).*", "", PAGE)
    named = set(re.findall(r"(?<![\w-])--[a-z_-]+[a-z]", of_main))
    assert named >= {"--max_time", "--resume"}
    assert named <= known


def test_the_dataset_of_the_page_trains_an_autoencoder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_pictures.py").write_text(block("python", "CaptionedFolder"), encoding="utf-8")
    for folder in ("pictures/train", "pictures/validation"):
        (tmp_path / folder).mkdir(parents=True)
        for name in ("a", "b"):
            pixels = np.random.default_rng(ord(name)).integers(0, 256, (40, 50, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{name}.png")
            (tmp_path / folder / f"{name}.txt").write_text(f"noise {name} 雑音", encoding="utf-8")
    config = yaml.safe_load((ROOT / "configs/demo/autoencoder_kl_f4.yaml").read_text("utf-8"))
    config.update(yaml.safe_load(block("yaml", "my_pictures.CaptionedFolder")))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    quick = "data.params.num_workers=0 model.params.ddconfig.ch_mult=[1,1,1] --max_steps 1"
    assert main.main(["-b", "mine.yaml", "-t", *quick.split(), "--val_check_interval", "1"]) == 0
    (checkpoint,) = tmp_path.glob("logs/*_mine/checkpoints/last.ckpt")
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 1
