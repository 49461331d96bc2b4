"""What there is to choose, as AUTOMATIC1111 lists it. Files go by their names, without folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from apps.server.sdapi.faces import restorers
from apps.server.sdapi.options import Model
from apps.server.sdapi.second_pass import networks
from apps.server.sdapi.upscaling import UPSCALERS
from ldm.pipelines.adapter_files import EMBEDDINGS, LORAS, Shelf, on_shelf

NOTHING: dict[str, Any] = {
    "hypernetworks": [],
    "realesrgan-models": [],
    "prompt-styles": [],
    "sd-vae": [],
    "sd-modules": [],
    "scripts": {"txt2img": [], "img2img": []},
    "script-info": [],
    "cmd-flags": {},
}
"""Lists that clients ask for, and of which nothing is here."""


def list_models(model: Model) -> list[dict[str, Any]]:
    """Return the model that is served."""
    return [
        {
            "title": model.title,
            "model_name": model.name,
            "hash": model.hash,
            "sha256": None,
            "filename": model.file,
            "config": None,
        }
    ]


def list_loras() -> list[dict[str, Any]]:
    """Return the LoRAs on the shelf, by the names that prompts call them."""
    return [
        {"name": path.stem, "alias": path.stem, "path": _below(path, LORAS), "metadata": {}}
        for path in on_shelf(LORAS)
    ]


def list_embeddings() -> dict[str, Any]:
    """Return the embeddings on the shelf; what is in them is not read for that."""
    about: dict[str, Any] = dict.fromkeys(
        ("step", "sd_checkpoint", "sd_checkpoint_name", "shape", "vectors")
    )
    return {"loaded": {path.stem: about for path in on_shelf(EMBEDDINGS)}, "skipped": {}}


def list_upscalers() -> list[dict[str, Any]]:
    """Return the ways to make pictures larger."""
    nothing = {"model_name": None, "model_path": None, "model_url": None}
    return [{"name": name, **nothing, "scale": 4.0} for name in (*UPSCALERS, *networks())]


def list_restorers() -> list[dict[str, Any]]:
    """Return what redraws faces."""
    return [{"name": path.stem, "cmd_dir": None} for path in restorers()]


def _below(path: Path, shelf: Shelf) -> str:
    for place in shelf.places:
        if path.is_relative_to(place):
            return path.relative_to(place).as_posix()
    return path.name
