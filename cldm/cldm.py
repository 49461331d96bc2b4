"""The hub that trains and draws with a ControlNet inside, under ControlNet's own names.

Other models keep their files as they are, and take a ControlNet from outside: see
``ldm.adapters.control``.
Shapes: B batch, C latent channels, h w latent sides, H W pixels, L D text tokens and width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ldm.building import build_from
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.models.diffusion.ddpm import LatentDiffusion
from ldm.models.diffusion.preview_rows import rows_of_states
from ldm.modules.diffusionmodules.control_net import ControlNet
from ldm.modules.diffusionmodules.openaimodel import (
    AttentionBlock,
    Context,
    Downsample,
    ResBlock,
    TimestepEmbedSequential,
    UNetModel,
)
from ldm.types import Conditioning
from ldm.util import log_txt_as_img

__all__ = [
    "AttentionBlock",
    "ControlLDM",
    "ControlNet",
    "ControlledUnetModel",
    "DDIMSampler",
    "Downsample",
    "ResBlock",
    "TimestepEmbedSequential",
    "UNetModel",
]

Control = Sequence[Tensor] | None
"""What a ControlNet returns: a map for each skip, shallow first, and one for the middle."""

_SD, _CONTROL = "model.diffusion_model.", "control_model."


class ControlledUnetModel(UNetModel):
    """The UNet that is given a ControlNet's outputs; its first half never learns."""

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor | None = None,
        context: Context = None,
        control: Control = None,
        only_mid_control: bool = False,
        **kwargs: Any,
    ) -> Tensor:
        """Predict.

        Args:
            x: Noisy latents (B, C, h, w).
            timesteps: Steps (B,).
            context: Tokens (B, L, D).
            control: What is added; it is left as it is. None is nothing.
            only_mid_control: Add to the middle's features alone.
            **kwargs: ``y``, where the UNet has labels; others are ignored, as in cldm.
        """
        with torch.no_grad():
            h, emb, skips = self.encode(x, timesteps, context, kwargs.get("y"))
        if control is not None:
            h = h + control[-1]
            if not only_mid_control:
                skips = [skip + more for skip, more in zip(skips, control[:-1], strict=True)]
        return self.decode(h, emb, skips, context)


