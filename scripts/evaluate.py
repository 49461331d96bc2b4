"""Measure pictures: FID and KID of two folders, PSNR, SSIM and LPIPS of pairs, CLIP score.

Nothing is downloaded: Inception's, VGG's and CLIP's weights are files on this machine.

Example:
    python scripts/evaluate.py --real photos --fake outputs/txt2img-samples/samples \\
        --metrics fid kid --inception weights-inception-2015-12-05-6726825d.pth --json scores.json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.arguments import ArgumentParser
from ldm.evaluation.settings import METRICS, EvaluationSettings
from ldm.programs.console import Console, run_guarded


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = ArgumentParser(
        prog="evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--fake", required=True, metavar="FOLDER", help="the pictures to judge")
    add(
        "--real",
        metavar="FOLDER",
        help="the pictures to judge by; for fid alone also an .npz of their statistics (mu, sigma)",
    )
    add(
        "--metrics",
        nargs="+",
        choices=METRICS,
        default=["fid", "kid"],
        help="what to measure; psnr, ssim and lpips compare pictures of the same name "
        "(default: fid kid)",
    )
    add("--inception", metavar="FILE", help="Inception's weights as torch-fidelity has them")
    add("--clip_ckpt", metavar="FILE", help="CLIP's weights (default: those in the hub's caches)")
    add("--clip_type", default="ViT-L/14", help="which CLIP model (default: ViT-L/14)")
    add(
        "--captions",
        metavar="FILE",
        help="captions by name, JSON or tab-separated (default: the prompts in the pictures)",
    )
    add("--lpips", metavar="FILE", help="VGG-16's weights as torchvision has them")
    add("--save_stats", metavar="FILE", help="write the statistics of --real, an .npz for --real")
    add("--json", metavar="FILE", help="write the report there too")
    add("--batch_size", type=int, default=32, help="pictures at a time (default: 32)")
    add("--kid_subsets", type=int, default=100, help="subsets that KID averages (default: 100)")
    add("--kid_size", type=int, default=1000, help="pictures in a subset (default: 1000)")
    add("--seed", type=int, default=0, help="draws the subsets (default: 0)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (default: auto)")
    return parser


def show_bar(what: str, total: int) -> Callable[[int], None]:
    """Show a progress bar, on a terminal only."""
    from tqdm import tqdm

    bar = tqdm(total=total, desc=what, unit="picture", leave=False, disable=None)
    return bar.update


def run(console: Console, argv: list[str] | None) -> None:
    """Measure what the command line asks for."""
    given = vars(parser().parse_args(argv))
    json_file = given.pop("json")
    settings = EvaluationSettings(**{**given, "metrics": tuple(dict.fromkeys(given["metrics"]))})
    settings.validate()
    settings.require_inception()

    from ldm.evaluation.evaluation import Evaluation
    from ldm.evaluation.report import check_place
    from ldm.pipelines.pipeline import resolve_device

    check_place("--json", json_file)
    check_place("--save_stats", settings.save_stats)
    report = Evaluation(settings, resolve_device(settings.device), show_bar).run()
    for text in report.warnings:
        console.warn(text)
    console.say(report.table())
    if json_file is not None:
        report.save_json(json_file)


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code: 0, 2 for a user's error, 130 for Ctrl-C."""
    console = Console("evaluate", sys.stdout, sys.stderr)
    return run_guarded(console, lambda: run(console, argv), lambda: "no report was made")


if __name__ == "__main__":
    sys.exit(main())
