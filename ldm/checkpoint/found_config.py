"""Read a model's configuration: one that comes with the weights may name ldm's networks, no more.

A YAML beside a checkpoint is the text of whoever made the file, and ``target`` names what is to be
imported and called. So what a user has not given by ``--config`` is checked as a whole before
anything in it is imported: each ``target``, each parameter that is a path, each number.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import ldm
from ldm.budgets import CONFIG_NUMBER, QUOTED
from ldm.building import STANDS_FOR, import_object
from ldm.checkpoint.default_config import find_configs
from ldm.config import load_config
from ldm.errors import UserError
from ldm.legible import legible, quoted
from ldm.paths import PathLike, at_home, is_file, is_folder, real_path
from ldm.yaml_files import children, dotted

logger = logging.getLogger(__name__)

ROOT = Path(ldm.__file__).resolve().parents[1]
# ControlNet's classes, which stand at its addresses and not in ldm.
CONTROL = {f"cldm.cldm.{name}" for name in ("ControlLDM", "ControlNet", "ControlledUnetModel")}
ALLOWED = {"torch.nn.Identity", *STANDS_FOR, *CONTROL}
# Classes of ours that published configurations name; to find out of others imports torch.
KNOWN = {
    "ldm.lr_scheduler.LambdaLinearScheduler",
    "ldm.lr_scheduler.LambdaWarmUpCosineScheduler",
    "ldm.lr_scheduler.LambdaWarmUpCosineScheduler2",
    "ldm.models.autoencoder.AutoencoderKL",
    "ldm.models.autoencoder.VQModel",
    "ldm.models.autoencoder.VQModelInterface",
    "ldm.models.diffusion.ddpm.LatentDiffusion",
    "ldm.models.diffusion.ddpm.LatentInpaintDiffusion",
    "ldm.modules.diffusionmodules.openaimodel.UNetModel",
    "ldm.modules.encoders.modules.BERTEmbedder",
    "ldm.modules.encoders.modules.ClassEmbedder",
    "ldm.modules.encoders.modules.FrozenCLIPEmbedder",
    "ldm.modules.encoders.modules.FrozenJapaneseCLIPEmbedder",
    "ldm.modules.encoders.modules.FrozenOpenCLIPEmbedder",
    "ldm.modules.encoders.modules.SpatialRescaler",
    "ldm.modules.losses.LPIPSWithDiscriminator",
    "ldm.modules.losses.VQLPIPSWithDiscriminator",
    "ldm.modules.losses.contperceptual.LPIPSWithDiscriminator",
}
# Whose classes need not be modules: what only training builds, of numbers alone.
PLAIN = (
    "ldm.lr_scheduler",
    "ldm.muon",
    "ldm.process.density",
    "ldm.process.loss",
    "ldm.process.weighting",
)
OURS = re.compile(r"ldm(\.[a-z]\w*)+\.[A-Z]\w*", re.ASCII)
# Built in training alone: drawing builds none of them, whatever they say.
TRAINING = ("lossconfig", "loss_config", "optimizer_config", "scheduler_config")
# Parameters that name a file or folder to read. ``ckpt_path`` is none of them: drawing ignores it.
PATHS = (
    "diffusion_ckpt_path",
    "diffusion_path",
    "path",
    "perceptual_weights",
    "remap",
    "tokenizer_path",
    "weights",
)
PLACES = ("models", "logs", "data")  # of the working directory or the repository
METHODS = ("encode", "forward")  # of a conditioner, for ``cond_stage_forward``
SHOWN = 5


def load_model_config(
    *paths: str | Path,
    given: bool,
    overrides: Sequence[str] = (),
    recorded: Sequence[str] = (),
    remedy: str = "--config",
) -> DictConfig:
    """Load a model's configuration, merged from left to right, then ``a.b=c`` overrides.

    Args:
        *paths: YAML files.
        given: Whether the user gave these files, or said that they may name any code.
        overrides: The user's own; they may name anything.
        recorded: Changes that a file records; they are as foreign as the files.
        remedy: The flag to give such a file by, for the message; "" if there is none.

    Raises:
        UserError: As ``load_config``; or a file that was not given names code that is not
            ldm's, a path elsewhere, or a number beyond every model.
    """
    what = f"config {', '.join(str(path) for path in paths)}"
    strict = partial(_check, what, _homes(paths), remedy)
    screen = partial(_announce, what) if given else strict
    return load_config(*paths, overrides=overrides, recorded=recorded, screen=screen)


def _announce(what: str, config: DictConfig) -> DictConfig:
    """Say what code besides ldm's a configuration names."""
    if foreign := foreign_code(_model(what, config)):
        words = "names code that is no network of ldm's, which is run"
        logger.warning("%s %s: %s", what, words, _list(foreign))
    return config


def _check(what: str, homes: Sequence[Path], remedy: str, config: DictConfig) -> DictConfig:
    """Refuse a configuration that asks for more than ldm's networks; return what counts of it."""
    model = _model(what, config)
    if foreign := foreign_code(model):
        raise UserError(
            f"{what} names code that is no network of ldm's: {_list(foreign)}; expected ldm's "
            "networks, losses and schedules alone in a file that comes with a model and was not "
            f"given by you; {_remedy(remedy)}"
        )
    for place, key, value in _parameters(model, ("model",)):
        if key == "diffusion_path" and (_is_near(value, homes) or _is_local_folder(value)):
            _check_diffusion_model(what, value)
        elif fault := _fault(key, value, homes):
            raise UserError(
                f"{what}: {dotted(place)} {quoted(value)} {fault}, in a file that comes "
                f"with a model and was not given by you; {_remedy(remedy)}"
            )
    return _without_other_targets(config)


