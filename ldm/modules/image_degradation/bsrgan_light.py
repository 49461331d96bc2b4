"""CompVis's import path of BSRGAN's degradation with milder steps."""

from __future__ import annotations

from functools import partial

from ldm.modules.image_degradation import degradation

degradation_bsrgan_variant = partial(
    degradation.degradation_bsrgan_variant, strength=degradation.LIGHT
)
