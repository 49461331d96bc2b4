"""The hub: a diffusion model with its three organs (UNet, first stage, conditioner).

Shapes: B batch, C latent channels, h w latent sides, H W pixels, L D text tokens and width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.models.diffusion.batch_conditioning import (
    FIRST_CONVOLUTION,
    conditioner_input,
    drop_some,
    inpainting_maps,
    precomputed,
    widen_inputs,
)
from ldm.models.diffusion.objective import DiffusionObjective, choose_trainable
from ldm.models.diffusion.preview import preview_images
from ldm.models.diffusion.wrapper import DiffusionWrapper
from ldm.models.tiling.patches import SplitInput, code_in_patches, denoise_in_patches
from ldm.models.training_parts import pictures_from
from ldm.modules.distributions.distributions import DiagonalGaussianDistribution
from ldm.modules.ema import LitEma
from ldm.process import prediction
from ldm.process.schedules import make_beta_schedule
from ldm.rng import NoiseSource
from ldm.types import Conditioning
from ldm.util import instantiate_from_config


class DDPM(DiffusionObjective):
    """Diffusion in the space of its inputs: arXiv:2006.11239.

    Args:
        unet_config: ``target`` / ``params`` of the network.
        timesteps: T, the number of training steps.
        beta_schedule: Name for ``make_beta_schedule``.
        loss_type: ``l2`` or ``l1``.
        ckpt_path: Checkpoint to start from.
        ignore_keys: Prefixes of its keys to leave out.
        load_only_unet: Take only the network's weights from it.
        monitor: Logged value that chooses the best checkpoint.
        use_ema: Keep an average of the network's weights.
        first_stage_key: Entry of a batch that holds the pictures (B, H, W, 3) in [-1, 1].
        image_size: Side of what is diffused.
        channels: Its channels C.
        log_every_t: Kept for CompVis.
        clip_denoised: Ancestral sampling cuts estimates of x0 to [-1, 1]; latents it never cuts.
        linear_start: First beta.
        linear_end: Last beta.
        cosine_s: Offset of the cosine schedule.
        given_betas: The schedule itself (T,), in place of a name.
        original_elbo_weight: Weight of the variational bound in the loss.
        v_posterior: Weight of beta_t in the posterior variance.
        l_simple_weight: Weight of the simple loss.
        conditioning_key: Where conditioning enters, see ``DiffusionWrapper``.
        parameterization: What the network predicts: eps, x0 or v.
        scheduler_config: ``target`` / ``params`` of a learning-rate multiplier, per step.
        use_positional_encodings: Kept for CompVis.
        learn_logvar: Learn one log-variance a step.
        logvar_init: Its first value.
        snr_gamma: Cut-off of min-SNR weighting, none by default.
        ema_decay: Of the average.
        timestep_density: Mean and width of a logit-normal density, see ``draw_steps``.
        optimizer_config: ``target`` / ``params`` of an optimizer, such as ``ldm.muon.Muon``; AdamW.

    Set ``split_input_params`` to a mapping as ``SplitInput`` has it to work in patches.
    """

    split_input_params: Mapping[str, Any] | None = None

    def __init__(
        self,
        unet_config: Mapping[str, Any],
        timesteps: int = 1000,
        beta_schedule: str = "linear",
        loss_type: str = "l2",
        ckpt_path: str | None = None,
        ignore_keys: Sequence[str] = (),
        load_only_unet: bool = False,
        monitor: str | None = "val/loss",
        use_ema: bool = True,
        first_stage_key: str = "image",
        image_size: int = 256,
        channels: int = 3,
        log_every_t: int = 100,
        clip_denoised: bool = True,
        linear_start: float = 1e-4,
        linear_end: float = 2e-2,
        cosine_s: float = 8e-3,
        given_betas: Sequence[float] | None = None,
        original_elbo_weight: float = 0.0,
        v_posterior: float = 0.0,
        l_simple_weight: float = 1.0,
        conditioning_key: str | None = None,
        parameterization: str = "eps",
        scheduler_config: Mapping[str, Any] | None = None,
        use_positional_encodings: bool = False,  # noqa: ARG002 - kept for CompVis
        learn_logvar: bool = False,
        logvar_init: float = 0.0,
        snr_gamma: float | None = None,
        ema_decay: float = 0.9999,
        timestep_density: Sequence[float] | None = None,
        optimizer_config: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        if loss_type not in ("l1", "l2"):
            raise UserError(f"loss_type {loss_type!r} given; expected l1 or l2")
        self.parameterization = prediction.check_parameterization(parameterization)
        self.loss_type, self.monitor, self.clip_denoised = loss_type, monitor, clip_denoised
        self.first_stage_key, self.image_size, self.channels = first_stage_key, image_size, channels
        self.original_elbo_weight, self.l_simple_weight = original_elbo_weight, l_simple_weight
        self.log_every_t, self.timestep_density = log_every_t, timestep_density
        self.scheduler_config, self.optimizer_config = scheduler_config, optimizer_config
        self.learning_rate = 1e-4
        if given_betas is None:
            given_betas = make_beta_schedule(
                beta_schedule, timesteps, linear_start, linear_end, cosine_s
            )
        self._register_schedule(given_betas, v_posterior, self.parameterization, snr_gamma)
        self.model = DiffusionWrapper(unet_config, conditioning_key)
        self.use_ema, self.learn_logvar = use_ema, learn_logvar
        if use_ema:
            self.model_ema = LitEma(self.model, decay=ema_decay)
        self._register_logvar(logvar_init)
        self._start_from = (ckpt_path, tuple(ignore_keys), load_only_unet)
        if type(self) is DDPM:
            self.init_from_ckpt(*self._start_from)

    def init_from_ckpt(
        self, path: str | None, ignore_keys: Sequence[str] = (), only_model: bool = False
    ) -> None:
        """Take weights from a checkpoint; without a path do nothing."""
        if path is None:
            return
        from ldm.checkpoint.load import load_component

        module, prefix = (self.model, "model.") if only_model else (self, "")
        adapt = self.adapt_weights
        load_component(module, path, prefix=prefix, ignore=tuple(ignore_keys), adapt=adapt)
        if only_model and self.use_ema:
            self.model_ema.restart(self.model)

    def adapt_weights(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what a checkpoint offers, changed to fit: here as it is."""
        return tensors

    def apply_model(self, x: Tensor, t: Tensor, cond: Conditioning = None) -> Tensor:
        """Predict eps, x0 or v (B,C,h,w) at x (B,C,h,w), t (B,).

        ``cond`` is a tensor, a list of tensors, or a dict with lists ``c_concat`` and
        ``c_crossattn``; what is no dict goes where the model's conditioning key says.
        """
        if cond is not None and not isinstance(cond, dict):
            key = "c_concat" if self.model.conditioning_key == "concat" else "c_crossattn"
            cond = {key: list(cond) if isinstance(cond, (list, tuple)) else [cond]}
        if self.split_input_params is not None:
            split = SplitInput.of(self.split_input_params)
            return denoise_in_patches(self._predict, x, t, cond, split)
        return self._predict(x, t, cond)

    def _predict(self, x: Tensor, t: Tensor, cond: Mapping[str, Any] | None) -> Tensor:
        return self.model(x, t, **(cond or {}))

    def get_input(self, batch: Mapping[str, Any], key: str) -> Tensor:
        """Take pictures (B, H, W, 3) from a batch as (B, 3, H, W) float32."""
        return pictures_from(batch, key)

    def get_training_pair(self, batch: Mapping[str, Any]) -> tuple[Tensor, Conditioning]:
        """Return what is diffused (B,C,h,w) and its conditioning."""
        return self.get_input(batch, self.first_stage_key), None


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
        self.init_from_ckpt(*self._start_from)

    def _make_conditioner(self, config: Mapping[str, Any] | str) -> nn.Module | None:
        if config == "__is_first_stage__":
            return self.first_stage_model
        conditioner = instantiate_from_config(config, where="cond_stage_config")
        if conditioner is None or self.cond_stage_trainable:
            return conditioner
        return conditioner.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> LatentDiffusion:
        """Set training mode; frozen organs stay in evaluation mode."""
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
        return code_in_patches(self.first_stage_model.encode, x, self.split_input_params, up=False)

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
        return code_in_patches(decode, z, self.split_input_params, up=True)

    def _first_stage_dtype(self, x: Tensor) -> torch.dtype:
        return next(self.first_stage_model.parameters(), x).dtype

    @torch.no_grad()
    def on_train_batch_start(self, batch: Mapping[str, Any], batch_idx: int, step: int) -> None:
        """Set ``scale_factor`` from the first batch of a fresh run, with ``scale_by_std``.

        A run that begins with a whole checkpoint keeps the factor it was trained with.
        """
        path, _, only_unet = self._start_from
        fresh = step == 0 and batch_idx == 0 and (path is None or only_unet)
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
        key = self.cond_stage_key
        encoded = precomputed(batch, key, dropout)
        if encoded is not None:
            return encoded
        c = drop_some(conditioner_input(batch, key), key, dropout, self.cond_stage_model)
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

    log_images = preview_images


