"""Pictures while training, under ControlNet's name and in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ldm.training.images import ImageLogger as OurImageLogger


class ImageLogger(OurImageLogger):
    """Writes to ``image_log/train/``, at every ``batch_frequency``-th batch of an epoch.

    Args:
        batch_frequency: Batches between two pictures; the first batch counts.
        max_images: Pictures per grid.
        clamp: Clamp to the range before saving.
        increase_log_steps: Kept for cldm, which does not read it.
        rescale: The pictures are in [-1, 1].
        disabled: Write nothing.
        log_on_batch_idx: Kept for cldm, which always counts batches.
        log_first_step: Kept for cldm, which always logs the first.
        log_images_kwargs: Further arguments of ``log_images``.
    """

    folder = "image_log"

    def __init__(
        self,
        batch_frequency: int = 2000,
        max_images: int = 4,
        clamp: bool = True,
        increase_log_steps: bool = True,  # noqa: ARG002
        rescale: bool = True,
        disabled: bool = False,
        log_on_batch_idx: bool = False,  # noqa: ARG002
        log_first_step: bool = False,  # noqa: ARG002
        log_images_kwargs: Mapping[str, Any] | None = None,
    ):
        super().__init__(
            batch_frequency=batch_frequency,
            max_images=max_images,
            clamp=clamp,
            increase_log_steps=False,
            rescale=rescale,
            disabled=disabled,
            log_on_batch_idx=True,
            log_first_step=True,
            log_images_kwargs=log_images_kwargs,
        )
