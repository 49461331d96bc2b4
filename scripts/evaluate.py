"""Measure pictures: FID and KID of two folders, PSNR, SSIM and LPIPS of pairs, CLIP score.

Nothing is downloaded: Inception's, VGG's and CLIP's weights are files on this machine.

Example:
    python scripts/evaluate.py --real photos --fake outputs/txt2img-samples/samples \\
        --metrics fid kid --inception weights-inception-2015-12-05-6726825d.pth --json scores.json
"""

from __future__ import annotations

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # see ldm/programs/interrupts.py

from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.evaluation.settings import EvaluationProgramSettings
from ldm.programs.console import Console
from ldm.programs.start import run_settings_program


def show_bar(what: str, total: int) -> Callable[[int], None]:
    """Show a progress bar, on a terminal only."""
    from tqdm import tqdm

    bar = tqdm(total=total, desc=what, unit="picture", leave=False, disable=None)
    return bar.update


def evaluate(console: Console, settings: EvaluationProgramSettings) -> None:
    """Measure what is asked for, and show and write the report."""
    from ldm.evaluation.evaluation import Evaluation
    from ldm.evaluation.report import check_place
    from ldm.pipelines.pipeline import resolve_device

    check_place("--json", settings.json)
    check_place("--save_stats", settings.save_stats)
    report = Evaluation(settings, resolve_device(settings.device), show_bar).run()
    for text in report.warnings:
        console.warn(text)
    console.say(report.table())
    if settings.json is not None:
        report.save_json(settings.json)


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    left = "no report was made"
    return run_settings_program(EvaluationProgramSettings, __doc__, evaluate, argv, left=left)


if __name__ == "__main__":
    sys.exit(main())
