"""Diffusion in the space of its inputs, as drawing needs it: a network, its schedule, its average.

``ldm.models.diffusion.ddpm.DDPM`` is this and training, under Lightning. Drawing builds this class,
because importing Lightning takes seconds.
Shapes: B batch, C channels, h w sides of what is diffused, T training steps.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ldm.models.diffusion.forward_process import ForwardProcess
from ldm.models.diffusion.loss_settings import check_loss_settings
from ldm.models.diffusion.wrapper import DiffusionWrapper
from ldm.models.family_state import FamilyState
from ldm.process import prediction
from ldm.process.guidance import make_guider
from ldm.types import Conditioning

if TYPE_CHECKING:
    from ldm.process.loss import DiffusionLoss

logger = logging.getLogger(__name__)

# What only training or only some models need is imported where it is used: drawing a picture
# imports this file, and no loss, optimizer or average.


class PixelDiffusion(ForwardProcess, FamilyState):
    """Diffusion in the space of its inputs: arXiv:2006.11239, without training.

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
        log_every_t: Steps between two states that ancestral sampling keeps and previews show.
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
        snr_gamma: Largest weight of min-SNR weighting, none by default.
        ema_decay: Of the average.
        timestep_density: Mean and standard deviation of a ``LogitNormal`` density; none draws all
            steps alike.
        optimizer_config: ``target`` / ``params`` of an optimizer, such as ``ldm.muon.Muon``; AdamW.
        loss_config: ``target`` / ``params`` of a ``ldm.process.loss.DiffusionLoss``, in place of
            ``loss_type``, ``snr_gamma`` and ``timestep_density``.

    Attributes:
        loss: What is minimised, of ``make_loss`` or, once built, of ``loss_config``; another may be
            set. None takes what ``loss_type``, ``snr_gamma`` and ``timestep_density`` describe.

    Set ``split_input_params`` to a mapping as ``SplitInput`` has it to work in patches; without it
    there is no such attribute, for forks ask for it by ``hasattr``.
    """

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
        use_positional_encodings: bool = False,
        learn_logvar: bool = False,
        logvar_init: float = 0.0,
        snr_gamma: float | None = None,
        ema_decay: float = 0.9999,
        timestep_density: Sequence[float] | None = None,
        optimizer_config: Mapping[str, Any] | None = None,
        loss_config: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.cond_stage_model: nn.Module | None = None
        check_loss_settings(loss_type, snr_gamma, timestep_density, loss_config)
        self.parameterization = prediction.check_parameterization(parameterization)
        self.loss_type, self.snr_gamma = loss_type if loss_config is None else None, snr_gamma
        self.timestep_density = timestep_density
        self.loss_config, self._described = loss_config, None
        self.monitor, self.clip_denoised, self.log_every_t = monitor, clip_denoised, log_every_t
        self.first_stage_key, self.image_size, self.channels = first_stage_key, image_size, channels
        self.original_elbo_weight, self.l_simple_weight = original_elbo_weight, l_simple_weight
        self.scheduler_config, self.optimizer_config = scheduler_config, optimizer_config
        self.use_scheduler = scheduler_config is not None
        self.use_positional_encodings = use_positional_encodings
        self.learning_rate, self.v_posterior = 1e-4, v_posterior
        with torch.device("cpu"):  # a fork's may look at its values, while the rest is on meta
            self.register_schedule(
                given_betas, beta_schedule, timesteps, linear_start, linear_end, cosine_s
            )
        self.model = DiffusionWrapper(unet_config, conditioning_key)
        self.use_ema, self.learn_logvar = use_ema, learn_logvar
        self.ema_decay = ema_decay
        if use_ema:
            self._start_average()
        self._make_logvar(float(logvar_init))
        self.loss = self.make_loss()
        if ckpt_path is not None:
            self.init_from_ckpt(ckpt_path, ignore_keys, load_only_unet)

    def _start_average(self) -> None:
        from ldm.modules.ema import LitEma

        self.model_ema = LitEma(self.model, decay=self.ema_decay)

    def _make_logvar(self, value: float) -> None:
        logvar = torch.full((self.num_timesteps,), value, device="cpu")
        if self.learn_logvar:
            self.logvar = nn.Parameter(logvar)
        else:
            self.register_buffer("logvar", logvar, persistent=False)

    def make_loss(self) -> DiffusionLoss | None:
        """Return a loss with weights of its own: a subclass's, before a checkpoint is read."""
        return None

    def init_from_ckpt(
        self, path: str, ignore_keys: Sequence[str] = (), only_model: bool = False
    ) -> None:
        """Take weights from a checkpoint and log what the user should know of it."""
        from ldm.checkpoint.load import load_component

        module, prefix = (self.model, "model.") if only_model else (self, "")
        adapt = self.adapt_weights
        ignore = tuple(ignore_keys)
        report = load_component(module, path, prefix=prefix, ignore=ignore, adapt=adapt)
        report.ema_present = False  # its advice, --use_ema, is for programs that draw
        for line in report.warnings():
            logger.warning("%s", line)
        if only_model and self.use_ema:
            self._start_average()

    def adapt_weights(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what a checkpoint offers, changed to fit: here as it is."""
        return tensors

    def apply_model(
        self,
        x_noisy: Tensor,
        t: Tensor,
        cond: Conditioning = None,
        return_ids: bool = False,
    ) -> Tensor:
        """Predict eps, x0 or v (B,C,h,w) at x_noisy (B,C,h,w), t (B,).

        ``cond`` is a tensor, a list of tensors, or a dict with lists ``c_concat`` and
        ``c_crossattn``; what is no dict goes where the model's conditioning key says. A network
        that predicts a codebook's entries too returns both; ``return_ids`` keeps them.
        """
        if cond is not None and not isinstance(cond, dict):
            key = "c_concat" if self.model.conditioning_key == "concat" else "c_crossattn"
            cond = {key: list(cond) if isinstance(cond, (list, tuple)) else [cond]}
        if (params := getattr(self, "split_input_params", None)) is not None:
            from ldm.models.tiling.patches import SplitInput, denoise_in_patches

            split = SplitInput.of(params)
            weighting = getattr(self, "get_weighting", None)
            return denoise_in_patches(self._predict, x_noisy, t, cond, split, weighting)
        out = self._predict(x_noisy, t, cond)
        return out[0] if isinstance(out, tuple) and not return_ids else out

    def _predict(self, x: Tensor, t: Tensor, cond: Mapping[str, Any] | None) -> Tensor:
        return self.model(x, t, **(cond or {}))

    @torch.no_grad()
    def predict_x0(
        self,
        x: Tensor,
        t: int | Tensor,
        cond: Conditioning = None,
        uncond: Conditioning = None,
        scale: float = 1.0,
    ) -> Tensor:
        """Guess the clean samples behind noisy ones in one call of the network, without gradients.

        Args:
            x: Noisy samples (B,C,h,w).
            t: The step that they are at, 0 ... T-1: one for all, or one for each (B,).
            cond: Conditioning of B rows.
            uncond: Its empty counterpart; None means no guidance.
            scale: Of guidance; 1 is none.

        Returns:
            The estimate of x0 (B,C,h,w), whatever the network predicts: eps, x0 or v.

        Raises:
            UserError: The schedule has no such step.
        """
        times, guider = self.times_at(t, x), make_guider(scale, uncond)
        out = guider.combine(self.apply_model(*guider.prepare(x, times, cond, uncond)), times)
        return prediction.to_x0(out, x, *self.mix(times, x.shape), self.parameterization)

    @contextmanager
    def ema_scope(self, context: str | None = None) -> Iterator[None]:  # noqa: ARG002
        """Work with the averaged weights inside, where the model has them."""
        if not self.use_ema:
            yield
            return
        self.model_ema.store(self.model.parameters())
        self.model_ema.copy_to(self.model)
        try:
            yield
        finally:
            self.model_ema.restore(self.model.parameters())
