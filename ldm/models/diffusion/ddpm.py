"""The diffusion hubs that researchers subclass and Lightning trains.

What drawing needs of them is in ``pixel_diffusion`` and ``latent_diffusion``; here is the chain of
training, ``get_input -> shared_step -> forward -> p_losses``. Forks also import from here what
CompVis's file of this name defines and imports.
Shapes: B batch, C latent channels, h w latent sides, H W pixels, L D text tokens and width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ldm.building import build_from
from ldm.errors import UserError
from ldm.lazy import lazy_exports
from ldm.models.diffusion import batch_conditioning
from ldm.models.diffusion.empty_conditioning import EmptyConditioning
from ldm.models.diffusion.hub_loss import HubLoss
from ldm.models.diffusion.latent_diffusion import LatentSpaceDiffusion
from ldm.models.diffusion.latent_reverse_process import LatentReverseProcess
from ldm.models.diffusion.preview import PreviewLatents, PreviewPixels
from ldm.models.diffusion.reverse_process import PixelReverseProcess
from ldm.models.diffusion.wrapper import DiffusionWrapper
from ldm.models.hub_training import Figures, HubTraining
from ldm.models.tiling.fold import SlidingWindow
from ldm.models.training_parts import make_optimizer, pictures_from, split_tables, with_scheduler
from ldm.modules.distributions.distributions import DiagonalGaussianDistribution
from ldm.process.schedules import make_beta_schedule
from ldm.types import Conditioning

DRAWN_BY = {
    "DDPM": "ldm.models.diffusion.pixel_diffusion.PixelDiffusion",
    "LatentDiffusion": "ldm.models.diffusion.latent_diffusion.LatentSpaceDiffusion",
    "LatentInpaintDiffusion": "ldm.models.diffusion.masked_diffusion.MaskedDiffusion",
}
"""The class without training that draws in place of one here; see ``ldm.checkpoint.drawn_by``.

