"""Degrade pictures, to train super-resolution models; the names are CompVis's."""

from pkgutil import extend_path

from ldm.modules.image_degradation.bsrgan import degradation_bsrgan_variant as degradation_fn_bsr
from ldm.modules.image_degradation.bsrgan_light import (
    degradation_bsrgan_variant as degradation_fn_bsr_light,
)

__path__ = extend_path(__path__, __name__)
__all__ = ["degradation_fn_bsr", "degradation_fn_bsr_light"]
