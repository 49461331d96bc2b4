"""Find the safety checker's files on this machine; never downloads.

The layout is that of the hub's repository CompVis/stable-diffusion-safety-checker: ``config.json``,
the weights as ``model.safetensors`` or ``pytorch_model.bin``, and ``preprocessor_config.json``.
Stable Diffusion repositories have the same files in a subfolder, so those can be used too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ldm.checkpoint.download.hub_cache import snapshots
from ldm.errors import UserError
from ldm.paths import first_file, folder_fault, is_file

LOCAL_FOLDER = Path(__file__).resolve().parents[2] / "models" / "safety-checker"
WEIGHT_NAMES = (
    "model.safetensors",
    "pytorch_model.bin",
    "model.fp16.safetensors",
    "pytorch_model.fp16.bin",
)
# A repository on the hub, and the folder in it.
HUB_SOURCES = (
    ("CompVis/stable-diffusion-safety-checker", ""),
    ("CompVis/stable-diffusion-v1-4", "safety_checker"),
    ("stable-diffusion-v1-5/stable-diffusion-v1-5", "safety_checker"),
    ("runwayml/stable-diffusion-v1-5", "safety_checker"),
)


@dataclass(frozen=True)
class CheckerFiles:
    """The files of one safety checker; ``preprocessor`` is None if it has none."""

    config: Path
    weights: Path
    preprocessor: Path | None


def find_weights(path: str | Path | None = None) -> CheckerFiles | None:
    """Find the safety checker's files.

    Args:
        path: Their folder (or that of a diffusers model with a ``safety_checker`` folder); None
            looks in ``models/safety-checker`` and in the hub's local cache.

    Returns:
        The files, or None if no path was given and none were found.

    Raises:
        UserError: A path was given and is not such a folder.
    """
    if path is None:
        return next((files for folder in _usual_folders() if (files := _files_in(folder))), None)
    given = Path(path)
    files = _files_in(given) or _files_in(given / "safety_checker")
    if files is None:
        lacks = f"has no config.json with {WEIGHT_NAMES[0]} or {WEIGHT_NAMES[1]}"
        raise UserError(
            f"safety checker {given} {folder_fault(given) or lacks}; a folder laid out as "
            "CompVis/stable-diffusion-safety-checker is expected; get one with: "
            "python scripts/download_models.py safety-checker"
        )
    return files


def _usual_folders() -> Iterator[Path]:
    yield LOCAL_FOLDER
    for repository, sub_folder in HUB_SOURCES:
        for snapshot in snapshots(repository):
            yield snapshot / sub_folder


def _files_in(folder: Path) -> CheckerFiles | None:
    config = folder / "config.json"
    weights = first_file(folder / name for name in WEIGHT_NAMES)
    if weights is None or not is_file(config):
        return None
    name = "preprocessor_config.json"
    beside = (folder / name, folder.parent / "feature_extractor" / name)
    return CheckerFiles(config, weights, first_file(beside))
