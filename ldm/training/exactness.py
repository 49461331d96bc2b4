"""What makes a resumed run repeat the long one: random states, the position in the data, a watch.

It is a callback, so that any LightningModule is trained so, a fork's own hub too.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from ldm.data.stream_places import PLACE, StreamPlaces
from ldm.errors import UserError
from ldm.models.hub_training import HubTraining, batch_size_of
from ldm.rng import seed_everything
from ldm.training.seeding import seed_of

logger = logging.getLogger(__name__)

PROGRESS_KEY = "training_progress"


class NonFiniteLoss(UserError):
    """The loss became NaN or infinite; saving now would overwrite the last good checkpoint."""


class ExactBatches(pl.Callback):
    """Start every batch from a random state of its own, count batches, and watch the loss.

    The state depends only on ``(seed, batch number, rank)``: noise, timesteps and dropout of batch
    k are the same in one long run and in a resumed one, and neither validation nor image logging
    changes them. It must be the first callback: the others save what it counts.

    Args:
        seed: First part of each batch's seed; a resumed run keeps the original one.

    Attributes:
        batches_done: Batches seen by each process.
        samples_done: Samples seen by all processes.
        loaded_step: Optimizer steps of the checkpoint that the run continues.
        last_loss: The last batch's loss, of the first optimizer where there are two.
        places: Places of the stream that is trained on, if it is one that can be continued.
        saved_stream: What the checkpoint that the run continues says of them.
        stops_at_nan: False where a callback leaves out steps whose loss is no number.
    """

    stops_at_nan = True

    def __init__(self, seed: int = 23):
        self.seed = seed
        self.batches_done = self.samples_done = self.loaded_step = 0
        self.last_loss: Tensor | float = 0.0
        self._stepped_on: Tensor | None = None
        self.places: StreamPlaces | None = None
        self.saved_stream: dict[str, Any] = {}
        self.stream_identity = ""

    @classmethod
    def of(cls, trainer: pl.Trainer) -> ExactBatches:
        """Return the one that a Trainer has, or a new one, which has counted nothing."""
        return cls.find(trainer) or cls()

    @classmethod
    def find(cls, trainer: pl.Trainer) -> ExactBatches | None:
        """Return the one that a Trainer has, if any."""
        return next((c for c in trainer.callbacks if isinstance(c, cls)), None)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Set this batch's random state."""
        del pl_module, batch, batch_idx
        self._seed(trainer, "train", self.batches_done)

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Set the random state of validation batch k, the same each time.

        Two validations then differ only by the weights.
        """
        del pl_module, batch
        self._seed(trainer, "validation", batch_idx)

    def on_test_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Set the random state of test batch k."""
        del pl_module, batch
        self._seed(trainer, "test", batch_idx)

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Log the checkpoint's step: Lightning logs a test without training under step 0."""
        step = float(max(trainer.global_step, self.loaded_step))
        pl_module.log("step", step, batch_size=1)

    def _seed(self, trainer: pl.Trainer, purpose: str, number: int) -> None:
        seed_everything(seed_of(self.seed, purpose, number, trainer.global_rank))

    def on_before_backward(self, trainer: pl.Trainer, pl_module: Any, loss: Tensor) -> None:
        """Note a loss, and stop before a step with one that is not finite.

        Raises:
            NonFiniteLoss: See ``check_loss``.
        """
        del pl_module
        if not self.stops_at_nan:
            return
        before = 0.0 if self._stepped_on is None else 0.0 * self._stepped_on
        self._stepped_on = loss.detach() + before  # what was not finite stays so
        # Reading the loss waits for an accelerator, so there it is checked only now and then.
        if loss.device.type == "cpu" or self.batches_done % 50 == 0:
            self.check_loss(trainer)

    def check_loss(self, trainer: pl.Trainer) -> None:
        """Stop if a loss was not finite.

        Raises:
            NonFiniteLoss: A loss since the last check was NaN or infinite.
        """
        if not self.stops_at_nan or self._stepped_on is None:
            return
        if bool(torch.isfinite(self._stepped_on).all()):
            return
        raise NonFiniteLoss(
            f"the loss is {float(self._stepped_on)} at step {trainer.global_step}; last.ckpt is "
            "left as it was: resume from it with a lower learning rate, gradient_clip_val or "
            "precision 32"
        )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch, note its place in a stream, and keep its loss for the progress line.

        A model that steps in its own way moves its averages after its callbacks' turn. It does so
        now, for the others save them.
        """
        del batch_idx
        if isinstance(pl_module, HubTraining):
            pl_module.average_once(trainer.global_step)
        self.batches_done += 1
        self.samples_done += batch_size_of(batch) * trainer.world_size
        if self.places is not None and isinstance(batch, Mapping) and PLACE in batch:
            self.places.note(batch[PLACE])
        if isinstance(outputs, dict) and "loss" in outputs:
            # Lightning divides the loss of an automatic step by the batches that make one.
            parts = trainer.accumulate_grad_batches if pl_module.automatic_optimization else 1
            self.last_loss = outputs["loss"] * parts

    def on_sanity_check_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Check now, not hours later, that the figure which chooses the best is logged.

        Raises:
            UserError: Validation does not log it.
        """
        monitor, logged = getattr(pl_module, "monitor", None), trainer.callback_metrics
        if monitor is None or not any(trainer.num_sanity_val_batches):
            return
        if monitor.startswith("val") and monitor not in logged:
            raise UserError(
                f"model.params.monitor is {monitor!r}, which validation does not log; "
                f"expected one of: {', '.join(sorted(logged))}"
            )

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        """Add the position in the data, of all processes, and the seed."""
        del pl_module
        checkpoint[PROGRESS_KEY] = {
            "batches_done": self.batches_done,
            "samples_done": self.samples_done,
            "seed": self.seed,
        }
        if self.places is not None:
            own = self.places.saved(epoch_ended=trainer.is_last_batch)
            strategy = trainer.strategy
            every = strategy.all_gather(own.to(strategy.root_device)).reshape(-1, *own.shape)
            checkpoint[PROGRESS_KEY]["stream"] = {
                "shards": self.stream_identity,
                "places": every.tolist(),
            }

    def follow(self, dataset: Any, readers: int, rank: int, world: int) -> None:
        """Note the places of a stream from now on, and let it go on from those of the checkpoint.

        Args:
            dataset: A stream whose items carry places, such as ``CaptionedShards``.
            readers: Workers of each process, 1 for none.
            rank: Number of this process.
            world: Number of processes.
        """
        saved, self.stream_identity = self.saved_stream, dataset.identity
        if self.places is None:
            misfit = _misfit(saved, dataset.identity, world, readers)
            fits = bool(saved) and misfit is None
            if misfit:
                logger.warning(
                    "the stream cannot be continued (%s); it goes on in another order", misfit
                )
            begun_at = 0 if fits else self.samples_done
            self.places = StreamPlaces(readers, begun_at=begun_at, repeats=dataset.repeat)
            if fits:
                self.places.restore(saved["places"][rank])
        dataset.follow(self.places)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        """Continue the data at the saved position, with the original seed."""
        del trainer, pl_module
        self.loaded_step = checkpoint.get("global_step", 0)
        progress = checkpoint.get(PROGRESS_KEY, {})
        self.batches_done = progress.get("batches_done", self.batches_done)
        self.samples_done = progress.get("samples_done", self.samples_done)
        self.saved_stream = progress.get("stream", {})
        seed = progress.get("seed", self.seed)
        if seed != self.seed:
            logger.info("seed %d of the resumed run is kept, %d is not used", seed, self.seed)
        self.seed = seed


def _misfit(saved: Mapping[str, Any], identity: str, world: int, readers: int) -> str | None:
    """Say why the places of a checkpoint are not those of a stream; None where nothing is wrong."""
    if not saved:
        return None
    was = len(saved["places"]), len(saved["places"][0]) - 1
    if was != (world, readers):
        return (
            f"it had {was[0]} processes with {was[1]} readers each, now {world} with {readers}; "
            "give --devices and data.params.num_workers as before"
        )
    return "its shards, seed or shuffle are others" if saved["shards"] != identity else None