def _check_diffusion_model(what: str, path: str) -> None:
    """Check the configuration that a classifier's own leads to; that one may lead no further."""
    given = at_home(path)
    configs = (given,) if is_file(given) else find_configs(given)

    def screen(config: DictConfig) -> DictConfig:
        inner = f"config {', '.join(map(str, configs))}"
        if any(key == "diffusion_path" for _, key, _ in _parameters(_model(inner, config), ())):
            raise UserError(
                f"{inner} has a diffusion_path, and {what} has this one as its own; expected a "
                "diffusion model's there; correct it"
            )
        return _check(inner, _homes(configs), "", config)

    if configs:  # who reads it says so otherwise
        load_config(*configs, screen=screen)


def _remedy(flag: str) -> str:
    given = f"give it by {flag}, or " if flag else ""
    return f"read it, and if you trust it {given}add --trust_config"


def check_numbers(config: DictConfig, what: str) -> None:
    """Check that what another program wrote asks for no network beyond every model's size.

    Raises:
        UserError: It names the place of a larger number.
    """
    for place, key, value in _parameters(_model(what, config), ("model",)):
        if _is_beyond(value):
            raise UserError(f"{what}: {dotted(place)} {_fault(key, value, ())}; fetch it again")


def _model(what: str, config: DictConfig) -> Any:
    """Return the model's part with its references put in."""
    try:
        node = OmegaConf.select(config, "model")
        return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    except (OmegaConfBaseException, RecursionError) as error:
        place = legible(str(getattr(error, "full_key", None) or "model"), QUOTED)
        reason = legible((str(error).splitlines() or [""])[0], QUOTED)
        raise UserError(
            f"{what}: {place} cannot be resolved ({reason}); expected a value; correct it"
        ) from error


def foreign_code(tree: Any) -> list[tuple[str, str]]:
    """List the targets in a model's configuration that are no classes of ldm, with their places.

    Nothing is imported unless all of them are ldm's by name; then ldm's own files alone.

    Args:
        tree: The part ``model`` as plain containers, resolved.
    """
    found = list(_targets(tree, ("model",)))
    strange = [each for each in found if not _looks_ours(each[1])]
    return strange or [each for each in found if not _is_ours(each[1])]


def _targets(node: Any, place: tuple[str | int, ...]) -> Iterator[tuple[str, str]]:
    for key, value in children(node):
        if key == "target" and isinstance(value, str):
            yield dotted((*place, key)), value
        else:
            yield from _targets(value, (*place, key))


def _looks_ours(target: str) -> bool:
    return target in ALLOWED or OURS.fullmatch(target) is not None


def _is_ours(target: str) -> bool:
    """Check that a name of ldm's is that of a class of its own, which is a network or plain."""
    if target in ALLOWED or target in KNOWN:
        return True
    try:
        found = import_object(target)
    except UserError:
        return False
    if not isinstance(found, type) or not found.__module__.startswith("ldm."):
        return False
    if found.__module__ in PLAIN:
        return True
    from torch import nn

    return issubclass(found, nn.Module)


def _list(foreign: Sequence[tuple[str, str]]) -> str:
    shown = [
        f"{legible(ascii(target)[1:-1], QUOTED)} ({place})" for place, target in foreign[:SHOWN]
    ]
    more = len(foreign) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _parameters(
    node: Any, place: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], str | int, Any]]:
    """Yield every value that drawing may build something by, with its place and its key."""
    for key, value in children(node):
        if key in TRAINING:
            continue
        yield (*place, key), key, value
        yield from _parameters(value, (*place, key))


def _fault(key: str | int, value: Any, homes: Sequence[Path]) -> str:
    """Say what a parameter may not be, as the end of a sentence; "" if it may."""
    if _is_beyond(value):
        return f"is a number beyond {CONFIG_NUMBER}"
    if key in PATHS and value is not None and not _is_near(value, homes):
        return f"is a path outside the model's folder ({', '.join(PLACES)} are allowed too)"
    if key == "base_config" and isinstance(value, str):
        # Nobody has checked what stands there.
        return "leads to another configuration, as an adapter's run does: draw with its model"
    if key == "weights" and isinstance(value, str):
        return "names a file of weights to read"
    if key == "cond_stage_forward" and value is not None and value not in METHODS:
        return f"is none of the methods {', '.join(METHODS)}"
    return ""


def _is_beyond(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) > CONFIG_NUMBER


def _is_near(path: Any, homes: Sequence[Path]) -> bool:
    real = _local(path) and real_path(_local(path))
    return real is not None and any(real.is_relative_to(home) for home in homes)


def _is_local_folder(path: Any) -> bool:
    """Check for a folder: a classifier's diffusion model may be any that holds a checked YAML."""
    place = _local(path)
    return place is not None and is_folder(place)


def _local(path: Any) -> Path | None:
    """Return a path on this machine; None for what is none, such as a share of another's."""
    foreign = not isinstance(path, str) or path.startswith(("//", "\\\\"))
    return None if foreign else at_home(path)


def _homes(configs: Sequence[PathLike]) -> list[Path]:
    """Return the folders that configurations may name files in: theirs, and the usual ones."""
    own = [real_path(path).parent for path in configs]
    own = [folder.parent if folder.name == "configs" else folder for folder in own]
    return own + [real_path(base / name) for base in (Path(), ROOT) for name in PLACES]


def _without_other_targets(config: DictConfig) -> DictConfig:
    """Take out what names code beside the model: data and callbacks, which drawing never builds."""
    for key, value in OmegaConf.to_container(config, resolve=False).items():
        if key != "model" and not isinstance(value, str):
            config[key] = _untargeted(value)
    return config


def _untargeted(node: Any) -> Any:
    if isinstance(node, list):
        return [_untargeted(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    return {key: _untargeted(value) for key, value in node.items() if key != "target"}
