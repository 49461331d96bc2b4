"""Diffusion of latents by a UNet, between a first stage and a conditioner.

Its base, ``DDPM``, is in ``pixel_diffusion``. Forks also import from here what CompVis's file of
this name defines and imports.
Shapes: B batch, C latent channels, h w latent sides, H W pixels, L D text tokens and width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.models.diffusion.pixel_diffusion import DDPM
from ldm.models.diffusion.wrapper import DiffusionWrapper
from ldm.modules.distributions.distributions import DiagonalGaussianDistribution
from ldm.process.schedules import make_beta_schedule
from ldm.rng import NoiseSource
from ldm.types import Conditioning
from ldm.util import instantiate_from_config, lazy_exports

# Imported when somebody asks: drawing needs none of them.
ELSEWHERE = {
    "AutoencoderKL": "ldm.models.autoencoder",
    "IdentityFirstStage": "ldm.models.autoencoder",
    "VQModelInterface": "ldm.models.autoencoder",
    "DDIMSampler": "ldm.models.diffusion.ddim",
    "extract_into_tensor": "ldm.modules.diffusionmodules.util",
    "noise_like": "ldm.modules.diffusionmodules.util",
    "normal_kl": "ldm.modules.distributions.distributions",
    "LatentInpaintDiffusion": "ldm.models.diffusion.latent_inpainting",
    "LitEma": "ldm.modules.ema",
    "count_params": "ldm.util",
    "default": "ldm.util",
    "exists": "ldm.util",
    "isimage": "ldm.util",
    "ismap": "ldm.util",
    "log_txt_as_img": "ldm.util",
    "mean_flat": "ldm.util",
}
__all__ = ["DDPM", "DiffusionWrapper", "LatentDiffusion", "make_beta_schedule", *ELSEWHERE]
__getattr__, __dir__ = lazy_exports(__name__, ELSEWHERE)


class LatentDiffusion(DDPM):
    """Diffusion in the latents of a first stage, conditioned: arXiv:2112.10752.

    Args:
        first_stage_config: ``target`` / ``params`` of the autoencoder; it stays frozen.
        cond_stage_config: The same for the conditioner, or ``__is_first_stage__`` or
            ``__is_unconditional__``.
        num_timesteps_cond: Kept for CompVis; 1 or None.
        cond_stage_key: Entry of a batch that holds the conditioning.
        cond_stage_trainable: Train the conditioner too.
        concat_mode: Default conditioning key: concat, else crossattn.
        cond_stage_forward: Name of the conditioner's method to call.
        conditioning_key: Where conditioning enters.
        scale_factor: Multiplies latents after encoding.
        scale_by_std: Set it from the first batch, to unit variance, and store it.
        cond_dropout: Share of training captions replaced by the empty one, for guidance.
        unet_trainable: What of the UNet learns, see ``choose_trainable``.
        ckpt_path: Checkpoint to start from.
        ignore_keys: Prefixes of its keys to leave out.
        load_only_unet: Take only the network's weights from it.
        **kwargs: Parameters of ``DDPM``.
    """

    def __init__(
        self,
        first_stage_config: Mapping[str, Any],
        cond_stage_config: Mapping[str, Any] | str,
        num_timesteps_cond: int | None = None,
        cond_stage_key: str = "image",
        cond_stage_trainable: bool = False,
        concat_mode: bool = True,
        cond_stage_forward: str | None = None,
        conditioning_key: str | None = None,
        scale_factor: float = 1.0,
        scale_by_std: bool = False,
        cond_dropout: float = 0.0,
        unet_trainable: bool | str = True,
        ckpt_path: str | None = None,
        ignore_keys: Sequence[str] = (),
        load_only_unet: bool = False,
        **kwargs: Any,
    ):
        if num_timesteps_cond not in (None, 1):
            raise UserError(f"num_timesteps_cond {num_timesteps_cond} given; only 1 is supported")
        if cond_stage_config == "__is_unconditional__":
            conditioning_key = None
        elif conditioning_key is None:
            conditioning_key = "concat" if concat_mode else "crossattn"
        super().__init__(conditioning_key=conditioning_key, **kwargs)
        self.cond_stage_key, self.cond_stage_forward = cond_stage_key, cond_stage_forward
        self.cond_stage_trainable, self.cond_dropout = cond_stage_trainable, cond_dropout
        self.scale_by_std = scale_by_std
        if scale_by_std:
            self.register_buffer("scale_factor", torch.tensor(scale_factor, device="cpu"))
        else:
            self.scale_factor = scale_factor
        first_stage = instantiate_from_config(first_stage_config, where="first_stage_config")
        self.first_stage_model = first_stage.eval().requires_grad_(False)
        self.cond_stage_model = self._make_conditioner(cond_stage_config)
        choose_trainable(self.model.diffusion_model, unet_trainable)
        # Here and not in DDPM: a checkpoint has the weights of all parts.
        if ckpt_path is not None:
            self.init_from_ckpt(ckpt_path, ignore_keys, load_only_unet)
        self.restarted_from_ckpt = ckpt_path is not None and not load_only_unet

    def _make_conditioner(self, config: Mapping[str, Any] | str) -> nn.Module | None:
        if config == "__is_first_stage__":
            return self.first_stage_model
        conditioner = instantiate_from_config(config, where="cond_stage_config")
        if conditioner is None or self.cond_stage_trainable:
            return conditioner
        return conditioner.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> LatentDiffusion:
        """Set training mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        self.first_stage_model.eval()
        if self.cond_stage_model is not None and not self.cond_stage_trainable:
            self.cond_stage_model.eval()
        return self

    def get_learned_conditioning(self, c: Any) -> Tensor:
        """Encode prompts (list of B texts), or what the conditioner takes: (B, L, D)."""
        if self.cond_stage_forward is not None:
            return getattr(self.cond_stage_model, self.cond_stage_forward)(c)
        encode = getattr(self.cond_stage_model, "encode", self.cond_stage_model)
        encoded = encode(c)
        return encoded.mode() if isinstance(encoded, DiagonalGaussianDistribution) else encoded

    def encode_first_stage(self, x: Tensor) -> DiagonalGaussianDistribution | Tensor:
        """Encode pictures (B, 3, H, W) in [-1, 1]."""
        x = x.to(self._first_stage_dtype(x))
        return _code(self.first_stage_model.encode, x, self.split_input_params, up=False)

    def get_first_stage_encoding(
        self,
        encoder_posterior: DiagonalGaussianDistribution | Tensor,
        noise: NoiseSource | None = None,
    ) -> Tensor:
        """Draw a latent (B, C, h, w) from the posterior, scaled; the numbers are the CPU's."""
        if isinstance(encoder_posterior, DiagonalGaussianDistribution):
            return self.scale_factor * encoder_posterior.sample(noise)
        return self.scale_factor * encoder_posterior

    def decode_first_stage(
        self, z: Tensor, predict_cids: bool = False, force_not_quantize: bool = False
    ) -> Tensor:
        """Decode latents (B, C, h, w) to pictures (B, 3, H, W), about [-1, 1], unclamped.

        Args:
            z: Latents; with ``predict_cids`` scores of the codebook's entries (B, n_embed, h, w).
            predict_cids: Decode the best entry at each place.
            force_not_quantize: Leave latents of a codebook's first stage as they are.
        """
        if predict_cids:
            best = z.argmax(dim=1)
            z = self.first_stage_model.quantize.get_codebook_entry(best, (*best.shape, -1))
        z = (1.0 / self.scale_factor * z).to(self._first_stage_dtype(z))
        options = {"force_not_quantize": True} if force_not_quantize else {}
        decode = partial(self.first_stage_model.decode, **options)
        return _code(decode, z, self.split_input_params, up=True)

    def _first_stage_dtype(self, x: Tensor) -> torch.dtype:
        return next(self.first_stage_model.parameters(), x).dtype

    @torch.no_grad()
    def on_train_batch_start(self, batch: Mapping[str, Any], batch_idx: int, step: int) -> None:
        """Set ``scale_factor`` from the first batch of a fresh run, with ``scale_by_std``.

        A run that begins with a whole checkpoint keeps the factor it was trained with.
        """
        fresh = step == 0 and batch_idx == 0 and not self.restarted_from_ckpt
        if self.scale_by_std and fresh:
            self.scale_factor.fill_(1.0)
            self.scale_factor.copy_(1.0 / self.latents_of(batch).flatten().std())

    def get_training_pair(self, batch: Mapping[str, Any]) -> tuple[Tensor, Conditioning]:
        """Return latents (B,C,h,w) and the encoded conditioning, some of it dropped."""
        z = self.latents_of(batch)
        if self.model.conditioning_key is None:
            return z, None
        return z, self.conditioning_of(batch, self.cond_dropout if self.training else 0.0)

    @torch.no_grad()
    def latents_of(self, batch: Mapping[str, Any]) -> Tensor:
        """Encode a batch's pictures, or draw from its ``<first_stage_key>_moments``: (B,C,h,w)."""
        moments = batch.get(f"{self.first_stage_key}_moments")
        if moments is not None:
            posterior = DiagonalGaussianDistribution(moments.float())
        else:
            posterior = self.encode_first_stage(self.get_input(batch, self.first_stage_key))
        return self.get_first_stage_encoding(posterior).float()

    def conditioning_of(self, batch: Mapping[str, Any], dropout: float = 0.0) -> Conditioning:
        """Encode a batch's conditioning, or take its ``<cond_stage_key>_embedding``."""
        from ldm.models.diffusion import batch_conditioning

        key = self.cond_stage_key
        encoded = batch_conditioning.precomputed(batch, key, dropout)
        if encoded is not None:
            return encoded
        c = batch_conditioning.conditioner_input(batch, key)
        c = batch_conditioning.drop_some(c, key, dropout, self.cond_stage_model)
        with torch.set_grad_enabled(self.cond_stage_trainable and torch.is_grad_enabled()):
            return self.get_learned_conditioning(c)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Return the parameters to optimise.

        Raises:
            UserError: The conditioner is to be trained, and all its weights are frozen.
        """
        conditioner = list(self.cond_stage_model.parameters()) if self.cond_stage_trainable else []
        if conditioner and not any(p.requires_grad for p in conditioner):
            raise UserError(
                "cond_stage_trainable is true, but every weight of the conditioner is frozen; "
                "set cond_stage_config.params.trainable to true, or leave cond_stage_trainable out"
            )
        return [*super().trainable_parameters(), *conditioner]

    def log_images(
        self,
        batch: Mapping[str, Any],
        N: int = 8,  # noqa: N803 - the logging interface
        *,
        sample: bool = True,
        ddim_steps: int = 25,
        guidance_scale: float = 3.0,
        plot_diffusion_rows: bool = False,
        plot_denoise_rows: bool = False,
        quantize_denoised: bool = False,
        inpaint: bool = False,
    ) -> dict[str, Tensor]:
        """Return pictures (n, 3, H, W) in [-1, 1] to look at, see ``preview_images``."""
        from ldm.models.diffusion.preview import preview_images

        return preview_images(
            self,
            batch,
            N,
            sample=sample,
            ddim_steps=ddim_steps,
            guidance_scale=guidance_scale,
            plot_diffusion_rows=plot_diffusion_rows,
            plot_denoise_rows=plot_denoise_rows,
            quantize_denoised=quantize_denoised,
            inpaint=inpaint,
        )


def _code(
    function: Callable[[Tensor], Any], x: Tensor, split: Mapping[str, Any] | None, *, up: bool
) -> Any:
    """Encode or decode, in patches if ``split`` says so, see ``code_in_patches``."""
    if split is None:
        return function(x)
    from ldm.models.tiling.patches import code_in_patches

    return code_in_patches(function, x, split, up=up)


_TRAINABLE = {
    "all": lambda name: True,  # noqa: ARG005 - every parameter
    "attn": lambda name: ".attn2." in name,
    "conv_in": lambda name: name.startswith("input_blocks.0."),
    "none": lambda name: False,  # noqa: ARG005 - no parameter
}


def choose_trainable(unet: nn.Module, what: bool | str) -> None:
    """Freeze the parameters of a UNet that are not to learn.

    Args:
        unet: Has the reference's parameter names.
        what: ``all`` or True; ``attn``, the cross-attentions, which hold what words mean;
            ``conv_in``, the first convolution; ``none`` or False, when only the conditioner learns.

    Raises:
        UserError: Any other name.
    """
    what = {True: "all", False: "none"}.get(what, what)
    if what not in _TRAINABLE:
        raise UserError(
            f"unet_trainable {what!r} given; expected one of {', '.join(_TRAINABLE)}, true or false"
        )
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and _TRAINABLE[what](name))
