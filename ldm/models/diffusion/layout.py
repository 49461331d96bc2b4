"""Latent diffusion of pictures from layouts: the hub that shows the boxes it was given.

Shapes: n pictures, L tokens of a layout.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch

from ldm.errors import UserError
from ldm.models.diffusion.ddpm import LatentDiffusion
from ldm.models.diffusion.preview import Pictures

logger = logging.getLogger(__name__)

SIDE = 256  # pixels


class Layout2ImgDiffusion(LatentDiffusion):
    """Latent diffusion conditioned on object boxes: arXiv:2112.10752, section 4.3.1.

    Args:
        cond_stage_key: ``coordinates_bbox``, the entry of a batch with layouts (B, L).
        *args: Parameters of ``LatentDiffusion``, without ``cond_stage_key``.
        **kwargs: The same.

    Raises:
        UserError: Another ``cond_stage_key``.
    """

    def __init__(self, cond_stage_key: str = "coordinates_bbox", *args: Any, **kwargs: Any):
        if cond_stage_key != "coordinates_bbox":
            raise UserError(
                f"cond_stage_key {cond_stage_key!r} given; Layout2ImgDiffusion needs"
                " coordinates_bbox; for other conditioning take LatentDiffusion"
            )
        super().__init__(*args, cond_stage_key=cond_stage_key, **kwargs)

    def more_images(self, batch: Mapping[str, Any], count: int) -> Pictures:
        """Return ``bbox_image`` (n, 3, 256, 256) in [-1, 1]: the boxes, named by the data set.

        The data set is the Trainer's, with the methods that ``ldm.data.layout.LayoutFolder`` has;
        without one there is no such picture.
        """
        data = self._data_set()
        if data is None:
            logger.info("no bbox_image: the Trainer has no data set with conditional_builders")
            return {}
        plot = data.conditional_builders[self.cond_stage_key].plot
        rows = batch[self.cond_stage_key][:count]

        def name(category: int) -> str:
            return data.get_textual_label(data.get_category_id(category))

        pictures = [plot(row.detach().cpu(), name, (SIDE, SIDE)) for row in rows]
        return {"bbox_image": torch.stack(pictures)}

    def _data_set(self) -> Any:
        """Return the data set that can draw layouts, the running one's if it can, or None."""
        module = getattr(self._trainer, "datamodule", None)
        sets = dict(getattr(module, "datasets", None) or {})
        first = "train" if self.training else "validation"
        found = [sets.pop(first)] if first in sets else []
        for data in (*found, *sets.values()):
            data = data if hasattr(data, "conditional_builders") else getattr(data, "data", None)
            if hasattr(data, "conditional_builders"):
                return data
        return None
