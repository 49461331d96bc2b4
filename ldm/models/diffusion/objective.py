"""What a diffusion model minimises, and the steps of its training: DDPM, arXiv:2006.11239.

Shapes: B batch, C channels, h w sides of what is diffused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.models.diffusion.forward_process import ForwardProcess
from ldm.models.training_parts import make_optimizer, split_tables, with_scheduler
from ldm.process import prediction
from ldm.process.weighting import draw_steps
from ldm.types import Conditioning
from ldm.util import instantiate_from_config


class DiffusionObjective(ForwardProcess):
    """Base of the hubs: the loss at a step, a batch's steps, validation and the optimizer.

    Subclasses bring ``apply_model``, ``get_training_pair`` and the attributes that the methods
    name: ``model``, ``model_ema``, ``logvar`` and the settings of the loss.
    """

    def _register_logvar(self, first: float) -> None:
        """Make the log-variance of each step (T,), learned with the network or constant."""
        logvar = torch.full((self.num_timesteps,), float(first), device="cpu")
        if self.learn_logvar:
            self.logvar = nn.Parameter(logvar)
        else:
            self.register_buffer("logvar", logvar, persistent=False)

    def p_losses(
        self, x_start: Tensor, cond: Conditioning, t: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss at steps t (B,) and its parts: DDPM Eq. 14 and 12, weighted."""
        noise = torch.randn_like(x_start) if noise is None else noise
        out = self.apply_model(self.q_sample(x_start, t, noise), t, cond)
        a, s = self._mix(t, x_start.shape)
        error = out.float() - prediction.target(x_start, noise, a, s, self.parameterization)
        error = error.abs() if self.loss_type == "l1" else error.square()
        per_sample = error.flatten(1).mean(1)
        weighted = per_sample * self.snr_weights[t]
        logvar = self.logvar[t]
        loss = self.l_simple_weight * (weighted / logvar.exp() + logvar).mean()
        bound = (self.lvlb_weights[t] * per_sample).mean()
        logs = {"loss_simple": per_sample.mean(), "loss_vlb": bound}
        if self.learn_logvar:
            logs["logvar"] = self.logvar.mean()
        loss = loss + self.original_elbo_weight * bound
        return loss, {**logs, "loss": loss}

    def forward(self, x_start: Tensor, cond: Conditioning = None) -> tuple[Tensor, dict]:
        """Return the loss at uniformly drawn steps, and its parts."""
        return self.p_losses(x_start, cond, self.draw_steps(x_start.shape[0]))

    def draw_steps(self, count: int) -> Tensor:
        """Draw training steps (count,) in 0 ... T-1."""
        return draw_steps(count, self.num_timesteps, self.timestep_density, self.device)

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
        """Return the parameters to optimise."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        return [*parameters, self.logvar] if self.learn_logvar else parameters

    def configure_optimizers(self) -> Any:
        """Return the optimizer and, if one is configured, the learning-rate schedule.

        Raises:
            UserError: Nothing is to learn.
        """
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
