"""Process large maps in overlapping, blended patches: the reference's ``split_input_params``.

A patch sees nothing of the rest, so seams are hidden, not absent. For an autoencoder,
``ldm.models.tiling.tiled`` gives the same picture as in one piece. For a UNet trained on small
pictures, such as a super-resolution model, patches are the way to large ones: each has the size
that it was trained on.

Shapes: B batch, C channels, H W the sides of the map that is cut.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.modules.attention_control.parts import Part, seeing
from ldm.modules.distributions.distributions import DiagonalGaussianDistribution

Weighting = Callable[[int, int, int, int, torch.device], Tensor]
"""What ``SplitInput.weighting`` does, such as a hub's ``get_weighting``."""


@dataclass(frozen=True)
class SplitInput:
    """How a map is cut and blended; the field names are the reference's.

    Attributes:
        ks: Sides of a patch, in elements of the map that is cut: latent ones for the UNet and the
            decoder, pixels for the encoder.
        stride: Distance from one patch to the next; the last one is moved to end with the map.
        vqf: Pixels per latent element along a side.
        patch_distributed_vq: Cut for the autoencoder too, not only for the UNet.
        tie_braker: Also weight patches by how near the middle of the map they are.
        clip_min_weight, clip_max_weight: Limits of an element's weight, which is its distance from
            the patch's edge as a fraction of the side.
        clip_min_tie_weight, clip_max_tie_weight: The same for a patch's weight.
        original_image_size: Kept for CompVis, whose hub notes it here.
    """

    ks: tuple[int, int]
    stride: tuple[int, int]
    vqf: int = 1
    patch_distributed_vq: bool = False
    tie_braker: bool = False
    clip_min_weight: float = 0.01
    clip_max_weight: float = 0.5
    clip_min_tie_weight: float = 0.01
    clip_max_tie_weight: float = 0.5
    original_image_size: Any = None

    def __post_init__(self) -> None:
        sides = (*self.ks, *self.stride, self.vqf)
        too_far = any(s > k for s, k in zip(self.stride, self.ks, strict=True))
        if min(sides) < 1 or too_far or self.clip_min_weight <= 0:
            raise UserError(
                f"split_input_params ks {self.ks}, stride {self.stride}, vqf {self.vqf},"
                f" clip_min_weight {self.clip_min_weight} given; expected sides of 1 or more, no"
                " stride above its side, a weight above 0; otherwise parts stay uncovered"
            )

    @classmethod
    def of(cls, params: Mapping[str, Any] | SplitInput) -> SplitInput:
        """Make one from the reference's dictionary.

        Raises:
            UserError: An unknown or missing name, or sides that leave gaps.
        """
        if isinstance(params, cls):
            return params
        known = [field.name for field in fields(cls)]
        unknown = set(params) - set(known)
        if unknown or not {"ks", "stride"} <= set(params):
            raise UserError(
                f"split_input_params has {', '.join(sorted(params))}; it needs ks and stride, and"
                f" may have {', '.join(known[2:])}"
            )
        sides = {key: tuple(params[key]) for key in ("ks", "stride")}
        return cls(**{**params, **sides})

    def weighting(
        self,
        h: int,
        w: int,
        Ly: int,  # noqa: N803 - the reference's names
        Lx: int,  # noqa: N803
        device: torch.device | str,
        distance: Callable[[int, int], Tensor] | None = None,
    ) -> Tensor:
        """Weigh the elements of all patches.

        Args:
            h, w: Sides of a patch.
            Ly, Lx: Number of patches down and across.
            device: Where the weights are made.
            distance: In place of ``edge_distance``.

        Returns:
            Weights (1, h w, Ly Lx).
        """
        distance = distance or edge_distance
        inside = distance(h, w).clamp(self.clip_min_weight, self.clip_max_weight)
        weights = inside.reshape(1, h * w, 1).repeat(1, 1, Ly * Lx).to(device)
        if not self.tie_braker:
            return weights
        whole = distance(Ly, Lx).clamp(self.clip_min_tie_weight, self.clip_max_tie_weight)
        return weights * whole.reshape(1, 1, Ly * Lx).to(device)


