"""Measuring pictures: FID, KID, PSNR, SSIM, LPIPS and CLIP score."""
