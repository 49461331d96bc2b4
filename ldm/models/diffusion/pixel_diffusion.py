"""Diffusion in the space of its inputs: a network, its schedule, its average and its training.

Shapes: B batch, C channels, h w sides of what is diffused, T training steps.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.models.diffusion.forward_process import ForwardProcess
from ldm.models.diffusion.loss_settings import (
    check_kind,
    check_loss_settings,
    check_parts,
    check_table,
)
from ldm.models.diffusion.wrapper import DiffusionWrapper
from ldm.process import prediction
from ldm.types import Conditioning
from ldm.util import instantiate_from_config

if TYPE_CHECKING:
    from ldm.process.loss import DiffusionLoss

logger = logging.getLogger(__name__)

# What only training or only some models need is imported where it is used: drawing a picture
# imports this file, and no loss, optimizer or average.


class DDPM(ForwardProcess):
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
        loss_config: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        check_loss_settings(loss_type, snr_gamma, timestep_density, loss_config)
        self.parameterization = prediction.check_parameterization(parameterization)
        self.loss_type, self.snr_gamma = loss_type if loss_config is None else None, snr_gamma
        self.timestep_density = timestep_density
        self.loss_config, self._described = loss_config, None
        self.monitor, self.clip_denoised, self.log_every_t = monitor, clip_denoised, log_every_t
        self.first_stage_key, self.image_size, self.channels = first_stage_key, image_size, channels
        self.original_elbo_weight, self.l_simple_weight = original_elbo_weight, l_simple_weight
        self.scheduler_config, self.optimizer_config = scheduler_config, optimizer_config
        self.learning_rate, self.v_posterior = 1e-4, v_posterior
        self.register_schedule(
            given_betas, beta_schedule, timesteps, linear_start, linear_end, cosine_s
        )
        self.model = DiffusionWrapper(unet_config, conditioning_key)
        self.use_ema, self.learn_logvar = use_ema, learn_logvar
        if use_ema:
            from ldm.modules.ema import LitEma

            self.model_ema = LitEma(self.model, decay=ema_decay)
        self._make_logvar(float(logvar_init))
        self.loss = self.make_loss()
        if ckpt_path is not None:
            self.init_from_ckpt(ckpt_path, ignore_keys, load_only_unet)

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
            from ldm.models.tiling.patches import SplitInput, denoise_in_patches

            split = SplitInput.of(self.split_input_params)
            return denoise_in_patches(self._predict, x, t, cond, split)
        return self._predict(x, t, cond)

    def _predict(self, x: Tensor, t: Tensor, cond: Mapping[str, Any] | None) -> Tensor:
        return self.model(x, t, **(cond or {}))

    def get_input(self, batch: Mapping[str, Any], key: str) -> Tensor:
        """Take pictures (B, H, W, 3) from a batch as (B, 3, H, W) float32."""
        from ldm.models.training_parts import pictures_from

        return pictures_from(batch, key)

    def get_training_pair(self, batch: Mapping[str, Any]) -> tuple[Tensor, Conditioning]:
        """Return what is diffused (B,C,h,w) and its conditioning."""
        return self.get_input(batch, self.first_stage_key), None

    def training_loss(self) -> DiffusionLoss:
        """Return what is minimised: ``loss``, built at the first call if ``loss_config`` says how.

        Raises:
            UserError: ``loss_config`` has a fault, or builds a module, whose weights would be in no
                checkpoint: ``make_loss`` of a subclass may return one. Or ``loss`` lacks a part.
        """
        if self.loss is None and self.loss_config is not None:
            loss = instantiate_from_config(self.loss_config, where="loss_config")
            if isinstance(loss, nn.Module):
                raise UserError(
                    f"loss_config.target {self.loss_config['target']!r} is a torch module; expected"
                    " a loss without weights; return it by make_loss of a subclass of"
                    f" {type(self).__name__}, where checkpoints and the optimizer find it"
                )
            self.loss = loss
        if self.loss is None:
            return self._described_loss()
        check_parts(self.loss)
        return self.loss

    def _described_loss(self) -> DiffusionLoss:
        """Return the loss of ``loss_type``, ``snr_gamma`` and ``timestep_density``, the same one
        while they stay.
        """
        from ldm.process.density import LogitNormal
        from ldm.process.loss import DiffusionLoss
        from ldm.process.weighting import MinSNR

        gamma, density = self.snr_gamma, self.timestep_density
        settings = (self.loss_type, gamma, None if density is None else tuple(density))
        if self._described is None or self._described[0] != settings:
            loss = DiffusionLoss(
                self.loss_type,
                weighting=None if gamma is None else MinSNR(gamma),
                density=None if density is None else LogitNormal(*density),
            )
            self._described = settings, loss
        return self._described[1]

    def _measured_on(self) -> prediction.Parameterization:
        return self.training_loss().parameterization or self.parameterization

    @property
    def lvlb_weights(self) -> Tensor:
        """The weights of the variational bound (T,): a buffer of this name, or by
        ``variational_weights``.
        """
        registered = self._buffers.get("lvlb_weights")
        if registered is not None:
            return registered
        from ldm.process.weighting import variational_weights

        return self.step_table("lvlb_weights", variational_weights, self._measured_on())

    @lvlb_weights.setter
    def lvlb_weights(self, weights: Tensor) -> None:
        self.register_buffer("lvlb_weights", weights, persistent=False)

    def get_loss(self, pred: Tensor, target: Tensor, mean: bool = True) -> Tensor:
        """Return the error of a prediction (B, ...): its mean, or each element's (B, ...)."""
        error = self.training_loss().kind(pred, target)
        return error.mean() if mean else error

    def p_losses(
        self, x_start: Tensor, cond: Conditioning, t: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss at steps t (B,) and its parts: DDPM Eq. 14 and 12, weighted."""
        noise = torch.randn_like(x_start) if noise is None else noise
        x = self.q_sample(x_start, t, noise)
        out = self.apply_model(x, t, cond).float()
        a, s = self.mix(t, x_start.shape)
        kind = self._measured_on()
        pred = prediction.convert(out, x, a, s, self.parameterization, kind)
        target = prediction.target(x_start, noise, a, s, kind)
        return self._weigh(self.get_loss(pred, target, mean=False).flatten(1).mean(1), t)

    def _loss_weights(self) -> Tensor:
        weighting = self.training_loss().weighting
        return self.step_table("loss_weights", weighting, self._measured_on())

    def _weigh(self, per_sample: Tensor, t: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum up the errors of samples (B,) at steps t (B,), as ``p_losses`` returns them."""
        weights = self._loss_weights()[t]
        logvar = self.logvar[t]
        simple = (per_sample * weights / logvar.exp() + logvar).mean()
        bound = (self.lvlb_weights[t] * per_sample).mean()
        loss = self.l_simple_weight * simple + self.original_elbo_weight * bound
        logs = {"loss_simple": per_sample.mean(), "loss_vlb": bound}
        if self.learn_logvar:
            logs["logvar"] = self.logvar.mean()
        return loss, {**logs, "loss": loss}

    def forward(self, x_start: Tensor, cond: Conditioning = None) -> tuple[Tensor, dict]:
        """Return the loss at drawn steps, and its parts."""
        return self.p_losses(x_start, cond, self.draw_steps(x_start.shape[0]))

    def draw_steps(self, count: int) -> Tensor:
        """Draw training steps (count,) in 0 ... T-1, by the loss's density."""
        return self.training_loss().density(count, self.num_timesteps, self.device)

    def shared_step(self, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch and its parts."""
        return self(*self.get_training_pair(batch))

    def training_step(
        self,
        batch: Mapping[str, Any],
        batch_idx: int,  # noqa: ARG002 - the training interface
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss to minimise and what to log."""
        loss, logs = self.shared_step(batch)
        return loss, {f"train/{name}": value.detach() for name, value in logs.items()}

    @torch.no_grad()
    def validation_step(
        self,
        batch: Mapping[str, Any],
        batch_idx: int,  # noqa: ARG002 - the training interface
    ) -> dict[str, Tensor]:
        """Return what to log of a validation batch; the averaged weights meet the same noise."""
        x_start, cond = self.get_training_pair(batch)
        drawn = self.draw_steps(x_start.shape[0]), torch.randn_like(x_start)
        parts = self.p_losses(x_start, cond, *drawn)[1]
        logs = {f"val/{name}": value for name, value in parts.items()}
        if self.use_ema:
            with self.ema_scope():
                averaged = self.p_losses(x_start, cond, *drawn)[1]
            logs.update({f"val/{name}_ema": value for name, value in averaged.items()})
        return logs

    def on_train_batch_start(self, batch: Mapping[str, Any], batch_idx: int, step: int) -> None:
        """Do nothing: nothing is prepared from the first batch."""

    def on_train_batch_end(self) -> None:
        """Move the averaged weights."""
        if self.use_ema:
            self.model_ema(self.model)

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

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Return the parameters to optimise: the network's and, if they learn, the loss's."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        if self.learn_logvar:
            parameters.append(self.logvar)
        if isinstance(self.loss, nn.Module):
            parameters.extend(p for p in self.loss.parameters() if p.requires_grad)
        return parameters

    def _check_loss(self) -> None:
        check_kind(self.training_loss(), (1, self.channels, 1, 1), self.betas)
        check_table("weights of the loss", self._loss_weights(), self.num_timesteps)
        check_table("weights of the bound", self.lvlb_weights, self.num_timesteps)

    def configure_optimizers(self) -> Any:
        """Return the optimizer and, if one is configured, the learning-rate schedule.

        Raises:
            UserError: Nothing is to learn, or the loss has a fault.
        """
        from ldm.models.training_parts import make_optimizer, split_tables, with_scheduler

        self._check_loss()  # before the first batch is waited for
        parameters = self.trainable_parameters()
        if not parameters:
            raise UserError(
                "no weight is trained: unet_trainable leaves the UNet out, and nothing else learns;"
                " expected something that does; set it to all or attn, or cond_stage_trainable"
            )
        if self.optimizer_config is None:
            optimizer = make_optimizer(torch.optim.AdamW, parameters, lr=self.learning_rate)
        else:
            optimizer = instantiate_from_config(
                self.optimizer_config,
                where="optimizer_config",
                params=split_tables(self, parameters),
                lr=self.learning_rate,
            )
        return with_scheduler(optimizer, self.scheduler_config)
