"""Every YAML that ships builds, every class that it names exists, and nothing in it is ignored."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, ListConfig, OmegaConf

from ldm.config import load_config
from ldm.errors import UserError
from ldm.util import get_obj_from_str, instantiate_from_config

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("configs", "models", "optimizedSD")
# Files that start a training describe no model: tests/ldm/training/test_launching.py reads them.
YAMLS = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.yaml")
    if path.parent != ROOT / "configs" / "launch"
)


def titled(paths: list[Path]) -> list:
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in paths]


def models() -> list:
    """Return every model that a YAML describes: the file and the section."""
    sections = [(path, name) for path in YAMLS for name in load_config(path) if "model" in name]
    return [pytest.param(*pair, id=f"{pair[0].relative_to(ROOT)}:{pair[1]}") for pair in sections]


MODELS = models()


def targets(node, where: str = "") -> list[tuple[str, str]]:
    """Return (YAML path, class name) of every `target:` at any depth."""
    if isinstance(node, ListConfig):
        return [found for i, item in enumerate(node) for found in targets(item, f"{where}[{i}]")]
    if not isinstance(node, DictConfig):
        return []
    found = [(f"{where}.target", node.target)] if isinstance(node.get("target"), str) else []
    for key in node:
        found += targets(node[key], f"{where}.{key}".lstrip("."))
    return found


def without_files(node):
    """Return a configuration with no ``ckpt_path``: published weights are not part of the code."""
    if isinstance(node, ListConfig):
        return [without_files(item) for item in node]
    if not isinstance(node, DictConfig):
        return node
    return DictConfig({k: without_files(node[k]) for k in node if k != "ckpt_path"})


def test_there_are_configs_to_test():
    assert ROOT / "configs/stable-diffusion/v1-inference.yaml" in YAMLS


@pytest.mark.parametrize("path", titled(YAMLS))
def test_a_shipped_config_describes_a_model(path):
    assert any(path == found.values[0] for found in MODELS)


@pytest.mark.parametrize(("path", "section"), MODELS)
def test_the_model_of_a_shipped_config_builds(path, section):
    with torch.device("meta"):
        config = load_config(path)
        OmegaConf.resolve(config)
        model = instantiate_from_config(without_files(config[section]))
    state = model.state_dict()
    assert state
    assert all(tensor.is_meta for tensor in state.values() if tensor.ndim > 1), "weights were made"


@pytest.mark.parametrize("path", titled(YAMLS))
def test_every_target_of_a_shipped_config_exists(path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)  # main.DataModuleFromConfig
    for where, name in targets(load_config(path)):
        try:
            get_obj_from_str(name)
        except Exception as error:
            pytest.fail(f"{where} names {name}: {error}")


@pytest.mark.parametrize(("path", "section"), MODELS)
def test_a_misspelt_parameter_of_a_shipped_config_is_refused(path, section):
    config = without_files(load_config(path)[section])
    config.params.monitr = "val/loss"
    with torch.device("meta"), pytest.raises(UserError, match="monitr"):
        instantiate_from_config(config)
