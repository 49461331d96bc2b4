"""Mark what a picture is of, by a network in an ONNX file: U2-Net, IS-Net, BiRefNet.

These are the files that rembg uses. Nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ldm.errors import UserError, in_words
from ldm.paths import file_fault

IMAGENET = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)
"""Mean and deviation of colours that U2-Net and BiRefNet are trained with."""
ISNET = np.array([[0.5, 0.5, 0.5], [1.0, 1.0, 1.0]], np.float32)
"""Those of IS-Net, which is told from the others by its file's name alone."""
_CARD, _PROCESSOR = "CUDAExecutionProvider", "CPUExecutionProvider"
_SIDE = 1024  # where a file leaves the size open
_ADVICE = "give the ONNX file of U2-Net, IS-Net or BiRefNet, such as rembg's"


def by_network(picture: Image.Image, path: str | Path, device: str = "auto") -> np.ndarray:
    """Return the mask of what a picture is of, uint8 (H, W), with soft edges.

    Args:
        picture: RGB.
        path: The ONNX file.
        device: Where it computes: ``cpu``, ``cuda``, ``cuda:1``; ``auto`` is cuda if available.

    Raises:
        UserError: There is no such file, it is another kind of network, onnxruntime is not
            installed, or is not for this device.
    """
    if fault := file_fault(path):
        raise UserError(f"--model {path} {fault}; expected an ONNX file; {_ADVICE}")
    runtime = _runtime()
    providers = _providers(runtime, device)
    try:
        session = runtime.InferenceSession(str(path), providers=providers)
        given = _input_of(session, path)
        made = session.run(None, {given.name: _prepared(picture, given, path)})[0]
    except UserError:
        raise
    except Exception as error:  # the library raises anything for a damaged file
        raise UserError(
            f"--model {path} cannot be run by onnxruntime ({in_words(error)[:300]}); {_ADVICE}"
        ) from error
    return _as_mask(np.asarray(made, np.float32), picture.size, path)


def _runtime() -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise UserError(
            "networks in ONNX files need the package onnxruntime, which is not installed; run: "
            'pip install -e ".[repair]", or leave --model out for GrabCut'
        ) from error
    return onnxruntime


def _providers(runtime: Any, device: str) -> list[Any]:
    """Return what onnxruntime is to compute with, the first before the others.

    Raises:
        UserError: A device was named that onnxruntime is not for.
    """
    there, name = runtime.get_available_providers(), device.partition(":")[0]
    card = _CARD in there and name in ("auto", "cuda")
    if not card and name not in ("auto", "cpu"):
        raise UserError(
            f"--device {device} was given, but the onnxruntime that is installed computes with "
            f"{', '.join(there)}; expected cpu; leave it out, or install onnxruntime-gpu"
        )
    number = device.partition(":")[2] or "0"
    return [(_CARD, {"device_id": number}), _PROCESSOR] if card else [_PROCESSOR]


def _input_of(session: Any, path: str | Path) -> Any:
    inputs = session.get_inputs()
    shapes = [each.shape for each in inputs]
    if len(inputs) != 1 or len(shapes[0]) != 4 or shapes[0][1] != 3:
        raise UserError(
            f"--model {path} takes {shapes}; expected one RGB picture (1, 3, H, W); {_ADVICE}"
        )
    return inputs[0]


def _prepared(picture: Image.Image, given: Any, path: str | Path) -> np.ndarray:
    """Return the picture as the network takes it: (1, 3, h, w)."""
    height, width = (side if isinstance(side, int) else _SIDE for side in given.shape[2:])
    small = np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS), np.float32)
    small /= max(float(small.max()), 1.0)  # the brightest is white, as in their training
    mean, deviation = ISNET if "isnet" in Path(path).name.lower() else IMAGENET
    x = ((small - mean) / deviation).transpose(2, 0, 1)[None]
    return np.ascontiguousarray(x, np.float16 if "float16" in given.type else np.float32)


def _as_mask(made: np.ndarray, size: tuple[int, int], path: str | Path) -> np.ndarray:
    """Return what a network made, of probabilities or their logits, as a mask of a size."""
    if made.ndim not in (3, 4) or made.shape[0] != 1 or (made.ndim == 4 and made.shape[1] != 1):
        raise UserError(
            f"--model {path} makes {made.shape}; expected one mask (1, 1, h, w); {_ADVICE}"
        )
    made = made.reshape(made.shape[-2:])
    if not np.isfinite(made).all():
        raise UserError(f"--model {path} makes NaN or infinite values; {_ADVICE}")
    if made.min() < 0.0 or made.max() > 1.0:
        made = 1.0 / (1.0 + np.exp(-made.clip(-60.0, 60.0)))
    low, high = float(made.min()), float(made.max())
    unit = (made - low) / (high - low) if high > low else np.full_like(made, float(high >= 0.5))
    found = Image.fromarray((255.0 * unit).round().astype(np.uint8))
    return np.asarray(found.resize(size, Image.Resampling.BICUBIC))
