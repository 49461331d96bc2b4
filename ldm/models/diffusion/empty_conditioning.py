"""The empty conditioning of a hub, which guidance starts from (arXiv:2207.12598).

Shapes: B batch, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.models.diffusion.batch_conditioning import CLASS_KEYS
from ldm.types import Conditioning

# What the reference's models are conditioned on that is neither text nor class.
_WITHOUT_EMPTY_FORM = ("coordinates_bbox", "coordinates_center", "segmentation", "LR_image")


class EmptyConditioning:
    """What stands for no conditioning, mixed into a hub."""

    @torch.no_grad()
    def get_unconditional_conditioning(
        self, batch_size: int, null_label: Any = None
    ) -> Conditioning:
        """Encode the empty conditioning.

        Args:
            batch_size: B.
            null_label: What the conditioner is given in place of the empty text or class: a text, a
                class's number, or what ``get_learned_conditioning`` takes, of one row or of B.

        Returns:
            What ``get_learned_conditioning`` returns, of B rows.

        Raises:
            UserError: The conditioning has no empty form and ``null_label`` is None, or its rows
                are neither one nor B.
        """
        if null_label is None:
            null_label = empty_input(self, batch_size)
        if null_label is None:
            raise UserError(
                f"cond_stage_key {getattr(self, 'cond_stage_key', None)!r} has no empty"
                " conditioning; texts and classes have one; give what stands for it as null_label"
                " (unconditional_guidance_label of log_images), or draw without guidance"
            )
        encoded = self.get_learned_conditioning(_as_input(self, null_label))
        return _of_rows(encoded, batch_size, self.device)


def empty_input(model: Any, batch_size: int) -> Any:
    """Return what a hub's conditioner is given for nothing, B rows of it, or None.

    Texts have the empty one. Classes have what the conditioner's own
    ``get_unconditional_conditioning`` gives, else its last one, as in CompVis's cin256-v2.
    """
    conditioner, key = (
        getattr(model, "cond_stage_model", None),
        getattr(model, "cond_stage_key", ""),
    )
    if conditioner is None or model.model.conditioning_key is None:
        return None
    if key in CLASS_KEYS:
        own = getattr(conditioner, "get_unconditional_conditioning", None)
        if own is not None:
            return own(batch_size, device=model.device)
        last = getattr(conditioner, "n_classes", 0) - 1
        return None if last < 0 else _classes(model, torch.full((batch_size,), last))
    mapped = key == model.first_stage_key or model.model.conditioning_key == "concat"
    return None if mapped or key in _WITHOUT_EMPTY_FORM else [""] * batch_size


def _classes(model: Any, labels: Tensor) -> dict[str, Tensor]:
    key = getattr(model.cond_stage_model, "key", model.cond_stage_key)
    return {key: labels.to(model.device)}


def _as_input(model: Any, label: Any) -> Any:
    """Return what the conditioner takes for a label from a call or a configuration."""
    if isinstance(label, str):
        return [label]
    if isinstance(label, int):
        return _classes(model, torch.tensor([label]))
    if isinstance(label, Mapping):
        return {k: v.to(model.device) if isinstance(v, Tensor) else v for k, v in label.items()}
    if isinstance(label, Sequence):
        return list(label)
    return label.to(model.device) if hasattr(label, "to") else label


def _of_rows(encoded: Conditioning, count: int, device: torch.device) -> Conditioning:
    """Return an encoded conditioning with ``count`` rows; one row stands for all."""
    if isinstance(encoded, Mapping):
        return {key: _of_rows(value, count, device) for key, value in encoded.items()}
    if isinstance(encoded, list | tuple):
        return [_of_rows(value, count, device) for value in encoded]
    if len(encoded) not in (1, count):
        raise UserError(
            f"null_label of {len(encoded)} rows given; expected one, or {count} as the batch has"
        )
    rows = encoded if len(encoded) == count else encoded.repeat(count, *(1,) * (encoded.ndim - 1))
    return rows.to(device)
