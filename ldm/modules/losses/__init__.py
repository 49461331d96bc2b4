"""Losses of the first stages."""

from ldm.modules.losses.reconstruction import ReconstructionLoss

__all__ = ["ReconstructionLoss"]
