"""Perturbed-attention guidance: away from what the model draws without structure.

arXiv:2403.17377. Shapes: B pictures, b rows of a call, heads, N queries and keys of self-attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.modules.attention_control.controller import Controller
from ldm.modules.attention_control.moments import Moment, Row
from ldm.modules.attention_control.sites import Site
from ldm.process.guidance import join_conditioning
from ldm.types import Conditioning


class PerturbedAttention(Controller):
    """Gives rows of the part ``perturbed`` the identity in place of their self-attention.

    Args:
        paths: Layers, or blocks that hold them; the published choice is the middle block.
    """

    def __init__(self, paths: Sequence[str] = ("middle_block",)) -> None:
        self.paths, self.is_met = tuple(paths), False

    def begin(self, sites: Sequence[Site]) -> None:
        there = [site.path for site in sites if site.kind == "self"]
        if not any(f"{path}.".startswith(f"{mine}.") for path in there for mine in self.paths):
            raise UserError(f"{self.paths} hold no self-attention; expected some of {there}")

    def wants(self, site: Site, moment: Moment) -> bool:  # noqa: ARG002
        chosen = any(f"{site.path}.".startswith(f"{mine}.") for mine in self.paths)
        return chosen and site.kind == "self"

    def __call__(self, probs: Tensor, site: Site, *told: Moment | Sequence[Row]) -> Tensor:  # noqa: ARG002
        perturbed = [number for number, row in enumerate(told[-1]) if row.part == "perturbed"]
        self.is_met |= bool(perturbed)
        used = probs.clone()
        used[perturbed] = torch.eye(probs.shape[-1], dtype=probs.dtype, device=probs.device)
        return used


@dataclass
class PerturbedGuidance:
    """uncond + scale (cond - uncond) + strength (cond - perturbed), from one call of the model.

    Attributes:
        attention: What controls the model's attention meanwhile, alone or in a ``Chain``.
        scale: Of classifier-free guidance; at 1 the batch goes without ``uncond``.
        strength: s of the paper, whose authors give 3 beside classifier-free guidance; 0 is none.
    """

    attention: PerturbedAttention
    scale: float = 1.0
    strength: float = 3.0

    @property
    def layout(self) -> tuple[str, ...]:
        return ("cond", "perturbed") if self.scale == 1.0 else ("uncond", "cond", "perturbed")

    def prepare(self, x: Tensor, t: Tensor, cond: Conditioning, uncond: Conditioning) -> tuple:
        self.attention.is_met, parts = False, len(self.layout)
        joined = None if cond is None else join_conditioning(cond, cond)
        if parts == 3:
            joined = join_conditioning(uncond, joined)
        return torch.cat([x] * parts), torch.cat([t] * parts), joined

    def combine(self, out: Tensor, t: Tensor) -> Tensor:  # noqa: ARG002 - the Guider interface
        if not self.attention.is_met:
            raise UserError("no attention was perturbed; draw inside control_attention(model, ...)")
        *uncond, cond, perturbed = out.chunk(len(self.layout))  # (B, C, h, w) each
        guided = uncond[0] + self.scale * (cond - uncond[0]) if uncond else cond
        return guided + self.strength * (cond - perturbed)
