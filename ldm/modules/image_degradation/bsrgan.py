"""CompVis's import path of BSRGAN's degradation."""

from __future__ import annotations

from ldm.modules.image_degradation.degradation import degradation_bsrgan_variant
from ldm.modules.image_degradation.kernels import blur

__all__ = ["blur", "degradation_bsrgan_variant"]
