"""From a batch of training data to what the conditioner takes, and what is left out of it.

Shapes: B batch, C channels, H W sides, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.models.training_parts import pictures_from

CLASS_KEYS = ("class_label", "cls")
"""Entries for which the conditioner is given the whole batch, as CompVis's ``ClassEmbedder`` is."""


def conditioner_input(batch: Mapping[str, Any], key: str) -> Any:
    """Take from a batch what the conditioner encodes.

    Args:
        batch: Collated training data.
        key: The hub's ``cond_stage_key``.

    Returns:
        A list of B texts; the batch itself for classes; token numbers (B, L) as they are; pictures
        and maps as (B, C, H, W) float32.

    Raises:
        UserError: The batch has no such entry.
    """
    if key not in batch:
        raise UserError(
            f"cond_stage_key {key!r} is not in the data, which has {', '.join(sorted(batch))}; "
            "correct model.params.cond_stage_key or the data set"
        )
    if key in CLASS_KEYS:
        return batch
    entry = batch[key]
    if not isinstance(entry, Tensor):
        return list(entry)
    return pictures_from(batch, key) if entry.is_floating_point() else entry


def batch_size(c: Any, key: str) -> int:
    """Count the rows of what ``conditioner_input`` gave."""
    return len(c[key] if isinstance(c, Mapping) else c)


def drop_some(c: Any, key: str, share: float, conditioner: Any) -> Any:
    """Replace a share of the conditioning by ``empty_of``, for guidance (arXiv:2207.12598).

    Args:
        c: Of ``conditioner_input``; left as it is.
        key: The hub's ``cond_stage_key``.
        share: 0 to 1; one uniform number is drawn for each row when above 0.
        conditioner: See ``empty_of``.

    Raises:
        UserError: A share above 0 for conditioning that has no empty form.
    """
    if share <= 0:
        return c
    kept = torch.rand(batch_size(c, key)) >= share
    empty = empty_of(c, key, conditioner)
    if empty is None:
        raise UserError(
            f"cond_dropout {share} given, but {key!r} has no empty form; texts and classes have"
            " one; leave model.params.cond_dropout out"
        )
    if isinstance(c, list):
        return [text if keep else "" for text, keep in zip(c, kept, strict=True)]
    labels = torch.as_tensor(c[key])
    return {**c, key: torch.where(kept.to(labels.device), labels, empty[key])}


def empty_of(c: Any, key: str, conditioner: Any) -> Any:
    """Return the empty conditioning of the same rows, as ``conditioner_input`` gives it, or None.

    The empty text is ``""``; the empty class is the conditioner's last, as in CompVis's cin256-v2.
    """
    if isinstance(c, list):
        return [""] * len(c)
    classes = getattr(conditioner, "n_classes", None)
    if isinstance(c, Mapping) and classes is not None:
        return {key: torch.full_like(torch.as_tensor(c[key]), classes - 1)}
    return None


def precomputed(batch: Mapping[str, Any], key: str, share: float) -> Tensor | None:
    """Take an encoded conditioning (B, L, D) from a batch that carries one, else None.

    ``<key>_embedding`` is the conditioning, ``<key>_empty`` (B, L, D) the empty one.

    Raises:
        UserError: Some are to be left out and the batch has no empty one.
    """
    encoded = batch.get(f"{key}_embedding")
    if encoded is None or share <= 0:
        return encoded
    empty = batch.get(f"{key}_empty")
    if empty is None:
        raise UserError(
            f"cond_dropout {share} given, but the precomputed data has no {key}_empty; "
            "write it anew with scripts/precompute_latents.py"
        )
    kept = torch.rand(len(encoded)) >= share
    return torch.where(kept[:, None, None].to(encoded.device), encoded, empty.to(encoded))


def is_routed(c: Any) -> bool:
    """Check whether a conditioning is a dict that says where each part enters the UNet.

    What a conditioner takes never is, so nothing in it is to be encoded.
    """
    return isinstance(c, Mapping) and bool({"c_concat", "c_crossattn"} & set(c))


def first_rows(batch: Mapping[str, Any], count: int | None, device: torch.device) -> dict[str, Any]:
    """Take the first rows of every entry of a batch to a device, or all of them for None.

    Entries may be batches themselves; a number for the whole batch has no rows, and stays.
    """
    return {key: _rows(entry, count, device) for key, entry in batch.items()}


def _rows(entry: Any, count: int | None, device: torch.device) -> Any:
    if isinstance(entry, Mapping):
        return first_rows(entry, count, device)
    if isinstance(entry, Tensor):
        return (entry[:count] if entry.ndim else entry).to(device)
    has_rows = hasattr(entry, "__getitem__") and not isinstance(entry, str | bytes)
    return entry[:count] if has_rows and getattr(entry, "ndim", 1) else entry
