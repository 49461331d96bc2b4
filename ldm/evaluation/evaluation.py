"""Measure pictures: FID and KID of two sets, PSNR, SSIM and LPIPS of pairs, CLIP score of captions.

    settings -> check both folders -> load networks -> read pictures -> report

Networks can be passed in place of those that the settings name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Protocol

import torch
from torch import Tensor

from ldm.data.picture_set import PictureSet
from ldm.errors import UserError
from ldm.evaluation import paired_scores
from ldm.evaluation.clip_score import captions_of, clip_scores, read_captions
from ldm.evaluation.inception import (
    FeatureExtractor,
    Inception,
    features_of,
    read_statistics,
    save_statistics,
)
from ldm.evaluation.report import Report, Score
from ldm.evaluation.settings import PAIRED, EvaluationSettings
from ldm.pipelines.clip import ClipPictures, ClipTexts, PictureEncoder, TextEncoder
from ldm.pipelines.phases import memory_for
from ldm.process.feature_distance import Gaussian, frechet_distance, kernel_distances

FEWEST_FOR_FID = 2048  # pictures: the width of Inception's features


class Progress(Protocol):
    """Shows the progress of one part of an evaluation."""

    def __call__(self, what: str, total: int) -> Callable[[int], None]:
        """Start showing a part; call the result with the number of pictures just done."""


def _silent(what: str, total: int) -> Callable[[int], None]:  # noqa: ARG001
    return lambda _: None


@dataclass
class Evaluation:
    """One evaluation.

    Attributes:
        settings: What to measure.
        device: Where networks compute.
        progress: Shows the progress.
        extractor: Used in place of Inception.
        encoders: Used in place of CLIP's towers.
    """

    settings: EvaluationSettings
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    progress: Progress = _silent
    extractor: FeatureExtractor | None = None
    encoders: tuple[TextEncoder, PictureEncoder] | None = None

    def run(self) -> Report:
        """Measure.

        Raises:
            UserError: a folder without pictures, pairs of different sizes, missing weights, lack
                of memory, ...
        """
        settings = self.settings
        settings.validate()
        self.fake = PictureSet(settings.fake, "--fake")
        statistics = settings.real_is_statistics
        self.real = None
        if settings.real is not None and not statistics:
            self.real = PictureSet(settings.real, "--real")
        self.report = Report()
        wanted = set(settings.metrics)
        # First what needs no network, so that mistakes are reported early.
        if paired := [name for name in PAIRED if name in wanted]:
            self._pairs(paired)
        what = f"{settings.batch_size} pictures at a time"
        smaller = "a smaller --batch_size" if settings.batch_size > 1 else "another --device"
        with memory_for(what, self.device, f"give {smaller}"):
            if "clip" in wanted:
                self._captions()
            if wanted & {"fid", "kid"}:
                self._features()
        self.report.scores.sort(key=lambda score: settings.metrics.index(score.metric))
        self._describe()
        return self.report

    def _pairs(self, names: list[str]) -> None:
        pairs = paired_scores.pairs_of(self.real, self.fake)
        known = {"psnr": paired_scores.psnr, "ssim": paired_scores.ssim}
        if "lpips" in names:
            known["lpips"] = paired_scores.lpips_by(self.settings.lpips, self.device)
        scores = {name: known[name] for name in names}
        step = self.progress("pairs", len(pairs))
        found = paired_scores.score_pairs(self.real, self.fake, scores, step)
        for name, values in found.items():
            spread = stdev(values) if len(set(values)) > 1 and max(values) < float("inf") else None
            self._add(name, fmean(values), spread, len(values), "pairs of the same name")
        alone = len(self.real.names) + len(self.fake.names) - 2 * len(pairs)
        if alone:
            self.report.warn(f"{alone} pictures have no partner of the same name: not compared")

    def _captions(self) -> None:
        settings = self.settings
        given = None if settings.captions is None else read_captions(settings.captions)
        captions = captions_of(self.fake, given)
        where = (settings.clip_type, settings.clip_ckpt, self.device)
        encoders = self.encoders or (ClipTexts(*where), ClipPictures(*where))
        step = self.progress("captions", len(captions))
        values = clip_scores(self.fake, captions, encoders, settings.batch_size, step)
        spread = stdev(values) if len(values) > 1 else None
        self._add("clip", fmean(values), spread, len(values), f"CLIP {settings.clip_type}")
        if without := len(self.fake.names) - len(captions):
            self.report.warn(f"{without} pictures of --fake have no caption: not in the CLIP score")

    def _features(self) -> None:
        settings = self.settings
        extractor = self.extractor or Inception(settings.inception, self.device)
        known = read_statistics(settings.real) if settings.real_is_statistics else None
        fake = self._features_of(self.fake, extractor)
        real = None if self.real is None else self._features_of(self.real, extractor)
        how = f"{extractor.name}; bicubic, antialiased, to {extractor.side}x{extractor.side}"
        if "fid" in settings.metrics:
            gaussian = known or Gaussian.of(real)
            _require_width(gaussian, fake, settings.real)
            self._fid(gaussian, fake, how)
        if settings.save_stats is not None:
            save_statistics(Gaussian.of(real), settings.save_stats)
        if "kid" in settings.metrics:
            self._kid(real, fake, how)

    def _features_of(self, pictures: PictureSet, extractor: FeatureExtractor) -> Tensor:
        pictures.sizes.clear()  # pairs may have counted some of them
        step = self.progress(str(pictures.folder), len(pictures.names))
        return features_of(pictures, extractor, self.settings.batch_size, step)

    def _fid(self, real: Gaussian, fake: Tensor, how: str) -> None:
        self._add("fid", frechet_distance(real, Gaussian.of(fake)), None, len(fake), how)
        counts = [len(fake)] if self.real is None else [len(fake), self.real.sizes.total()]
        if min(counts) < FEWEST_FOR_FID:
            self.report.warn(
                f"FID of {min(counts)} pictures: with fewer than {FEWEST_FOR_FID} it comes out too "
                "high, and is comparable with FIDs of as many pictures only; KID is not biased"
            )

    def _kid(self, real: Tensor, fake: Tensor, how: str) -> None:
        settings = self.settings
        size = min(settings.kid_size, len(real), len(fake))
        generator = torch.Generator().manual_seed(settings.seed)
        # There is only one subset that holds all pictures.
        count = 1 if size == len(real) == len(fake) else settings.kid_subsets
        values = kernel_distances(real, fake, size=size, count=count, generator=generator)
        spread = float(values.std()) if count > 1 else None
        how = f"{count} {'subset' if count == 1 else 'subsets'} of {size}; {how}"
        self._add("kid", float(values.mean()), spread, len(fake), how)

    def _add(self, metric: str, value: float, spread: float | None, count: int, how: str) -> None:
        self.report.scores.append(Score(metric, value, spread, count, how))

    def _describe(self) -> None:
        if self.settings.real_is_statistics:
            self.report.sets["real"] = {"statistics": str(Path(self.settings.real))}
        for pictures in filter(None, (self.real, self.fake)):
            self.report.describe(pictures)


def _require_width(real: Gaussian, fake: Tensor, path: str | None) -> None:
    if real.mean.shape[0] != fake.shape[1]:
        raise UserError(
            f"--real {path} has statistics of {real.mean.shape[0]} features, the pictures have "
            f"{fake.shape[1]}; expected those of the same network; make them anew by --save_stats"
        )
