"""Prior preservation: a model learns one subject beside pictures of its class that it drew before.

arXiv:2208.12242, section 3.2.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ldm.data.class_pictures import ClassPictures
from ldm.errors import UserError
from ldm.images.io import save_picture, to_uint8
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.models.hub_training import Figures
from ldm.rng import PerImageNoise

logger = logging.getLogger(__name__)

PRIOR = "prior"
"""Entry of a batch that holds a batch of the class."""


class PriorPreservation:
    """What a hub does with pictures of a subject's class, mixed in before ``LatentDiffusion``.

    Args:
        prior_weight: Lambda of Eq. 2, the weight of the class's loss.

    Raises:
        UserError: It is below 0.
    """

    def __init__(self, *args: Any, prior_weight: float = 1.0, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if not prior_weight >= 0:
            raise UserError(f"prior_weight {prior_weight} given; expected 0 or more; 1 is usual")
        self.prior_weight = prior_weight

    def shared_step(self, batch: Mapping[str, Any], **kwargs: Any) -> tuple[Tensor, Figures]:
        """Return the loss of the subject and of its class, Eq. 2, and its parts.

        ``loss_prior`` is the class's, not weighted.
        """
        loss, figures = super().shared_step(batch, **kwargs)
        prior = batch.get(PRIOR)
        if prior is None:
            return loss, figures
        of_class, _ = super().shared_step(prior, **kwargs)
        total = loss + self.prior_weight * of_class
        prefix = "train" if self.training else "val"
        return total, {**figures, f"{prefix}/loss_prior": of_class, f"{prefix}/loss": total}

    def on_fit_start(self) -> None:
        """Draw the pictures of the class that the training set lacks; processes share the work."""
        super().on_fit_start()
        pictures = _class_pictures(self.trainer)
        if pictures is None:
            return
        missing = pictures.missing()
        if missing and self.loaded_step:
            raise UserError(
                f"{pictures.folder} lacks {len(missing)} of {pictures.count} pictures of the class,"
                " which the model drew before it was trained; expected all of them when a run is "
                "resumed; put them back, or begin a new run"
            )
        self.draw_class(pictures, missing[self.global_rank :: self.trainer.world_size])
        self.trainer.strategy.barrier("class pictures")

    @torch.no_grad()
    def draw_class(self, pictures: ClassPictures, numbers: list[int]) -> None:
        """Draw pictures of a class and save them.

        One at a time: a picture depends on its number alone, not on what else is missing.

        Args:
            pictures: Where, of what, and how.
            numbers: Which.
        """
        training, sampler = self.training, DDIMSampler(self)
        self.eval()
        if numbers:
            logger.info("drawing %d pictures of %r", len(numbers), pictures.prompt)
            cond = self.get_learned_conditioning([pictures.prompt])
            empty = self.get_learned_conditioning([""])
        shape = (self.channels, *(side // 2**self.num_downs for side in pictures.sides))
        for number in numbers:
            noise = PerImageNoise([pictures.seed + number])
            z, _ = sampler.sample(
                pictures.steps,
                1,
                shape,
                cond,
                x_T=noise.randn((1, *shape), self.device),
                unconditional_guidance_scale=pictures.scale,
                unconditional_conditioning=empty,
                verbose=False,
            )
            (picture,) = to_uint8(self.decode_first_stage(z), rounded=True)
            save_picture(picture, pictures.path(number))
        self.train(training)


def _class_pictures(trainer: Any) -> ClassPictures | None:
    """Return the class's pictures of a Trainer's training set, if it has any."""
    datasets = getattr(trainer.datamodule, "datasets", None) or {}
    dataset = datasets.get("train")
    return getattr(getattr(dataset, "data", dataset), "class_pictures", None)
