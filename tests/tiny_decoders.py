"""Tiny decoders of diffusers with random weights."""

from __future__ import annotations

import torch
from diffusers import AutoencoderTiny


def tiny(widths=(8, 8, 8, 8), blocks=(3, 3, 3, 1), **more):
    """diffusers' AutoencoderTiny with random weights; TAESD's is 64 wide."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoencoderTiny(
            encoder_block_out_channels=widths,
            decoder_block_out_channels=widths,
            num_encoder_blocks=blocks[::-1],
            num_decoder_blocks=blocks,
            **more,
        ).eval()
