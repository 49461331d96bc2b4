"""Save pictures of a model in training as PNG grids in the run's folder."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor

from ldm.atomic import replacing
from ldm.errors import UserError
from ldm.images.grid import make_grid
from ldm.models.diffusion.preview import light_settings
from ldm.training.exactness import ExactBatches

logger = logging.getLogger(__name__)


class ImageLogger(pl.Callback):
    """Write what ``model.log_images`` returns to ``images/{train,val}/``.

    File names are the reference's: ``<key>_gs-<step>_e-<epoch>_b-<batch>.png``. The noise is the
    same at every step, so that grids can be compared; training's random numbers are not consumed.

    Args:
        batch_frequency: Steps between two pictures of the training set.
        max_images: Pictures per grid.
        clamp: Clamp to the range before saving.
        increase_log_steps: Also log at the steps 1, 2, 4, ... below ``batch_frequency``.
        rescale: The pictures are in [-1, 1]; False: in [0, 1].
        disabled: Write nothing.
        log_on_batch_idx: Count batches of the epoch instead of optimizer steps.
        log_first_step: Also log step 0.
        log_images_kwargs: Further arguments of ``log_images``.

    Raises:
        UserError: A frequency below 1.
    """

    folder = "images"

    def __init__(
        self,
        batch_frequency: int = 750,
        max_images: int = 4,
        clamp: bool = True,
        increase_log_steps: bool = True,
        rescale: bool = True,
        disabled: bool = False,
        log_on_batch_idx: bool = False,
        log_first_step: bool = False,
        log_images_kwargs: Mapping[str, Any] | None = None,
    ):
        if batch_frequency < 1:
            raise UserError(
                f"image_logger batch_frequency {batch_frequency} given; expected steps, 1 or more; "
                "for no pictures set disabled: true"
            )
        self.batch_frequency, self.max_images = batch_frequency, max_images
        self.clamp, self.rescale, self.disabled = clamp, rescale, disabled
        self.log_on_batch_idx, self.log_first_step = log_on_batch_idx, log_first_step
        self.log_images_kwargs = dict(log_images_kwargs or {})
        doublings = int(math.log2(batch_frequency)) + 1 if increase_log_steps else 0
        self.log_steps = {2**n for n in range(doublings)}
        self._last_logged = -1

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Check ``log_images_kwargs`` now, before the first picture.

        Raises:
            UserError: The model's ``log_images`` has no such argument.
        """
        del trainer
        draw = getattr(pl_module, "log_images", None)
        if draw is None or self.disabled:
            return
        known = inspect.signature(draw).parameters
        unknown = sorted(set(self.log_images_kwargs) - set(known))
        if not unknown:
            return
        taken = ", ".join(sorted(set(known) - {"batch", "kwargs"}))
        message = (
            f"image_logger log_images_kwargs has {', '.join(unknown)}; "
            f"{type(pl_module).__name__}.log_images takes {taken}; correct the config"
        )
        if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
            raise UserError(message)
        logger.warning("%s: it has no effect", message)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the training batch when its step is due."""
        del outputs
        index = batch_idx if self.log_on_batch_idx else trainer.global_step
        if self._due(index) and index != self._last_logged:
            self._last_logged = index
            self.draw(trainer, pl_module, batch, batch_idx, "train")

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Log the first batch of each validation."""
        del outputs
        if batch_idx == 0 and trainer.global_step > 0 and not trainer.sanity_checking:
            self.draw(trainer, pl_module, batch, batch_idx, "val")

    def draw(self, trainer: pl.Trainer, model: Any, batch: Any, batch_idx: int, split: str) -> None:
        """Draw and save the grids of one batch."""
        drawing = trainer.is_global_zero or getattr(trainer.strategy, "sharded", False)
        if self.disabled or not drawing or not hasattr(model, "log_images"):
            return
        training = model.training
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.no_grad():
            torch.manual_seed(ExactBatches.of(trainer).seed)
            model.eval()
            options = {**light_settings(model, batch), **self.log_images_kwargs}
            if _takes_split(model.log_images):
                options.setdefault("split", split)
            images = model.log_images(batch, N=self.max_images, **options)
            model.train(training)
        if not trainer.is_global_zero:
            return
        suffix = f"gs-{trainer.global_step:06}_e-{trainer.current_epoch:06}_b-{batch_idx:06}"
        folder = Path(trainer.default_root_dir) / self.folder / split
        for key, pictures in images.items():
            grid = self._grid(pictures)
            with replacing(folder / f"{key}_{suffix}.png") as part:
                Image.fromarray(grid).save(part, format="PNG")
            self._to_tensorboard(trainer, f"{split}/{key}", grid)

    def _due(self, index: int) -> bool:
        regular = index % self.batch_frequency == 0 or index in self.log_steps
        return regular and (index > 0 or self.log_first_step)

    def _grid(self, pictures: Tensor) -> np.ndarray:
        """Lay out (n, 3, H, W), or an existing grid (3, H, W), as uint8 (H, W, 3)."""
        pictures = pictures.detach().float().cpu()
        pictures = pictures[: self.max_images] if pictures.ndim == 4 else pictures[None]
        if pictures.shape[1] == 1:  # masks
            pictures = pictures.expand(-1, 3, -1, -1)
        if self.rescale:
            pictures = (pictures + 1.0) / 2.0
        if self.clamp:
            pictures = pictures.clamp(0.0, 1.0)
        tiles = (pictures * 255.0).to(torch.uint8).movedim(1, -1).numpy()  # (n, H, W, 3)
        return make_grid(list(tiles), n_rows=4)

    @staticmethod
    def _to_tensorboard(trainer: pl.Trainer, tag: str, grid: np.ndarray) -> None:
        for log in trainer.loggers:
            add_image = getattr(getattr(log, "experiment", None), "add_image", None)
            if add_image is not None:
                add_image(tag, grid, global_step=trainer.global_step, dataformats="HWC")


def _takes_split(draw: Callable[..., Any]) -> bool:
    """Check whether a ``log_images`` can be told ``split``, as the reference's ImageLogger does."""
    parameters = inspect.signature(draw).parameters
    return "split" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
