"""DDIM under ControlNet's address; its hint may be missing from the empty prompt (guess mode)."""

from __future__ import annotations

from ldm.models.diffusion.ddim import DDIMSampler

__all__ = ["DDIMSampler"]
