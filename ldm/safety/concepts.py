"""The safety checker's network: compare a picture's CLIP embedding with fixed concepts.

Shape legend: B pictures, H W pixels, K concepts, S special-care concepts, D embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ldm.checkpoint.diffusers.json_files import parse_json
from ldm.checkpoint.io import read_checkpoint
from ldm.errors import UserError
from ldm.safety.weights import CheckerFiles

# What CLIP was trained with; a checker's preprocessor_config.json may say otherwise.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
# A picture that a special-care concept matches has this added to all its concept scores.
SPECIAL_CARE_ADJUSTMENT = 0.01

_VISION_SETTINGS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_channels",
    "image_size",
    "patch_size",
    "hidden_act",
    "layer_norm_eps",
)
_HEAD_TENSORS = (
    "visual_projection.weight",  # (D, hidden size)
    "concept_embeds",  # (K, D)
    "concept_embeds_weights",  # (K,), the threshold of each
    "special_care_embeds",  # (S, D)
    "special_care_embeds_weights",  # (S,)
)


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the network's input; the defaults are CLIP's.

    Attributes:
        resize: The shorter side after resizing, in pixels.
        crop: The side of the square cut from the middle, in pixels.
    """

    resize: int = 224
    crop: int = 224
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    resample: int = Image.Resampling.BICUBIC

    @classmethod
    def from_file(cls, path: Path | None, image_size: int) -> Preprocessing:
        """Read a ``preprocessor_config.json`` in the old style or the new."""
        found = _read_json(path) if path else {}
        return cls(
            resize=_side(found.get("size", image_size)),
            crop=_side(found.get("crop_size", image_size)),
            mean=tuple(found.get("image_mean", CLIP_MEAN)),
            std=tuple(found.get("image_std", CLIP_STD)),
            resample=found.get("resample", Image.Resampling.BICUBIC),
        )

    def __call__(self, pictures: np.ndarray) -> Tensor:
        """Prepare uint8 (B, H, W, 3) RGB pictures: float32 (B, 3, crop, crop), normalised."""
        squares = np.stack([self._square(picture) for picture in pictures])
        unit = squares.astype(np.float32) / 255.0
        mean, std = np.float32(self.mean), np.float32(self.std)
        return torch.from_numpy((unit - mean) / std).permute(0, 3, 1, 2).contiguous()

    def _square(self, picture: np.ndarray) -> np.ndarray:
        height, width = picture.shape[:2]
        short = min(height, width)
        # Truncated to whole pixels, as in CLIP's preprocessing.
        size = (self.resize * width // short, self.resize * height // short)
        resized = Image.fromarray(picture).resize(size, resample=self.resample)
        left, top = ((side - self.crop) // 2 for side in size)
        return np.asarray(resized.crop((left, top, left + self.crop, top + self.crop)))


@dataclass(frozen=True)
class Scores:
    """How close pictures are to the concepts: cosine minus each concept's threshold.

    Attributes:
        concepts: float64 (B, K), rounded to three digits; above 0 is a match.
        special_care: The same for special-care concepts, float64 (B, S).
    """

    concepts: np.ndarray
    special_care: np.ndarray


class ConceptModel:
    """CLIP's vision transformer, its projection, and the concepts' embeddings; float32.

    Building it draws no random numbers, so it can be loaded in the middle of a run.

    Args:
        files: From ``find_weights``.
        device: Where to compute.

    Raises:
        UserError: A file is damaged or incomplete, or transformers cannot be imported.
    """

    def __init__(self, files: CheckerFiles, device: str | torch.device = "cpu"):
        tensors = read_checkpoint(files.weights).tensors
        self.vision = load_vision(vision_settings(files.config), tensors, files.weights)
        self.vision.to(device)
        absent = [name for name in _HEAD_TENSORS if name not in tensors]
        if absent:
            raise _incomplete(files.weights, absent)
        head = (tensors[name].to(device, torch.float32) for name in _HEAD_TENSORS)
        self.projection, self.concepts, self.thresholds, self.special, self.special_thresholds = (
            head
        )
        self.preprocess = Preprocessing.from_file(
            files.preprocessor, _side(self.vision.config.image_size)
        )
        self.device = torch.device(device)

    @torch.no_grad()
    def embed(self, pictures: np.ndarray) -> Tensor:
        """Embed uint8 (B, H, W, 3) pictures as unit vectors (B, D)."""
        pixels = self.preprocess(pictures).to(self.device)  # (B, 3, crop, crop)
        pooled = self.vision(pixel_values=pixels).pooler_output  # (B, hidden size)
        return F.normalize(pooled @ self.projection.T)  # (B, D)

    def score(self, pictures: np.ndarray) -> Scores:
        """Score uint8 (B, H, W, 3) pictures against every concept."""
        embedding = self.embed(pictures)
        special = _above(embedding, self.special, self.special_thresholds).round(3)
        careful = (special > 0).any(1, keepdims=True)  # (B, 1)
        concepts = _above(embedding, self.concepts, self.thresholds)
        return Scores((concepts + SPECIAL_CARE_ADJUSTMENT * careful).round(3), special)


def _above(embedding: Tensor, concepts: Tensor, thresholds: Tensor) -> np.ndarray:
    """Return by how much each cosine exceeds its concept's threshold; float64 (B, concepts)."""
    cosine = embedding @ F.normalize(concepts).T
    return cosine.cpu().double().numpy() - thresholds.cpu().double().numpy()


def vision_settings(path: Path) -> dict[str, Any]:
    """Read the settings of the vision transformer in a ``config.json``: its own, or a whole CLIP's.

    Raises:
        UserError: It cannot be read.
    """
    config = _read_json(path)
    # Files from 2022 repeat the relevant entries, and the repeated ones count.
    given = {**config.get("vision_config", config), **(config.get("vision_config_dict") or {})}
    return {name: given[name] for name in _VISION_SETTINGS if name in given}


def load_vision(
    settings: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    path: Path,
    incomplete: Callable[[Path, list[str]], UserError] | None = None,
) -> torch.nn.Module:
    """Build CLIP's vision transformer without computing initial weights, and fill it.

    Args:
        settings: From ``vision_settings``.
        tensors: Of the file; those below ``vision_model.`` are used.
        path: The file.
        incomplete: Makes the error for tensors that do not fit; None is the safety checker's.

    Raises:
        UserError: Tensors are missing, unexpected or of another shape; transformers is not there.
    """
    config_class, model_class = _transformers_classes()
    with torch.device("meta"):
        model = model_class(config_class(**settings))
    # transformers 4 nests the network in a module "vision_model", 5 does not, and checkpoints
    # hold one level more than either: compare names without those levels.
    own = {name.removeprefix("vision_model."): name for name in model.state_dict()}
    given = {
        name.removeprefix("vision_model.").removeprefix("vision_model."): tensor
        for name, tensor in tensors.items()
        if name.startswith("vision_model.") and not name.endswith("position_ids")
    }
    wrong = sorted(own.keys() ^ given.keys())
    wrong += [name for name in own.keys() & given.keys() if _differ(model, own[name], given[name])]
    if wrong:
        raise (incomplete or _incomplete)(path, [f"vision_model.{name}" for name in wrong])
    state = {own[name]: tensor.float() for name, tensor in given.items()}
    model.load_state_dict(state, strict=True, assign=True)
    for module in model.modules():
        # Position ids are not weights: they were made on the meta device and have no values yet.
        if isinstance(getattr(module, "position_ids", None), Tensor):
            count = module.position_ids.shape[-1]
            module.position_ids = torch.arange(count).expand(1, -1)
    return model.eval().requires_grad_(False)


def _differ(model: torch.nn.Module, name: str, tensor: Tensor) -> bool:
    return model.get_parameter(name).shape != tensor.shape


def _transformers_classes() -> tuple[Any, Any]:
    try:
        from transformers import CLIPVisionConfig, CLIPVisionModel
    except ImportError as error:
        raise UserError(
            f"the safety checker needs transformers, which cannot be imported ({error}); "
            "run: pip install transformers, or switch the checker off with --safety_checker off"
        ) from error
    return CLIPVisionConfig, CLIPVisionModel


def _incomplete(path: Path, names: list[str]) -> UserError:
    return UserError(
        f"safety checker {path}: {len(names)} tensors are missing, unexpected or of another shape "
        f"than its config.json says (such as {names[0]}); expected the files of "
        "CompVis/stable-diffusion-safety-checker; get them again with: "
        "python scripts/download_models.py safety-checker"
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}); get the file again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object; get the file again")
    return content


def _side(value: Any) -> int:
    """Read a square's side from 224, [224, 224], {"shortest_edge": 224} or {"height": 224, ...}."""
    if isinstance(value, Mapping):
        return int(value.get("shortest_edge") or value["height"])
    return int(value[0] if isinstance(value, (list, tuple)) else value)
