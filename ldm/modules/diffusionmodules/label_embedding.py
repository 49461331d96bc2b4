"""What a UNet makes of a row's label y: an addition to its time embedding.

Shapes: B batch, D width of the time embedding, V width of a vector.

| num_classes    | y      |                                                         |
|----------------|--------|---------------------------------------------------------|
| a number       | (B,)   | class numbers from 0, each with a learned row           |
| ``continuous`` | (B, 1) | a quantity                                              |
| ``sequential`` | (B, V) | a vector of ``adm_in_channels`` numbers (SD 2's unclip) |
"""

from __future__ import annotations

from torch import Tensor, nn

from ldm.errors import UserError
from ldm.modules.diffusionmodules.util import linear

KINDS = ("continuous", "sequential")


def label_embedding(num_classes: int | str, adm_in_channels: int | None, width: int) -> nn.Module:
    """Make the layers from y to (B, D).

    Args:
        num_classes: See the table above.
        adm_in_channels: V of ``sequential``, else None.
        width: D.

    Raises:
        UserError: Another word, or ``sequential`` and ``adm_in_channels`` not together.
    """
    if (num_classes == "sequential") != (adm_in_channels is not None):
        raise UserError(
            f"num_classes {num_classes!r} and adm_in_channels {adm_in_channels} given; expected "
            "'sequential' and a width, or neither; correct one of them"
        )
    if num_classes == "continuous":
        return linear(1, width)
    if num_classes == "sequential":
        layers = linear(adm_in_channels, width), nn.SiLU(), linear(width, width)
        return nn.Sequential(nn.Sequential(*layers))
    if isinstance(num_classes, str):
        raise UserError(
            f"num_classes {num_classes!r} given; expected a number, {' or '.join(KINDS)}; "
            "correct the configuration"
        )
    return nn.Embedding(num_classes, width)


def check_labels(y: Tensor | None, embedding: nn.Module | None, rows: int) -> None:
    """Refuse labels that are missing, unwanted or of another shape.

    Args:
        y: The labels.
        embedding: What ``label_embedding`` made, or None without labels.
        rows: B.

    Raises:
        ValueError: They do not fit.
    """
    if (y is not None) != (embedding is not None):
        raise ValueError("class labels y go with num_classes; give both or neither")
    if y is None:
        return
    expected = (rows,) if isinstance(embedding, nn.Embedding) else (rows, _width(embedding))
    if tuple(y.shape) != expected:
        raise ValueError(f"y has shape {tuple(y.shape)}; expected {expected}")


def _width(embedding: nn.Module) -> int:
    """Return how many numbers a row of y has."""
    return next(m.in_features for m in embedding.modules() if isinstance(m, nn.Linear))