class LatentInpaintDiffusion(LatentDiffusion):
    """Latent diffusion that sees a mask and the rest of the picture, as SD's 9-channel files do.

    Args:
        concat_keys: Entries of a batch that join the latent on its channels, in this order: maps,
            nearest-resized to the latent, and ``masked_image_key``.
        masked_image_key: The entry that is a picture (B, H, W, 3) and is encoded.
        finetune_keys: Weights that are widened when a checkpoint of fewer input channels is given:
            its channels are kept, the new ones start at zero.
        signed_mask: Masks are -1 and 1 to the UNet, as in CompVis's inpainting_big; else 0 and 1.
        **kwargs: Parameters of ``LatentDiffusion``.
    """

    def __init__(
        self,
        concat_keys: Sequence[str] = ("mask", "masked_image"),
        masked_image_key: str = "masked_image",
        finetune_keys: Sequence[str] | None = FIRST_CONVOLUTION,
        signed_mask: bool = False,
        **kwargs: Any,
    ):
        self.concat_keys, self.masked_image_key = tuple(concat_keys), masked_image_key
        self.finetune_keys, self.signed_mask = tuple(finetune_keys or ()), signed_mask
        super().__init__(**kwargs)

    def conditioning_of(self, batch: Mapping[str, Any], dropout: float = 0.0) -> Conditioning:
        """Return the maps of ``concat_keys`` and, when hybrid, the encoded conditioning."""
        maps = inpainting_maps(self, batch)
        if self.model.conditioning_key == "concat":
            return {"c_concat": maps}
        return {"c_concat": maps, "c_crossattn": [super().conditioning_of(batch, dropout)]}

    def adapt_weights(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Widen the weights of ``finetune_keys`` to this model's input channels."""
        wanted = self.state_dict()
        widened = {
            key: widen_inputs(tensors[key], wanted[key])
            for key in self.finetune_keys
            if key in tensors and key in wanted  # averages may be on one side alone
        }
        return {**tensors, **widened}
