"""Train an adapter: the model is frozen and keeps its weights to the bit, the adapter learns.

Everything else is ``LatentDiffusion``'s: its chain of hooks, its loss, its previews.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ldm.building import build_from
from ldm.errors import UserError
from ldm.models.diffusion.ddpm import LatentDiffusion
from ldm.models.diffusion.latent_inpainting import LatentInpaintDiffusion
from ldm.models.diffusion.prior_preservation import PRIOR, PriorPreservation
from ldm.models.hub_training import Figures
from ldm.paths import at_home
from ldm.training.adapters.base_model import base_params
from ldm.training.adapters.files import AdapterFiles
from ldm.training.adapters.record import Base
from ldm.training.adapters.trainable import Trainable

logger = logging.getLogger(__name__)

PREFIX = "adapter."
BASE = "adapted_base"
"""Entry of a checkpoint that names the model's file."""


class Adapting(PriorPreservation):
    """What a hub needs to train an adapter in place of itself, mixed in before it.

    Checkpoints hold the adapter's weights and the optimizer's state, not the model again.

    Args:
        adapter_config: ``target`` / ``params`` of a ``Trainable``.
        base_config: The YAML of the model, or its ``model`` section; what it says of the model's
            own training does not count. None where ``kwargs`` describe the model.
        ckpt_path: The model's weights. They stay in the file until they are read, and processes
            share them.
        file_name: Of the adapter's files, without an ending; by default the adapter's own, such
            as the word of an embedding, or the run's.
        keep_every_n_train_steps: See ``AdapterFiles``.
        half_files: Write the adapter's files in float16, half as large; checkpoints keep float32.
        **kwargs: Parameters of the hub, over those of ``base_config``.

    Attributes:
        adapter: The ``Trainable``.
        handle: By which it is attached.

    Raises:
        UserError: The adapter is no ``Trainable``, averages are asked for, or as ``base_params``.
    """

    def __init__(
        self,
        adapter_config: Mapping[str, Any],
        base_config: str | Mapping[str, Any] | None = None,
        ckpt_path: str | None = None,
        file_name: str | None = None,
        keep_every_n_train_steps: int | None = None,
        half_files: bool = False,
        **kwargs: Any,
    ):
        _refuse_training_of_the_model(kwargs)
        described = {} if base_config is None else base_params(base_config, type(self))
        # Weights that a file will take the place of need no memory.
        with nullcontext() if ckpt_path is None else torch.device("meta"):
            super().__init__(**{**described, **kwargs, "use_ema": False})
        if ckpt_path is not None:
            self.init_from_ckpt(ckpt_path)
        self.restarted_from_ckpt = ckpt_path is not None
        self.requires_grad_(False)
        self.base_path = ckpt_path
        self.file_name, self.keep_every_n_train_steps = file_name, keep_every_n_train_steps
        self.strict_loading = False  # the model's weights are in no checkpoint
        # What DDP would send from the first process to the others before the first step.
        self._ddp_params_and_buffers_to_ignore = list(self.state_dict())
        adapter = build_from(adapter_config, where="adapter_config", model=self)
        if not isinstance(adapter, Trainable):
            raise UserError(
                f"adapter_config.target is {type(adapter).__name__}, which is no adapter that "
                "trains; expected one of ldm.training.adapters, such as lora.LoRATraining; name one"
            )
        # In this order: what is attached may freeze all that the hub has.
        self.handle = adapter.attach(self)
        adapter.file_dtype = torch.float16 if half_files else None
        self.adapter: Trainable = adapter
        self.cond_stage_trainable = adapter.reaches_text
        self.train()

    @cached_property
    def base(self) -> Base:
        """The model's file, read through at the first look."""
        return Base.of(at_home(self._require_base()))

    def _require_base(self) -> Path:
        if self.base_path is None:
            raise UserError(
                "an adapter is to be trained on a model without weights; expected its file; give "
                "model.params.ckpt_path"
            )
        return Path(self.base_path)

    def train(self, mode: bool = True) -> Adapting:
        """Set training mode; the model itself stays in evaluation mode."""
        super().train(mode)
        for name, part in self.named_children():
            if name != "adapter":
                part.eval()
        return self

    def shared_step(self, batch: Mapping[str, Any], **kwargs: Any) -> tuple[Tensor, Figures]:
        """Return the loss of a batch and its parts; see ``PriorPreservation``.

        Raises:
            UserError: There are pictures of a class, and the adapter looks at pictures. Or captions
                are to call it, and those of the first batch do not.
        """
        if PRIOR in batch and self.adapter.sees:
            raise UserError(
                f"the data has pictures of a class, and a {self.adapter.kind} is trained, which "
                "looks at the batch; expected one subject alone; leave class_root out"
            )
        loss, figures = super().shared_step(batch, **kwargs)
        if self.adapter.word is None or loss.requires_grad or not torch.is_grad_enabled():
            return loss, figures
        if self.global_step == 0 and self.cond_dropout == 0:
            raise UserError(
                f"no caption of the first batch has the word {self.adapter.word!r}, which is to be "
                "learned; expected it in all; give the data set and adapter_config one name"
            )
        # All captions were left out: every process has to come to the same weights nevertheless.
        return loss + 0.0 * sum(p.sum() for p in self.adapter.parameters()), figures

    def get_input(self, batch: Mapping[str, Any], *args: Any, **kwargs: Any) -> list[Any]:
        """Take latents and conditioning from a batch, and let the adapter see it."""
        self.adapter.see(batch, kwargs.get("bs"))
        return super().get_input(batch, *args, **kwargs)

    def more_images(self, batch: Mapping[str, Any], count: int) -> dict[str, Tensor]:
        """Return what the adapter saw of a batch's first rows."""
        return {**super().more_images(batch, count), **self.adapter.shown(batch, count)}

    def on_fit_start(self) -> None:
        """Say how much learns, beside how much does not."""
        super().on_fit_start()
        count = sum(p.numel() for p in self.trainable_parameters())
        logger.info("%s of %.3f M parameters is trained", self.adapter.kind, count / 1e6)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Return the adapter's parameters.

        Raises:
            UserError: There is no model to train it on.
        """
        self._require_base()
        return [p for p in self.adapter.parameters() if p.requires_grad]

    def configure_callbacks(self) -> list[Any]:
        """Return what writes the adapter's files."""
        return [AdapterFiles(self.keep_every_n_train_steps)]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the adapter's weights alone, and name the model."""
        super().on_save_checkpoint(checkpoint)
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {k: v for k, v in state.items() if k.startswith(PREFIX)}
        checkpoint[BASE] = {"name": self.base.name, "sha256": self.base.sha256}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that a checkpoint is of this adapter on this model.

        Raises:
            UserError: It is not.
        """
        super().on_load_checkpoint(checkpoint)
        held = set(checkpoint["state_dict"])
        own = {name for name in self.state_dict() if name.startswith(PREFIX)}
        if odd := sorted(held ^ own):
            raise UserError(
                f"the checkpoint does not fit the {self.adapter.kind} in training: {odd[0]} is in "
                f"one of the two alone (and {len(odd) - 1} more); resume with the run's own "
                "configuration"
            )
        before = checkpoint.get(BASE, {})
        if before.get("sha256") != self.base.sha256:
            raise UserError(
                f"the run was trained on {before.get('name')!r} of another content than "
                f"{self.base.name!r} has; expected the same model; give its file as "
                "model.params.ckpt_path"
            )


class AdaptedDiffusion(Adapting, LatentDiffusion):
    """Training of an adapter on a ``LatentDiffusion``."""


class AdaptedInpaintDiffusion(Adapting, LatentInpaintDiffusion):
    """Training of an adapter on an inpainting model."""


def _refuse_training_of_the_model(given: Mapping[str, Any]) -> None:
    for name in ("use_ema", "unet_trainable", "cond_stage_trainable"):
        if given.get(name) not in (None, False, "none"):
            raise UserError(
                f"{name} {given[name]!r} given for the training of an adapter; expected false: the "
                "model stays as it is, and only the adapter learns; leave it out"
            )
