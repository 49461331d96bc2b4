"""Load YAML configurations and build what they describe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ldm.errors import UserError
from ldm.util import instantiate_from_config


def load_config(*paths: str | Path, overrides: Sequence[str] = ()) -> DictConfig:
    """Merge YAML files from left to right, then ``a.b=c`` overrides.

    Raises:
        UserError: A file is missing or not a YAML mapping, or an override is not ``key=value``.
    """
    parts = [_read_yaml(Path(path)) for path in paths]
    for item in overrides:
        if "=" not in item:
            raise UserError(f"override {item!r} given; expected key=value, as model.params.x=1")
    try:
        return OmegaConf.merge(*parts, OmegaConf.from_dotlist(list(overrides)))
    except OmegaConfBaseException as error:
        raise UserError(
            f"configuration cannot be merged: {str(error).splitlines()[0]}; check the overrides "
            f"{list(overrides)} and the files {[str(p) for p in paths]}"
        ) from error


def _read_yaml(path: Path) -> DictConfig:
    if not path.is_file():
        raise UserError(f"config {str(path)!r} is no file; give the path of a YAML file")
    try:
        config = OmegaConf.load(path)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError) as error:
        reason = " ".join(str(error).split())
        what = f"config {str(path)!r} is no readable YAML ({reason})"
        raise UserError(f"{what}; correct it") from error
    if not isinstance(config, DictConfig):
        raise UserError(f"config {str(path)!r} holds no mapping; expected keys such as 'model'")
    return config


def build(config: DictConfig, path: str = "model", **extra: Any) -> Any:
    """Build the object that ``config`` describes at a dotted ``path``.

    Raises:
        UserError: Nothing at that path, or as ``instantiate_from_config``.
    """
    node = OmegaConf.select(config, path)
    if node is None:
        raise UserError(f"the configuration has no {path!r}; expected a mapping with 'target'")
    return instantiate_from_config(node, where=path, **extra)