class ControlLDM(LatentDiffusion):
    """A latent diffusion model with a ControlNet.

    Its conditioning is a dict: ``c_crossattn``, a list of text tokens, and ``c_concat``, a list of
    hints (n, 3, H, W) in [0, 1], or None. Fewer hints than rows control the last rows: in cldm's
    guess mode the empty prompt has no hint, and stands before the prompt in the batch.

    Args:
        control_stage_config: ``target`` / ``params`` of the ControlNet.
        control_key: Entry of a batch that holds the hints (B, H, W, 3) in [0, 1].
        only_mid_control: Add to the middle's features alone.
        *args: As ``LatentDiffusion``'s.
        global_average_pooling: Average the outputs over all positions, as for ``shuffle``.
        ckpt_path: Checkpoint to start from. One without a ControlNet gives the UNet's weights to
            the ControlNet too, as cldm's ``tool_add_control.py`` does.
        ignore_keys: Prefixes of its keys to leave out.
        load_only_unet: Take only the network's weights from it.
        **kwargs: As ``LatentDiffusion``'s.

    Attributes:
        sd_locked: Whether only the ControlNet learns; else the UNet's second half learns too.
        control_scales: The weight of each output, shallow first.
    """

    sd_locked = True

    def __init__(
        self,
        control_stage_config: Mapping[str, Any],
        control_key: str,
        only_mid_control: bool,
        *args: Any,
        global_average_pooling: bool = False,
        ckpt_path: str | None = None,
        ignore_keys: Sequence[str] = (),
        load_only_unet: bool = False,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.control_model = build_from(control_stage_config, where="control_stage_config")
        self.control_key, self.only_mid_control = control_key, only_mid_control
        self.global_average_pooling = global_average_pooling
        self.control_scales = [1.0] * (len(self.control_model.zero_convs) + 1)
        # Here, because the base's constructor runs before there is a ControlNet to fill.
        if ckpt_path is not None:
            self.init_from_ckpt(ckpt_path, ignore_keys, load_only_unet)
            self.restarted_from_ckpt = not load_only_unet

    def adapt_weights(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Let the ControlNet begin as a copy of the UNet, where a checkpoint has none."""
        tensors = super().adapt_weights(tensors)
        if any(name.startswith(_CONTROL) for name in tensors):
            return tensors
        own = {f"{_CONTROL}{name}": v for name, v in self.control_model.state_dict().items()}
        return tensors | {n: tensors.get(n.replace(_CONTROL, _SD, 1), v) for n, v in own.items()}

    @torch.no_grad()
    def get_input(
        self, batch: Mapping[str, Any], k: str, bs: int | None = None, **kwargs: Any
    ) -> list[Any]:
        """Take latents, and a dict of their texts and hints, from a batch.

        Args:
            batch: As ``LatentDiffusion.get_input`` takes it, with the hints under ``control_key``.
            k: Entry that holds the pictures.
            bs: Rows to take; all by default.
            **kwargs: As ``LatentDiffusion.get_input``.
        """
        z, c, *more = super().get_input(batch, k, bs=bs, **kwargs)
        hint = torch.as_tensor(batch[self.control_key])[:bs].to(self.device)  # (B, H, W, 3)
        hint = hint.movedim(-1, 1).contiguous().float()
        return [z, {"c_crossattn": [c], "c_concat": [hint]}, *more]

    def apply_model(
        self, x_noisy: Tensor, t: Tensor, cond: Conditioning, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Predict at x_noisy (B,C,h,w), t (B,); without hints it is the plain UNet's prediction."""
        del args, kwargs  # cldm's signature
        cond = cond if isinstance(cond, Mapping) else {"c_crossattn": [cond]}
        text = torch.cat(list(cond["c_crossattn"]), 1)  # (B, L, D)
        hints = cond.get("c_concat")
        control = None if hints is None else self._control(x_noisy, t, text, torch.cat(hints, 1))
        return self.model.diffusion_model(
            x=x_noisy,
            timesteps=t,
            context=text,
            control=control,
            only_mid_control=self.only_mid_control,
        )

    def _control(self, x: Tensor, t: Tensor, text: Tensor, hint: Tensor) -> list[Tensor]:
        """Return what is added, (B, ...) each; 0 in rows without a hint."""
        first = len(x) - len(hint)
        outputs = self.control_model(
            x=x[first:], hint=hint, timesteps=t[first:], context=text[first:]
        )
        outputs = [out * scale for out, scale in zip(outputs, self.control_scales, strict=True)]
        if self.global_average_pooling:
            outputs = [out.mean(dim=(2, 3), keepdim=True) for out in outputs]
        if not first:
            return outputs
        return [torch.cat([out.new_zeros(first, *out.shape[1:]), out]) for out in outputs]

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Return the ControlNet's parameters and, unless it is locked, the second half's."""
        unet, parts = self.model.diffusion_model, [self.control_model]
        if not self.sd_locked:
            parts += [unet.output_blocks, unet.out]
        return [parameter for part in parts for parameter in part.parameters()]

    def configure_optimizers(self) -> Any:
        """Return the optimizer of ``trainable_parameters``; the model's others get no gradients."""
        learning = {id(parameter) for parameter in self.trainable_parameters()}
        for parameter in self.model.parameters():
            parameter.requires_grad_(id(parameter) in learning)
        return super().configure_optimizers()

    @torch.no_grad()
    def log_images(
        self,
        batch: Mapping[str, Any],
        N: int = 4,  # noqa: N803 - the reference's name
        n_row: int = 2,
        sample: bool = False,
        ddim_steps: int = 50,
        ddim_eta: float = 0.0,
        plot_denoise_rows: bool = False,
        unconditional_guidance_scale: float = 9.0,
        **kwargs: Any,  # noqa: ARG002 - kept for cldm, whose loggers give what others take
    ) -> dict[str, Tensor]:
        """Return pictures in [-1, 1] (n,3,H,W): as cldm's, the guided samples above all.

        Args:
            batch: As for training.
            N: Pictures of each kind, at most.
            n_row: Samples whose states along the way are shown.
            sample: Also draw without guidance.
            ddim_steps: Steps of DDIM.
            ddim_eta: Noise added per step.
            plot_denoise_rows: Also the states of the samples without guidance.
            unconditional_guidance_scale: Above 1, draw with this guidance.
            **kwargs: Ignored.

        Returns:
            ``reconstruction``, ``control``, ``conditioning``, ``samples``, ``denoise_row``,
            ``samples_cfg_scale_<scale>``.
        """
        z, cond = self.get_input(batch, self.first_stage_key, bs=N)
        size = {"batch_size": len(z), "shape": tuple(z.shape[1:])}
        walk = {**size, "ddim": True, "ddim_steps": ddim_steps, "eta": ddim_eta}
        log = {"reconstruction": self.decode_first_stage(z)}
        log |= self._shown(batch, cond, log["reconstruction"])
        if sample:
            samples, states = self.sample_log(cond=cond, **walk)
            log["samples"] = self.decode_first_stage(samples)
            if plot_denoise_rows:
                decoded = [self.decode_first_stage(x[:n_row]) for x in states["x_inter"]]
                log["denoise_row"] = rows_of_states(decoded)
        if unconditional_guidance_scale > 1.0:
            bare = {**cond, "c_crossattn": [self.get_unconditional_conditioning(len(z))]}
            guided, _ = self.sample_log(
                cond=cond,
                unconditional_guidance_scale=unconditional_guidance_scale,
                unconditional_conditioning=bare,
                **walk,
            )
            name = f"samples_cfg_scale_{unconditional_guidance_scale:.2f}"
            log[name] = self.decode_first_stage(guided)
        return log

    def _shown(
        self, batch: Mapping[str, Any], cond: Mapping[str, Any], pictures: Tensor
    ) -> dict[str, Tensor]:
        texts = [str(text) for text in batch[self.cond_stage_key][: len(pictures)]]
        size = (pictures.shape[3], pictures.shape[2])
        control = cond["c_concat"][0] * 2.0 - 1.0
        return {"control": control, "conditioning": log_txt_as_img(size, texts)}

    def low_vram_shift(self, is_diffusing: bool) -> None:
        """Move to the host what is not needed: the UNet and ControlNet, or the other two parts.

        The device is the one that any weight is on besides the host; without one nothing moves.
        """
        host = torch.device("cpu")
        away = next((p.device for p in self.parameters() if p.device != host), host)
        drawing = (self.model, self.control_model)
        coding = (self.first_stage_model, self.cond_stage_model)
        for part in coding if is_diffusing else drawing:
            part.to(host)
        for part in drawing if is_diffusing else coding:
            part.to(away)
