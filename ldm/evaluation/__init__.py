"""Measuring pictures: FID, KID, PSNR, SSIM, LPIPS and CLIP score."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
