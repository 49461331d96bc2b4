"""Settings of the Trainer that a model which steps its optimizers itself takes over."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl


def take_over(trainer: pl.Trainer, model: Any) -> None:
    """Move accumulation and clipping, which the Trainer would refuse to do, to such a model.

    Args:
        trainer: Changed for a model without automatic optimization.
        model: Has ``accumulated_batches`` and ``clip``, see ``TwoSidedTraining``; any other model
            is left as it is. Its loss's weights are loaded.

    Raises:
        UserError: The loss needs weights that are missing.
    """
    prepare = getattr(getattr(model, "loss", None), "prepare", None)
    if prepare is not None:
        prepare()
    if model.automatic_optimization or not hasattr(model, "accumulated_batches"):
        return
    model.accumulated_batches = trainer.accumulate_grad_batches
    trainer.accumulate_grad_batches = 1
    if trainer.gradient_clip_val:
        model.clip = {
            "gradient_clip_val": trainer.gradient_clip_val,
            "gradient_clip_algorithm": trainer.gradient_clip_algorithm or "norm",
        }
    trainer.gradient_clip_val = trainer.gradient_clip_algorithm = None
