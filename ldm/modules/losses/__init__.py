"""Losses of the first stages."""

from ldm.modules.losses.contperceptual import LPIPSWithDiscriminator
from ldm.modules.losses.reconstruction import ReconstructionLoss
from ldm.modules.losses.vqperceptual import VQLPIPSWithDiscriminator

__all__ = ["LPIPSWithDiscriminator", "ReconstructionLoss", "VQLPIPSWithDiscriminator"]
