"""DreamBooth: teach a model one subject, and keep what it knows of the subject's class.

arXiv:2208.12242. ``prior_preservation`` has what any hub can be given of it.
"""

from __future__ import annotations

from ldm.models.diffusion.ddpm import LatentDiffusion
from ldm.models.diffusion.prior_preservation import PriorPreservation


class DreamBooth(PriorPreservation, LatentDiffusion):
    """Fine-tuning of a whole model on a few pictures of one subject.

    Its parameters are those of ``LatentDiffusion``, and ``prior_weight``.
    """
