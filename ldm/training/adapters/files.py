"""Write an adapter in training as files that other programs read, beside the run's checkpoints."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from ldm.errors import UserError
from ldm.training.adapters.record import record_of

logger = logging.getLogger(__name__)

FOLDER = "adapter"


class AdapterFiles(pl.Callback):
    """Write the adapter whenever a checkpoint is written, and at steps to keep.

    The file of the latest checkpoint is ``adapter/<name>.*`` in the run's folder; files that are
    kept are ``adapter/<name>-<step>.*``.

    Args:
        keep_every_n_train_steps: Steps between two files that are kept; None keeps the last alone.

    Raises:
        UserError: It is below 1.
    """

    def __init__(self, keep_every_n_train_steps: int | None = None):
        if keep_every_n_train_steps is not None and keep_every_n_train_steps < 1:
            raise UserError(
                f"keep_every_n_train_steps {keep_every_n_train_steps} given; expected 1 or more, or"
                " null for the last file alone; correct the config"
            )
        self.keep_every_n_train_steps = keep_every_n_train_steps
        self._written_at = self._kept_at = -1

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Keep a file, if one is due."""
        every, step = self.keep_every_n_train_steps, trainer.global_step
        if every and step and step % every == 0 and step != self._kept_at:
            self._kept_at = step
            self._write(trainer, pl_module, f"-{step:06}")

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        """Write the file of this step, once."""
        del checkpoint
        if trainer.global_step != self._written_at:
            self._written_at = trainer.global_step
            for path in self._write(trainer, pl_module, ""):
                logger.info("step %d: saved %s", trainer.global_step, path)

    def _write(self, trainer: pl.Trainer, hub: Any, suffix: str) -> list[Path]:
        if not trainer.is_global_zero or trainer.fast_dev_run:
            return []
        record = record_of(trainer, hub)
        folder = Path(trainer.default_root_dir) / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        return list(hub.adapter.save(folder, f"{record.name}{suffix}", record.header()))