def blend(
    function: Callable[[Tensor, tuple[slice, slice]], Tensor],
    x: Tensor,
    split: SplitInput,
    scale: Fraction = Fraction(1),
    weighting: Weighting | None = None,
) -> Tensor:
    """Run a function over patches of x (B, C, H, W) and blend the results.

    Args:
        function: Takes a patch (B, C, h, w) and its slices of x; returns (B, C', h s, w s).
        x: The map.
        split: How it is cut.
        scale: s, output pixels per input pixel along a side.
        weighting: In place of ``SplitInput.weighting``.

    Returns:
        (B, C', H s, W s), in the dtype of the function's results.

    Raises:
        UserError: ``scale`` does not map patches or strides to whole numbers.
    """
    size = tuple(x.shape[-2:])
    ks = tuple(min(k, n) for k, n in zip(split.ks, size, strict=True))
    places = [starts_along(n, k, s) for n, k, s in zip(size, ks, split.stride, strict=True)]
    edges = {*ks, *size, *places[0], *places[1]}
    if any((edge * scale).denominator != 1 for edge in edges):
        raise UserError(
            f"patches of {split.ks} with stride {split.stride} on a map of {size} do not scale by"
            f" {scale} to whole numbers; choose multiples of {scale.denominator}"
        )
    total, weights, counts = 0.0, 0.0, [len(starts) for starts in places]
    for k, corner in enumerate(itertools.product(*places)):
        where = tuple(slice(i, i + n) for i, n in zip(corner, ks, strict=True))
        out = function(x[..., where[0], where[1]], where)
        if k == 0:
            sides = [int(n * scale) for n in size]
            total = out.new_zeros((*out.shape[:2], *sides), dtype=torch.float32)
            weights = total.new_zeros(sides)
            of_each = (weighting or split.weighting)(*out.shape[2:], *counts, out.device)
        weight = of_each[0, :, k].reshape(out.shape[2:])
        rows, columns = (slice(int(s.start * scale), int(s.stop * scale)) for s in where)
        total[..., rows, columns] += out.float() * weight
        weights[rows, columns] += weight
    return (total / weights).to(out.dtype)


def starts_along(length: int, side: int, stride: int) -> list[int]:
    """Return where patches begin along a side; the last patch ends with the side."""
    return [*range(0, length - side, stride), length - side]


def edge_distance(height: int, width: int) -> Tensor:
    """Return each element's distance to the nearest edge, as a fraction of the side: (H, W)."""
    sides = [torch.arange(n, dtype=torch.float32) / max(n - 1, 1) for n in (height, width)]
    near = [torch.minimum(side, 1 - side) for side in sides]
    return torch.minimum(near[0][:, None], near[1][None, :])


def denoise_in_patches(
    predict: Callable[[Tensor, Tensor, Any], Tensor],
    x: Tensor,
    t: Tensor,
    cond: dict[str, Any] | None,
    split: SplitInput,
    weighting: Weighting | None = None,
) -> Tensor:
    """Run the UNet over patches of x (B, C, h, w); maps in ``cond`` are cut too, tokens are not.

    Adapters are told which patch it is, see ``ldm.modules.attention_control.parts``.

    ``weighting`` takes the place of ``SplitInput.weighting``.

    Raises:
        UserError: A map's size differs from x's.
    """
    maps = (cond or {}).get("c_concat") or []
    if any(m.shape[-2:] != x.shape[-2:] for m in maps):
        raise UserError(
            f"c_concat of {[tuple(m.shape) for m in maps]} given for a latent of {tuple(x.shape)};"
            " in patches every map needs the latent's sides"
        )

    def one(patch: Tensor, where: tuple[slice, slice]) -> Tensor:
        cut = {"c_concat": [m[..., where[0], where[1]] for m in maps]} if maps else {}
        rows, columns = ((side.start, side.stop) for side in where)
        with seeing(Part(rows, columns, *x.shape[-2:])):
            return predict(patch, t, {**cond, **cut} if maps else cond)

    return blend(one, x, split, weighting=weighting)


def code_in_patches(
    function: Callable[[Tensor], Any],
    x: Tensor,
    params: Mapping[str, Any] | SplitInput,
    *,
    up: bool,
    weighting: Weighting | None = None,
) -> Any:
    """Encode or decode x (B, C, H, W), in patches if ``patch_distributed_vq`` is set.

    A posterior's moments are blended, so that a latent can be sampled from the whole at once.

    Args:
        function: ``encode`` or ``decode`` of a first stage.
        x: Pictures or latents.
        params: See ``SplitInput``.
        up: Whether ``function`` is ``decode``.
        weighting: In place of ``SplitInput.weighting``.
    """
    split = SplitInput.of(params)
    if not split.patch_distributed_vq:
        return function(x)
    kinds = set()

    def one(patch: Tensor, where: tuple[slice, slice]) -> Tensor:  # noqa: ARG001 - one size fits
        out = function(patch)
        kinds.add(isinstance(out, DiagonalGaussianDistribution))
        return out.parameters if isinstance(out, DiagonalGaussianDistribution) else out

    scale = Fraction(split.vqf) if up else Fraction(1, split.vqf)
    blended = blend(one, x, split, scale, weighting)
    return DiagonalGaussianDistribution(blended) if kinds == {True} else blended
