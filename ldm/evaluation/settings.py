"""What a user of evaluation can choose. Imports no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ldm.errors import UserError

PAIRED = ("psnr", "ssim", "lpips")
METRICS = ("fid", "kid", *PAIRED, "clip")


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Settings of an evaluation; names are the flags'.

    Attributes:
        fake: Folder of the pictures to judge.
        real: Folder of those to judge by, or an ``.npz`` of their statistics for FID.
        metrics: Of ``METRICS``.
        inception: File of Inception's weights, for FID and KID.
        clip_ckpt: CLIP's weights; None looks in the local caches.
        clip_type: OpenAI's name of the CLIP model.
        captions: File of captions; None reads the prompts in the pictures' files.
        lpips: File of VGG-16's weights.
        save_stats: File for the statistics of ``real``.
        batch_size: Pictures at a time.
        kid_subsets: Pairs of subsets that KID averages over.
        kid_size: Pictures in a subset, at most as many as there are.
        seed: Draws the subsets.
        device: As everywhere: auto, cpu, cuda, cuda:N or mps.
    """

    fake: str
    real: str | None = None
    metrics: tuple[str, ...] = ("fid", "kid")
    inception: str | None = None
    clip_ckpt: str | None = None
    clip_type: str = "ViT-L/14"
    captions: str | None = None
    lpips: str | None = None
    save_stats: str | None = None
    batch_size: int = 32
    kid_subsets: int = 100
    kid_size: int = 1000
    seed: int = 0
    device: str = "auto"

    @property
    def real_is_statistics(self) -> bool:
        """Whether ``real`` is a file of statistics."""
        return self.real is not None and self.real.lower().endswith(".npz")

    def validate(self) -> None:
        """Check what can be told without looking at pictures.

        Raises:
            UserError: naming the flag, what it allows and what to do.
        """
        self._check_metrics()
        for name, least in (("batch_size", 1), ("kid_subsets", 1), ("kid_size", 2), ("seed", 0)):
            if getattr(self, name) < least:
                raise UserError(
                    f"--{name} {getattr(self, name)} was given; expected {least} or more; change it"
                )
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise UserError(
                f"--device {self.device} is unknown; expected auto, cpu, cuda, cuda:N or mps; "
                "choose one of them"
            )
        if self.save_stats is not None and not (self._uses_features and self._has_real_pictures):
            raise UserError(
                "--save_stats was given; it writes the statistics of the pictures in --real; "
                "expected that folder, and fid or kid among --metrics; add them or leave it out"
            )

    def _check_metrics(self) -> None:
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown or not self.metrics:
            raise UserError(
                f"--metrics {' '.join(self.metrics)} was given; expected some of "
                f"{', '.join(METRICS)}; change it"
            )
        for name in self.metrics:
            if name != "clip" and self.real is None:
                raise UserError(
                    f"--metrics {name} was given without --real; expected the pictures to judge "
                    "by; add --real FOLDER, or take --metrics clip"
                )
            if name not in ("clip", "fid") and self.real_is_statistics:
                raise UserError(
                    f"--real {self.real} holds statistics, which serve fid alone, and {name} was "
                    "asked for; expected a folder of pictures; give it, or take --metrics fid"
                )

    @property
    def _uses_features(self) -> bool:
        return bool({"fid", "kid"} & set(self.metrics))

    @property
    def _has_real_pictures(self) -> bool:
        return self.real is not None and not self.real_is_statistics

    def require_inception(self) -> None:
        """Hold that Inception's weights are named where they are needed.

        Raises:
            UserError: they are not.
        """
        if self._uses_features and self.inception is None:
            raise UserError(
                "fid and kid need --inception, a file of Inception's weights "
                "(weights-inception-2015-12-05-6726825d.pth of torch-fidelity); give it, or other "
                "--metrics (nothing is downloaded here)"
            )
