"""Models for demonstrations: the published ones, or stand-ins for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from ldm.checkpoint.found_config import load_model_config
from ldm.checkpoint.load import load_model
from ldm.data.synsets import read_synsets
from ldm.errors import UserError
from ldm.paths import is_file
from ldm.pipelines.models import DEMO_CHECKPOINT, DEMO_CONFIG, find
from ldm.pipelines.pipeline import resolve_device
from ldm.pipelines.progress import Notice, Observer, log_events

MODELS = {
    "class_conditional": (
        "models/ldm/cin256-v2/model.ckpt",
        "configs/latent-diffusion/cin256-v2.yaml",
    ),
    "superresolution": ("models/ldm/bsr_sr/model.ckpt", "models/ldm/bsr_sr/config.yaml"),
}
"""Weights and configuration by what the model does; the names are CompVis's."""
DEMO_CLASSES = (
    "a photo of a panda on a red background",
    "a photo of a frog on a pink background",
    "a photo of a rocket on a blue background",
    "a photo of an apple on a white background",
    "a photo of a pizza on a yellow background",
)


class CaptionClasses(nn.Module):
    """Classes of a text model: each is a caption, and the last one, for guidance, the empty text.

    Args:
        text_encoder: The text model's conditioner.
        captions: One for each class except the last.
    """

    def __init__(self, text_encoder: nn.Module, captions: Sequence[str]) -> None:
        super().__init__()
        self.text_encoder, self.captions = text_encoder, [*captions, ""]
        self.n_classes = len(self.captions)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return tokens (B, L, D) for ``batch["class_label"]`` (B,), as ``ClassEmbedder`` does."""
        return self.text_encoder([self.captions[int(label)] for label in batch["class_label"]])


def model_for(mode: str, device: str = "auto", observer: Observer = log_events) -> nn.Module | None:
    """Load the model of a mode.

    Args:
        mode: A key of ``MODELS``.
        device: As for ``resolve_device``.
        observer: Called with notices that say which model it is, and why.

    Returns:
        The model. If its weights are missing, the demo model with captions as its classes stands
        in for the class-conditional one; for super-resolution, None is returned.

    Raises:
        UserError: No such mode or device.
    """
    if mode not in MODELS:
        raise UserError(f"mode {mode!r} given; expected {' or '.join(MODELS)}")
    ckpt, config = map(find, MODELS[mode])
    if is_file(ckpt):
        observer(Notice(f"Loading {ckpt}."))
        described = load_model_config(config, given=False, remedy="")
        return load_model(described, ckpt, device=resolve_device(device))[0]
    observer(Notice(f"{ckpt} is missing; put the published weights there to use them."))
    if mode == "superresolution":
        return None
    observer(Notice("Drawing with the small demo model, whose classes are a few captions."))
    model, _ = load_model(find(DEMO_CONFIG), find(DEMO_CHECKPOINT), device=resolve_device(device))
    model.cond_stage_model = CaptionClasses(model.cond_stage_model, DEMO_CLASSES)
    model.cond_stage_key = "class_label"
    return model


def class_name(model: nn.Module, label: int) -> str:
    """Return the name of a class of a model from ``model_for``; the empty class is ``none``."""
    captions = getattr(model.cond_stage_model, "captions", None)
    names = captions or [name.split(",")[0] for name in read_synsets().values()]
    return names[label] if label < len(names) and names[label] else "none"
