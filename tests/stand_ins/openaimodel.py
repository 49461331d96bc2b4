"""In place of ``ldm.modules.diffusionmodules.openaimodel``: a UNet of the first version's kind."""

import torch
from torch import nn

from ldm.modules.attention import SpatialTransformer
from ldm.modules.diffusionmodules.util import timestep_embedding


class TimestepBlock(nn.Module):
    pass


class TimestepEmbedSequential(nn.Sequential, TimestepBlock):
    def forward(self, x, emb, context=None):
        for layer in self:
            x = layer(x, context) if isinstance(layer, SpatialTransformer) else layer(x)
        return x


class AttentionBlock(nn.Module):
    pass


class ResBlock(TimestepBlock):
    pass


class Upsample(nn.Module):
    pass


class Downsample(nn.Module):
    pass


class EncoderUNetModel(nn.Module):
    pass


class UNetModel(nn.Module):
    def __init__(
        self, image_size, in_channels, model_channels, out_channels, context_dim, **kwargs
    ):
        super().__init__()
        self.model_channels, self.dtype, width = model_channels, torch.float32, model_channels
        self.time_embed = nn.Sequential(nn.Linear(width, 4 * width))
        first = nn.Conv2d(in_channels, width, 3, padding=1)
        attention = SpatialTransformer(width, 2, width // 2, depth=1, context_dim=context_dim)
        self.input_blocks = nn.ModuleList([TimestepEmbedSequential(first)])
        self.middle_block = TimestepEmbedSequential(attention)
        self.output_blocks = nn.ModuleList([TimestepEmbedSequential(nn.Identity())])
        self.out = nn.Sequential(nn.Conv2d(width, out_channels, 3, padding=1))

    def forward(self, x, timesteps=None, context=None, y=None, **kwargs):
        emb = self.time_embed(timestep_embedding(timesteps, self.model_channels, repeat_only=False))
        h = self.input_blocks[0](x, emb, context)
        return self.out(self.output_blocks[0](self.middle_block(h, emb, context), emb, context))
