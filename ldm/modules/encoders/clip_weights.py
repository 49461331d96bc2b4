"""Find and read the weights of a whole CLIP model on this machine; never downloads.

Reads the layouts of OpenAI's package (a TorchScript file), of open_clip and of transformers.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from ldm.checkpoint.diffusers.clip_keymaps import clip_model_from_transformers
from ldm.checkpoint.download.hub_cache import snapshots
from ldm.checkpoint.io import read_checkpoint
from ldm.errors import UserError
from ldm.paths import at_home, is_file, unreachable

FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin",
)
# Where OpenAI's own package keeps its downloads.
OPENAI_CACHE = Path("~/.cache/clip")
REPOSITORIES = {
    "ViT-L-14": ("openai/clip-vit-large-patch14", "timm/vit_large_patch14_clip_224.openai"),
    "ViT-B-32": ("openai/clip-vit-base-patch32", "timm/vit_base_patch32_clip_224.openai"),
    "ViT-B-16": ("openai/clip-vit-base-patch16", "timm/vit_base_patch16_clip_224.openai"),
}


def openai_architecture(version: str) -> str:
    """Return open_clip's name for OpenAI's name of a model: ``ViT-L/14`` is ``ViT-L-14``.

    Raises:
        UserError: OpenAI has published no such model, or its architecture is not supported here.
    """
    name = version.replace("/", "-")
    if name not in REPOSITORIES:
        known = ", ".join(n.replace("-", "/").replace("ViT/", "ViT-") for n in REPOSITORIES)
        raise UserError(f"CLIP version {version!r} given; expected one of {known}")
    return name


def fill_tower(tower: nn.Module, version: str, weights: str | Path | None, prefix: str) -> None:
    """Fill one of CLIP's towers with weights from this machine.

    Args:
        tower: A tower; one on the meta device is left for a checkpoint to fill.
        version: OpenAI's name of the model.
        weights: File or folder; None looks where OpenAI's package and the hub keep theirs.
        prefix: Prefix of the tower's names in a whole model.

    Raises:
        UserError: Nothing is found, or it does not fill the tower.
    """
    if any(parameter.is_meta for parameter in tower.parameters()):
        return
    path = _find(version, weights)
    state = _read(path)
    wanted = {prefix + name: value.shape for name, value in tower.state_dict().items()}
    unfit = [n for n in wanted if n not in state or state[n].shape != wanted[n]]
    if unfit:
        raise UserError(
            f"{path} does not hold CLIP {version}: {len(unfit)} of {len(wanted)} weights are "
            f"missing or of another shape ({', '.join(unfit[:3])}); expected those of the whole "
            "model, projections included; give the file of that version"
        )
    tower.load_state_dict({name.removeprefix(prefix): state[name] for name in wanted})


def _find(version: str, given: str | Path | None) -> Path:
    candidates = [at_home(given)] if given is not None else _usual_places(version)
    for place in candidates:
        if is_file(place):
            return place
        for name in FILES:
            if is_file(place / name):
                return place / name
    where = "this machine has none"
    if given is not None:
        where = f"{str(given)!r} {unreachable(given) or 'has none'}"
    raise UserError(
        f"weights of CLIP {version}: {where}; expected a file, or a folder with one of "
        f"{', '.join(FILES)}; set weights to it, or a program's --clip_ckpt (nothing is downloaded "
        "here)"
    )


def _usual_places(version: str) -> Iterator[Path]:
    name = openai_architecture(version)
    yield at_home(OPENAI_CACHE / f"{name}.pt")
    for repository in REPOSITORIES[name]:
        yield from snapshots(repository)


def _read(path: Path) -> dict[str, Tensor]:
    if _is_torchscript(path):
        # OpenAI publishes only TorchScript. Its code is not run: only the tensors are taken.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            state = torch.jit.load(str(path), map_location="cpu").state_dict()
        return {name: value.float() for name, value in state.items()}
    return clip_model_from_transformers(read_checkpoint(path).tensors)


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())
