"""The adapter between a model and Lightning's Trainer.

A model (``AutoencoderKL``, ``LatentDiffusion``, ...) is a plain ``nn.Module`` that knows its
losses, optimizer and pictures. The task provides the Trainer's hooks, and records what exact
resuming needs besides the weights: how many batches and samples have been seen.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils._pytree import tree_map

from ldm.errors import UserError
from ldm.rng import seed_everything
from ldm.training.seeding import seed_of

logger = logging.getLogger(__name__)

PROGRESS_KEY = "training_progress"


class NonFiniteLoss(UserError):
    """The loss became NaN or infinite; saving now would overwrite the last good checkpoint."""


class TrainingTask(pl.LightningModule):
    """Train ``model`` under a Lightning Trainer, and save it under its own key names.

    Every batch starts from a random state that depends only on ``(seed, batch number, rank)``:
    noise, timesteps and dropout of batch k are the same in one long run and in a resumed one, and
    neither validation nor image logging changes them.

    Args:
        model: Has ``training_step(batch, batch_idx) -> (loss, logs)``, ``validation_step(batch,
            batch_idx) -> logs`` and ``configure_optimizers()``.
        seed: First part of each batch's seed.
    """

    def __init__(self, model: nn.Module, *, seed: int = 23):
        super().__init__()
        self.model = model
        self.seed = seed
        self.batches_done = 0
        self.samples_done = 0
        self.loaded_step = 0
        self.last_loss: Tensor | None = None

    # Weights have the model's own names, without a "model." prefix that loaders would have to
    # know, so that a training checkpoint is a checkpoint of the model.

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the model's weights under the model's names, with shards gathered.

        If weights are sharded, all processes must call it.
        """
        state = self.model.state_dict(*args, **kwargs)
        sharded = any(isinstance(value, DTensor) for value in state.values())
        return whole(state) if sharded else state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, **kwargs: Any):
        """Fill the model.

        Raises:
            UserError: The weights are another model's.
        """
        try:
            return self.model.load_state_dict(state_dict, strict=strict, **kwargs)
        except RuntimeError as error:
            lines = [line.strip() for line in str(error).splitlines()[1:]]
            raise UserError(
                f"the checkpoint does not fit {type(self.model).__name__}: {' '.join(lines)[:400]};"
                " resume with the run's own configuration"
            ) from error

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the position in the data and the seed."""
        checkpoint[PROGRESS_KEY] = {
            "batches_done": self.batches_done,
            "samples_done": self.samples_done,
            "seed": self.seed,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue the data at the saved position, with the original seed.

        Raises:
            UserError: The checkpoint holds only weights.
        """
        if "optimizer_states" not in checkpoint and self.trainer.training:
            raise UserError(
                "the checkpoint holds weights alone, without the optimizer's state; resume from "
                "last.ckpt, or begin a new run with it as model.params.ckpt_path"
            )
        progress = checkpoint.get(PROGRESS_KEY, {})
        self.loaded_step = checkpoint.get("global_step", 0)
        self.batches_done = progress.get("batches_done", self.batches_done)
        self.samples_done = progress.get("samples_done", self.samples_done)
        seed = progress.get("seed", self.seed)
        if seed != self.seed:
            logger.info("seed %d of the resumed run is kept, %d is not used", seed, self.seed)
        self.seed = seed

    def adopt(self, trainer: pl.Trainer) -> None:  # noqa: ARG002
        """Do nothing: the Trainer does everything; tasks that step manually take over parts."""

    def configure_optimizers(self) -> Any:
        """Return the model's optimizer and its schedule."""
        return self.model.configure_optimizers()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set this batch's random state, and pass the batch to the model's hook (scale_by_std)."""
        self._seed("train", self.batches_done)
        self.model.on_train_batch_start(batch, batch_idx, self.global_step)
        if self.trainer.world_size > 1 and self.batches_done == 0:
            self._share_buffers()

    def _share_buffers(self) -> None:
        """Send all processes what the first one measured on its first batch (scale_by_std)."""
        for buffer in self.model.buffers():
            if not isinstance(buffer, DTensor):  # shards differ between processes
                torch.distributed.broadcast(buffer, src=0)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch and log the model's figures."""
        loss, logs = self.model.training_step(batch, batch_idx)
        self.record(batch, logs)
        self.watch_loss(loss)
        return loss

    def record(self, batch: Any, logs: Mapping[str, Any]) -> None:
        """Log a batch's figures and count it."""
        size = batch_size_of(batch)
        self.log_dict(_detached(logs), on_step=True, on_epoch=False, batch_size=size)
        self.batches_done += 1
        self.samples_done += size * self.trainer.world_size

    def watch_loss(self, loss: Tensor) -> None:
        """Record a batch's loss, and stop before a step with a loss that is not finite.

        Raises:
            NonFiniteLoss: See ``check_loss``.
        """
        self.last_loss = loss.detach()
        # Reading the loss waits for an accelerator, so there it is checked only now and then.
        if loss.device.type == "cpu" or self.batches_done % 50 == 0:
            self.check_loss()

    def check_loss(self) -> None:
        """Stop if the last loss is not finite.

        Raises:
            NonFiniteLoss: The loss is NaN or infinite.
        """
        if self.last_loss is None or bool(torch.isfinite(self.last_loss).all()):
            return
        raise NonFiniteLoss(
            f"the loss is {float(self.last_loss)} at step {self.global_step}; last.ckpt is left as "
            "it was: resume from it with a lower learning rate, gradient_clip_val or precision 32"
        )

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Step, free the gradients, then update the model's averages (EMA).

        Here and not in ``on_train_batch_end``: that hook runs after checkpoints are written, and
        once per batch even if gradients are accumulated over several. Lightning would keep the
        gradients until the next backward pass, together with the next forward pass's activations.
        """
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        optimizer.zero_grad()
        self.model.on_train_batch_end()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the model's validation figures, averaged over the set.

        The noise of validation batch k is the same each time, so that two validations differ only
        by the weights.
        """
        self._seed("validation", batch_idx)
        logs = self.model.validation_step(batch, batch_idx)
        if self.trainer.sanity_checking:
            self._check_monitor(logs)
        self.log_dict(
            _detached(logs),
            on_step=False,
            on_epoch=True,
            batch_size=batch_size_of(batch),
            sync_dist=True,
        )

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Log the validation figures of the test set as ``test/...``."""
        self._seed("test", batch_idx)
        logs = self.model.validation_step(batch, batch_idx)
        named = {key.replace("val/", "test/", 1): value for key, value in logs.items()}
        # Lightning logs a test without training under step 0; a figure named step overrules it.
        named["step"] = float(max(self.global_step, self.loaded_step))
        self.log_dict(_detached(named), batch_size=batch_size_of(batch), sync_dist=True)

    def _check_monitor(self, logs: Mapping[str, Any]) -> None:
        """Check now, not hours later, that the figure which chooses the best is logged."""
        monitor = getattr(self.model, "monitor", None)
        if monitor is not None and monitor.startswith("val") and monitor not in logs:
            raise UserError(
                f"model.params.monitor is {monitor!r}, which validation does not log; "
                f"expected one of: {', '.join(sorted(logs))}"
            )

    def _seed(self, purpose: str, number: int) -> None:
        seed_everything(seed_of(self.seed, purpose, number, self.global_rank))


def batch_size_of(batch: Any) -> int:
    """Count the items of a collated batch: a mapping, sequence or tensor with equal first sides."""
    if isinstance(batch, Tensor):
        return int(batch.shape[0])
    if isinstance(batch, Mapping):
        return max(map(batch_size_of, batch.values()), default=1)
    return len(batch) if isinstance(batch, list | tuple) else 1


def whole(state: Any) -> Any:
    """Gather the shards in nested dicts and lists, on the CPU; return anything else unchanged."""
    return tree_map(lambda v: v.full_tensor().cpu() if isinstance(v, DTensor) else v, state)


def _detached(logs: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value.detach().float() if isinstance(value, Tensor) else value
        for key, value in logs.items()
    }
