"""Losses of the first stages."""

from pkgutil import extend_path

from ldm.modules.losses.contperceptual import LPIPSWithDiscriminator
from ldm.modules.losses.reconstruction import ReconstructionLoss
from ldm.modules.losses.vqperceptual import VQLPIPSWithDiscriminator

__path__ = extend_path(__path__, __name__)
__all__ = ["LPIPSWithDiscriminator", "ReconstructionLoss", "VQLPIPSWithDiscriminator"]
