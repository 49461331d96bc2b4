"""Settings of an evaluation. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ldm.errors import UserError
from ldm.settings.option import REQUIRED, Settings, device_option, max_pixels_option, option

PAIRED = ("psnr", "ssim", "lpips")
METRICS = ("fid", "kid", *PAIRED, "clip")


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(Settings):
    """Settings of an evaluation; the field names are the flags' names.

    Example:
        >>> EvaluationSettings(fake="drawn", metrics=("clip",)).batch_size
        32
    """

    program: ClassVar[str] = "evaluate"

    fake: str = option(REQUIRED, "the pictures to judge", str, metavar="FOLDER")
    real: str | None = option(
        None,
        "the pictures to judge by; for fid alone also an .npz of their statistics (mu, sigma)",
        str,
        metavar="FOLDER",
    )
    metrics: tuple[str, ...] = option(
        ("fid", "kid"),
        "what to measure; psnr, ssim and lpips compare pictures of the same name",
        str,
        choices=METRICS,
        several="+",
    )
    inception: str | None = option(
        None, "Inception's weights as torch-fidelity has them, for fid and kid", str, metavar="FILE"
    )
    clip_ckpt: str | None = option(
        None, "CLIP's weights", str, shown="those in the hub's caches", metavar="FILE"
    )
    clip_type: str = option("ViT-L/14", "the CLIP model", metavar="MODEL")
    captions: str | None = option(
        None,
        "captions by name, JSON or tab-separated",
        str,
        shown="the prompts in the pictures",
        metavar="FILE",
    )
    lpips: str | None = option(
        None, "VGG-16's weights as torchvision has them", str, metavar="FILE"
    )
    save_stats: str | None = option(
        None,
        "write the statistics of --real there, an .npz that --real takes",
        str,
        metavar="FILE",
    )
    batch_size: int = option(32, "pictures at a time", minimum=1)
    kid_subsets: int = option(100, "subsets that KID averages over", minimum=1)
    kid_size: int = option(1000, "pictures in a subset, at most as many as there are", minimum=2)
    seed: int = option(0, "seed of the draw of subsets", minimum=0)
    device: str = device_option()

    @property
    def real_is_statistics(self) -> bool:
        """Whether ``real`` is a file of statistics."""
        return self.real is not None and self.real.lower().endswith(".npz")

    def validate(self) -> None:
        """Check what can be checked without reading pictures.

        Raises:
            UserError: the message names the flag, what it allows and what to do.
        """
        super().validate()
        self._check_metrics()
        if self.save_stats is not None and not (self._uses_features and self._has_real_pictures):
            raise UserError(
                "--save_stats was given; it writes the statistics of the pictures in --real; "
                "expected that folder, and fid or kid among --metrics; add them or leave it out"
            )

    def _check_metrics(self) -> None:
        if not self.metrics:
            raise UserError(f"no --metrics were given; expected some of {', '.join(METRICS)}")
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


@dataclass(frozen=True, kw_only=True)
class EvaluationProgramSettings(EvaluationSettings):
    """Settings of ``scripts/evaluate.py``, where the networks come from files."""

    json: str | None = option(None, "write the report there too", str, metavar="FILE")
    max_pixels: int = max_pixels_option()

    def validate(self) -> None:
        """Check as the base does, and that Inception's weights are given if they are needed."""
        super().validate()
        if self._uses_features and self.inception is None:
            raise UserError(
                "fid and kid need --inception, a file of Inception's weights "
                "(weights-inception-2015-12-05-6726825d.pth of torch-fidelity); give it, or other "
                "--metrics (nothing is downloaded here)"
            )
