"""Hints by networks from local folders: depth, edges, limbs. Nothing is ever downloaded.

Depth goes through transformers: a folder of MiDaS, DPT, ZoeDepth or Depth-Anything with
``config.json``, ``preprocessor_config.json`` and weights. HED and OpenPose go through
controlnet_aux, from folders with the files that its networks have (lllyasviel/Annotators).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ldm.errors import UserError
from ldm.hints.filters import as_picture
from ldm.paths import folder_fault, is_file

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_METRIC = ("zoedepth", "depth_pro")
"""Models of transformers that tell how far things are, not how near."""
_LEAST = 64  # pixels: controlnet_aux rounds sides to multiples of this, small ones to nothing
_FILES = {
    "HEDdetector": ("ControlNetHED.pth",),
    "OpenposeDetector": ("body_pose_model.pth", "hand_pose_model.pth", "facenet.pth"),
}


def depth(picture: Image.Image, model: str, device: str) -> Image.Image:
    """Return how near everything is: white is nearest, black is farthest.

    Args:
        picture: RGB.
        model: Folder of a network that estimates depth.
        device: Where it computes; ``auto`` is CUDA where there is one.

    Raises:
        UserError: The folder is not there, or does not hold such a network.
    """
    import torch

    network, processor = _load_depth(Path(model))
    where = device_named(device)
    inputs = processor(images=picture, return_tensors="pt").to(where)
    with torch.inference_mode():
        predicted = network.to(where)(**inputs).predicted_depth.float()  # (1, h, w)
    size = picture.size[::-1]
    far = torch.nn.functional.interpolate(
        predicted[:, None], size=size, mode="bicubic", align_corners=False
    )[0, 0]
    return as_picture(_nearness(far.cpu().numpy(), network.config))


def _nearness(values: np.ndarray, config: Any) -> np.ndarray:
    """Return values (H, W) from 0 to 255, larger for what is nearer."""
    metric = getattr(config, "depth_estimation_type", "relative") == "metric"
    if metric or config.model_type in _METRIC:
        values = 1 / np.maximum(values, 1e-3)
    span = float(np.ptp(values))
    return (values - values.min()) * (255 / span if span > 0 else 0)


def _load_depth(folder: Path) -> tuple[Any, Any]:
    """Return a network of transformers and what prepares its pictures."""
    from transformers import AutoImageProcessor, AutoModelForDepthEstimation

    files = ("config.json", "preprocessor_config.json")
    build = AutoModelForDepthEstimation.from_config
    return read_folder(folder, "depth", build, AutoImageProcessor, files)


def read_folder(
    folder: Path, what: str, build: Callable[[Any], Any], processor: Any, files: tuple[str, ...]
) -> tuple[Any, Any]:
    """Return a network of transformers from a folder, and what prepares its inputs.

    The weights are read by ``ldm.checkpoint``, which runs nothing that a pickle asks for.

    Args:
        folder: Where it is.
        what: What it is called in messages.
        build: Makes the network of a configuration.
        processor: The class that prepares inputs.
        files: What the folder has to hold besides the weights.

    Raises:
        UserError: The folder is not there, or does not hold such a network.
    """
    from ldm.checkpoint.io import read_checkpoint

    wanted = _require(folder, files)
    weights = next((folder / name for name in _WEIGHTS if is_file(folder / name)), None)
    if weights is None:
        raise UserError(f"{folder} has no weights; expected {' or '.join(_WEIGHTS)}; {wanted}")
    from transformers import AutoConfig

    tensors = dict(read_checkpoint(weights).tensors)
    try:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
        made = build(config).eval()
        missing = made.load_state_dict(tensors, strict=False).missing_keys
        prepares = processor.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # the library raises anything for a damaged file
        raise UserError(
            f"{folder} holds no {what} network that transformers reads "
            f"({' '.join(str(error).split())[:200]}); {wanted}"
        ) from error
    if missing:
        raise UserError(
            f"{weights} lacks {len(missing)} of the network's tensors, such as {missing[0]}; "
            f"{wanted}"
        )
    return made, prepares


def hed(picture: Image.Image, model: str, device: str) -> Image.Image:
    """Return soft edges by the HED network of controlnet_aux.

    Args:
        picture: RGB.
        model: Folder with ControlNetHED.pth.
        device: As for ``depth``.

    Raises:
        UserError: The package or the folder is not there.
    """
    return _detected("HEDdetector", picture, model, device)


def openpose(picture: Image.Image, model: str, device: str) -> Image.Image:
    """Return people's limbs in the colours of OpenPose, by controlnet_aux.

    Args:
        picture: RGB.
        model: Folder with body_pose_model.pth, hand_pose_model.pth and facenet.pth.
        device: As for ``depth``.

    Raises:
        UserError: The package or the folder is not there.
    """
    return _detected("OpenposeDetector", picture, model, device)


def _detected(name: str, picture: Image.Image, model: str, device: str) -> Image.Image:
    """Return what a detector of controlnet_aux makes of a picture, in the picture's size."""
    folder = Path(model)
    wanted = _require(folder, _FILES[name])
    try:
        import controlnet_aux
    except ImportError as error:
        raise UserError(
            f"the package controlnet_aux is needed for {name} and cannot be imported "
            f"({' '.join(str(error).split())[:200]}); run: pip install controlnet_aux"
        ) from error
    try:
        detector = (
            getattr(controlnet_aux, name).from_pretrained(str(folder)).to(device_named(device))
        )
    except Exception as error:  # as above
        raise UserError(
            f"{folder} cannot be read by controlnet_aux's {name} "
            f"({' '.join(str(error).split())[:200]}); {wanted}"
        ) from error
    side = max(_LEAST, min(picture.size))
    found = detector(picture, detect_resolution=side, image_resolution=side)
    return found.convert("RGB").resize(picture.size, Image.Resampling.BILINEAR)


def _require(folder: Path, files: tuple[str, ...]) -> str:
    """Check that a folder has some files; return what to do where they turn out to be useless."""
    advice = "download the model by yourself and give its folder as model"
    if fault := folder_fault(folder):
        raise UserError(f"{folder} {fault}; expected a folder with {', '.join(files)}; {advice}")
    if absent := [name for name in files if not is_file(folder / name)]:
        raise UserError(f"{folder} lacks {', '.join(absent)}; expected the whole model; {advice}")
    return advice


def device_named(name: str) -> Any:
    """Return a device by its name; ``auto`` is CUDA where there is one."""
    import torch

    return torch.device(name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
