"""A fork of ControlNet's kind: a second encoder steers the UNet by zero convolutions.

Shapes: B batch, C channels, H W pixels, h w latent sides.
"""

from __future__ import annotations

import torch
from torch import nn

from ldm.models.diffusion.ddpm import LatentDiffusion
from ldm.modules.attention import SpatialTransformer
from ldm.modules.diffusionmodules.openaimodel import (
    AttentionBlock,
    Downsample,
    ResBlock,
    TimestepEmbedSequential,
    UNetModel,
)
from ldm.modules.diffusionmodules.util import (
    conv_nd,
    linear,
    timestep_embedding,
    zero_module,
)
from ldm.util import exists, instantiate_from_config, log_txt_as_img

from .control_sampler import SteeredDDIM


class SteeredUNet(UNetModel):
    """The UNet, walked block by block; what the control gives is added to the skips."""

    def forward(self, x, timesteps=None, context=None, control=None, only_mid=False, **kwargs):
        with torch.no_grad():
            emb = self.time_embed(timestep_embedding(timesteps, self.model_channels))
            h, skips = x.type(self.dtype), []
            for block in self.input_blocks:
                h = block(h, emb, context)
                skips.append(h)
            h = self.middle_block(h, emb, context)
        hints = None if control is None else list(control)
        h = h if hints is None else h + hints.pop()
        for block in self.output_blocks:
            skip = skips.pop()
            if hints is not None and not only_mid:
                skip = skip + hints.pop()
            h = block(torch.cat([h, skip], dim=1), emb, context)
        return self.out(h.type(x.dtype))


class Control(nn.Module):
    """The side network: a hint (B,3,H,W) in [0, 1] to one map for each skip and the middle."""

    def __init__(
        self,
        in_channels,
        model_channels,
        hint_channels,
        channel_mult=(1, 2),
        num_heads=2,
        context_dim=None,
        dims=2,
        use_linear_in_transformer=False,
    ):
        super().__init__()
        self.dims, self.model_channels = dims, model_channels
        width = 4 * model_channels
        self.time_embed = nn.Sequential(
            linear(model_channels, width), nn.SiLU(), linear(width, width)
        )
        first = conv_nd(dims, in_channels, model_channels, 3, padding=1)
        self.input_blocks = nn.ModuleList([TimestepEmbedSequential(first)])
        self.zero_convs = nn.ModuleList([self.zero(model_channels)])
        self.hint_block = TimestepEmbedSequential(
            conv_nd(dims, hint_channels, 16, 3, padding=1),
            nn.SiLU(),
            conv_nd(dims, 16, 16, 3, padding=1, stride=2),
            nn.SiLU(),
            zero_module(conv_nd(dims, 16, model_channels, 3, padding=1)),
        )
        ch = model_channels
        for level, mult in enumerate(channel_mult):
            out = mult * model_channels
            layers = [ResBlock(ch, width, 0.0, out_channels=out, dims=dims, use_checkpoint=False)]
            ch = out
            if level:
                layers.append(
                    SpatialTransformer(
                        ch,
                        num_heads,
                        ch // num_heads,
                        depth=1,
                        context_dim=context_dim,
                        disable_self_attn=False,
                        use_linear=use_linear_in_transformer,
                        use_checkpoint=False,
                    )
                )
            self._add(TimestepEmbedSequential(*layers), ch)
            if level < len(channel_mult) - 1:
                down = Downsample(ch, True, dims=dims, out_channels=ch)
                self._add(TimestepEmbedSequential(down), ch)
        attention = AttentionBlock(
            ch, use_checkpoint=False, num_heads=num_heads, num_head_channels=-1
        )
        self.middle_block = TimestepEmbedSequential(
            ResBlock(ch, width, 0.0, dims=dims), attention, ResBlock(ch, width, 0.0, dims=dims)
        )
        self.middle_out = self.zero(ch)

    def _add(self, block, channels):
        self.input_blocks.append(block)
        self.zero_convs.append(self.zero(channels))

    def zero(self, channels):
        conv = conv_nd(self.dims, channels, channels, 1, padding=0)
        return TimestepEmbedSequential(zero_module(conv))

    def forward(self, x, hint, timesteps, context):
        emb = self.time_embed(timestep_embedding(timesteps, self.model_channels))
        guided, out, h = self.hint_block(hint, emb, context), [], x
        for number, (block, zero) in enumerate(
            zip(self.input_blocks, self.zero_convs, strict=True)
        ):
            h = block(h, emb, context)
            h = h if number else h + guided
            out.append(zero(h, emb, context))
        h = self.middle_block(h, emb, context)
        return [*out, self.middle_out(h, emb, context)]