A method that drawing uses belongs there. If one is overridden in a class's body here, the class
draws itself, and every picture waits for Lightning.
"""

# Imported when somebody asks for them.
ELSEWHERE = {
    "AutoencoderKL": "ldm.models.autoencoder",
    "IdentityFirstStage": "ldm.models.autoencoder",
    "VQModelInterface": "ldm.models.autoencoder",
    "DDIMSampler": "ldm.models.diffusion.ddim",
    "extract_into_tensor": "ldm.modules.diffusionmodules.util",
    "noise_like": "ldm.modules.diffusionmodules.util",
    "normal_kl": "ldm.modules.distributions.distributions",
    "LatentInpaintDiffusion": "ldm.models.diffusion.latent_inpainting",
    "Layout2ImgDiffusion": "ldm.models.diffusion.layout",
    "LitEma": "ldm.modules.ema",
    "count_params": "ldm.util",
    "default": "ldm.util",
    "exists": "ldm.util",
    "instantiate_from_config": "ldm.util",
    "isimage": "ldm.util",
    "ismap": "ldm.util",
    "log_txt_as_img": "ldm.util",
    "mean_flat": "ldm.util",
    "LambdaLR": "torch.optim.lr_scheduler",
    "contextmanager": "contextlib",
    "partial": "functools",
    "tqdm": "tqdm",
    "make_grid": "ldm.models.diffusion.preview_rows",
    "rank_zero_only": "pytorch_lightning.utilities",
    "rearrange": "einops",
    "repeat": "einops",
}
__all__ = ["DDPM", "DiffusionWrapper", "LatentDiffusion", "make_beta_schedule", *ELSEWHERE]
__getattr__, __dir__ = lazy_exports(__name__, ELSEWHERE)


__conditioning_keys__ = {"concat": "c_concat", "crossattn": "c_crossattn", "adm": "y"}


def disabled_train(self: nn.Module, mode: bool = True) -> nn.Module:  # noqa: ARG001 - for forks
    """Stand in for ``train`` of a module that is to stay as it is."""
    return self


def uniform_on_device(r1: float, r2: float, shape: Sequence[int], device: torch.device) -> Tensor:
    """Draw numbers between r2 and r1, for forks: uniform, of ``shape``."""
    return (r1 - r2) * torch.rand(*shape, device=device) + r2


class DDPM(PreviewPixels, PixelReverseProcess, HubLoss, HubTraining):
    """Diffusion in the space of its inputs, and its training: arXiv:2006.11239.

    A LightningModule; its parameters are those of ``PixelDiffusion``.
    """

    def get_input(self, batch: Mapping[str, Any], k: str) -> Tensor:
        """Take pictures (B, H, W, 3) from a batch as (B, 3, H, W) float32."""
        return pictures_from(batch, k)

    def shared_step(self, batch: Mapping[str, Any]) -> tuple[Tensor, Figures]:
        """Return the loss of a batch and its parts, named ``train/...`` or ``val/...``."""
        return self(self.get_input(batch, self.first_stage_key))

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Figures]:
        """Return the loss at drawn steps of x (B,C,h,w), and its parts."""
        return self.p_losses(x, self.draw_steps(x.shape[0]), *args, **kwargs)

    def p_losses(
        self, x_start: Tensor, t: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, Figures]:
        """Return the loss of x_start (B,C,h,w) at steps t (B,), and its parts."""
        return self.loss_at(x_start, None, t, noise, by_logvar=False)

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:  # noqa: ARG002
        """Return the loss to minimise; log its parts, and ``lr_abs`` where a schedule moves it."""
        loss, figures = self.shared_step(batch)
        self.log_figures(figures, batch, on_step=True, on_epoch=True)
        self.log_position(batch)
        return loss

    @torch.no_grad()
    def validation_figures(self, batch: Mapping[str, Any]) -> Figures:
        """Return the losses of a batch, and under ``..._ema`` those of the averaged weights.

        Both meet the same noise. Without averages both are the same, as in the reference.
        """
        if not self.use_ema:
            figures = averaged = self.shared_step(batch)[1]
        else:
            with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
                figures = self.shared_step(batch)[1]
            with self.ema_scope():
                averaged = self.shared_step(batch)[1]
        return {**figures, **{f"{name}_ema": value for name, value in averaged.items()}}

    def move_averages(self) -> None:
        """Move the averaged weights."""
        if self.use_ema:
            self.model_ema(self.model)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Return the parameters to optimise: the network's and, if they learn, the loss's."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        if self.learn_logvar:
            parameters.append(self.logvar)
        if isinstance(self.loss, nn.Module):
            parameters.extend(p for p in self.loss.parameters() if p.requires_grad)
        return parameters

    def configure_optimizers(self) -> Any:
        """Return the optimizer and, if one is configured, the learning-rate schedule.

        Raises:
            UserError: Nothing is to learn, or the loss has a fault.
        """
        self.check_loss()
        parameters = self.trainable_parameters()
        if not parameters:
            raise UserError(
                "no weight is trained: unet_trainable leaves the UNet out, and nothing else learns;"
                " expected something that does; set it to all or attn, or cond_stage_trainable"
            )
        if self.optimizer_config is None:
            optimizer = make_optimizer(torch.optim.AdamW, parameters, lr=self.learning_rate)
        else:
            optimizer = build_from(
                self.optimizer_config,
                where="optimizer_config",
                params=split_tables(self, parameters),
                lr=self.learning_rate,
            )
        return with_scheduler(optimizer, self.scheduler_config)


class LatentDiffusion(
    PreviewLatents,
    LatentReverseProcess,
    SlidingWindow,
    EmptyConditioning,
    LatentSpaceDiffusion,
    DDPM,
):
    """Diffusion in the latents of a first stage, and its training: arXiv:2112.10752.

    A LightningModule; its parameters are those of ``LatentSpaceDiffusion``.
    """

    def get_input(
        self,
        batch: Mapping[str, Any],
        k: str,
        return_first_stage_outputs: bool = False,
        force_c_encode: bool = False,
        cond_key: str | None = None,
        return_original_cond: bool = False,
        bs: int | None = None,
    ) -> list[Any]:
        """Take latents and their conditioning from a batch.

        Args:
            batch: Pictures (B, H, W, 3) in [-1, 1] under ``k``, or their encoding under
                ``<k>_moments``; the conditioning, or its encoding under ``<key>_embedding``.
            k: Entry that holds the pictures.
            return_first_stage_outputs: Also return the pictures and their reconstruction.
            force_c_encode: Encode the conditioning also where ``forward`` is to do it, because the
                conditioner learns.
            cond_key: Entry that holds the conditioning, ``cond_stage_key`` by default.
            return_original_cond: Also return the conditioning as it was.
            bs: Rows to take, from the first on; all by default.

        Returns:
            ``[z, c]``, latents (B, C, h, w) and conditioning, None for an unconditional model; then
            pictures and reconstructions (B, 3, H, W), and the original conditioning, if asked for.

        Raises:
            UserError: The batch lacks an entry.
        """
        batch = batch_conditioning.first_rows(batch, bs, self.device)
        z, x = self._latents(batch, k)
        c = original = None
        if self.model.conditioning_key is not None:
            key = cond_key or self.cond_stage_key
            c, original = self._conditioning(batch, key, force_c_encode)
        out = [z, c]
        if return_first_stage_outputs:
            reconstruction = self.decode_first_stage(z)
            out += [reconstruction if x is None else x, reconstruction]
        return [*out, original] if return_original_cond else out

    @torch.no_grad()
    def _latents(self, batch: Mapping[str, Any], k: str) -> tuple[Tensor, Tensor | None]:
        """Encode a batch's pictures, or draw from its moments: (B,C,h,w); return pictures too."""
        moments, x = batch.get(f"{k}_moments"), None
        if moments is not None:
            posterior = DiagonalGaussianDistribution(moments.float())
        else:
            x = super().get_input(batch, k)
            posterior = self.encode_first_stage(x)
        return self.get_first_stage_encoding(posterior).float(), x

    def _conditioning(
        self, batch: Mapping[str, Any], key: str, force_encode: bool
    ) -> tuple[Conditioning, Any]:
        """Return a batch's conditioning, encoded unless ``forward`` does it, and as it was.

        In training some of it is left out, see ``cond_dropout``.
        """
        dropout = self.cond_dropout if self.training else 0.0
        encoded = batch_conditioning.precomputed(batch, key, dropout)
        if encoded is not None:
            self._refuse_encoded(key)
            return encoded, batch.get(key)
        original = batch_conditioning.conditioner_input(batch, key)
        c = batch_conditioning.drop_some(original, key, dropout, self.cond_stage_model)
        if self.cond_stage_trainable and not force_encode:
            return c, original
        with torch.set_grad_enabled(self.cond_stage_trainable and torch.is_grad_enabled()):
            return self.get_learned_conditioning(c), original

    def _refuse_encoded(self, key: str) -> None:
        if self.cond_stage_trainable:
            raise UserError(
                f"cond_stage_trainable is true, but the data has {key}_embedding, what the"
                " conditioner made before; it cannot learn from that: train on the texts, or leave"
                " cond_stage_trainable out"
            )

    def shared_step(self, batch: Mapping[str, Any], **kwargs: Any) -> tuple[Tensor, Figures]:
        """Return the loss of a batch and its parts; ``kwargs`` go to ``forward``."""
        x, c = self.get_input(batch, self.first_stage_key)
        return self(x, c, **kwargs)

    def forward(
        self, x: Tensor, c: Conditioning = None, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Figures]:
        """Return the loss at drawn steps of latents x (B,C,h,w) with conditioning c.

        A conditioner that learns encodes ``c`` here.
        """
        t = self.draw_steps(x.shape[0])
        if self.model.conditioning_key is not None and c is not None:
            if self.cond_stage_trainable and not batch_conditioning.is_routed(c):
                c = self.get_learned_conditioning(c)
            if self.shorten_cond_schedule:
                c = self.noised_conditioning(c, t)
        return self.p_losses(x, c, t, *args, **kwargs)

    def p_losses(
        self, x_start: Tensor, cond: Conditioning, t: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, Figures]:
        """Return the loss of x_start (B,C,h,w) given cond, at steps t (B,), and its parts."""
        return self.loss_at(x_start, cond, t, noise)

    @torch.no_grad()
    def on_train_batch_start(
        self,
        batch: Mapping[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,  # noqa: ARG002 - the reference's
    ) -> None:
        """Set ``scale_factor`` from the first batch of a fresh run, with ``scale_by_std``.

        A run that begins with a whole checkpoint keeps the factor it was trained with. Of several
        processes all take the first one's.
        """
        fresh = batch_idx == 0 and self.global_step == 0 and self.current_epoch == 0
        if not self.scale_by_std or not fresh or self.restarted_from_ckpt:
            return
        self.scale_factor.fill_(1.0)
        self.scale_factor.copy_(1.0 / self._latents(batch, self.first_stage_key)[0].std())
        if self._trainer is not None and self.trainer.world_size > 1:
            torch.distributed.broadcast(self.scale_factor, src=0)

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