class ControlLDM(LatentDiffusion):
    """The hub: conditioning is a dict with a text and a hint; only the side network learns."""

    def __init__(self, control_stage_config, control_key, only_mid_control, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.control_model = instantiate_from_config(control_stage_config)
        self.control_key, self.only_mid_control = control_key, only_mid_control
        self.control_scales = [1.0] * (len(self.control_model.zero_convs) + 1)

    @torch.no_grad()
    def get_input(self, batch, k, bs=None, *args, **kwargs):
        x, c = super().get_input(batch, self.first_stage_key, *args, **kwargs)
        hint = batch[self.control_key]
        if bs is not None:
            x, c, hint = x[:bs], c[:bs], hint[:bs]
        hint = hint.to(self.device).permute(0, 3, 1, 2).contiguous().float()
        return x, {"c_crossattn": [c], "c_concat": [hint]}

    def apply_model(self, x_noisy, t, cond, *args, **kwargs):
        assert isinstance(cond, dict)
        unet, text = self.model.diffusion_model, torch.cat(cond["c_crossattn"], 1)
        control = None
        if cond["c_concat"] is not None:
            hint = torch.cat(cond["c_concat"], 1)
            control = self.control_model(x=x_noisy, hint=hint, timesteps=t, context=text)
            control = [c * scale for c, scale in zip(control, self.control_scales, strict=True)]
        return unet(
            x=x_noisy, timesteps=t, context=text, control=control, only_mid=self.only_mid_control
        )

    @torch.no_grad()
    def get_unconditional_conditioning(self, N):  # noqa: N803 - as such forks write it
        return self.get_learned_conditioning([""] * N)

    @torch.no_grad()
    def log_images(self, batch, N=4, ddim_steps=4, unconditional_guidance_scale=9.0, **kwargs):  # noqa: N803
        z, c = self.get_input(batch, self.first_stage_key, bs=N)
        hint, text = c["c_concat"][0][:N], c["c_crossattn"][0][:N]
        log = {
            "reconstruction": self.decode_first_stage(z),
            "control": hint * 2.0 - 1.0,
            "conditioning": log_txt_as_img((64, 64), batch[self.cond_stage_key], size=8),
        }
        bare = {"c_concat": [hint], "c_crossattn": [self.get_unconditional_conditioning(len(z))]}
        samples, _ = self.sample_log(
            cond={"c_concat": [hint], "c_crossattn": [text]},
            batch_size=len(z),
            ddim=True,
            ddim_steps=ddim_steps,
            eta=0.0,
            unconditional_guidance_scale=unconditional_guidance_scale,
            unconditional_conditioning=bare,
        )
        name = f"samples_cfg_scale_{unconditional_guidance_scale:.2f}"
        return log | {name: self.decode_first_stage(samples)}

    @torch.no_grad()
    def sample_log(self, cond, batch_size, ddim, ddim_steps, **kwargs):
        assert exists(ddim)
        height, width = cond["c_concat"][0].shape[2:]
        shape = (self.channels, height // 2, width // 2)
        sampler = SteeredDDIM(self)
        return sampler.sample(ddim_steps, batch_size, shape, cond, verbose=False, **kwargs)

    def configure_optimizers(self):
        return torch.optim.AdamW(list(self.control_model.parameters()), lr=self.learning_rate)
