"""What do shortcuts save and what do they cost? Each beside plain drawing, on the bundled model.

Held-out scenes are drawn plainly and with each shortcut from the same noise. Pictures are compared
with the plain ones (PSNR) and judged by the oracle of the demo's scenes. Time is the processor's,
spent in the model, as a ratio to plain drawing in the same run; plain is drawn first and last.

Examples:
    python benchmarks/shortcuts.py --save 2026-11-30
    python benchmarks/shortcuts.py --n 10 --only reuse-3 freeu
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn

from benchmarks import reports
from benchmarks.demo_flags import add_walk, check_demo, demo_parser
from benchmarks.demo_measures import Score, held_out_prompts, judge, look_at, psnr_of
from benchmarks.sampling import cpu_name
from benchmarks.scene_oracle import SceneOracle
from ldm.data.demo.scenes import Scene
from ldm.errors import UserError
from ldm.pipelines.models import find_model
from ldm.pipelines.pipeline import Pipeline
from ldm.settings.generation import Txt2ImgSettings
from ldm.wrapping import Wrapping

PROMPT_SEED = 20  # as quality_demo.py has it
PLAIN, AGAIN = "plain", "plain, again"
CASES: Mapping[str, Mapping[str, Any]] = {
    "reuse-2": {"reuse": "2"},
    "reuse-3": {"reuse": "3"},
    "reuse-5": {"reuse": "5"},
    "reuse-3-branch-2": {"reuse": "3:2"},
    "reuse-3-branch-5": {"reuse": "3:5"},
    "merge-25": {"merge_tokens": 0.25},
    "merge-50": {"merge_tokens": 0.5},
    "merge-75": {"merge_tokens": 0.75},
    "interval-early": {"guidance_interval": "0:0.5"},
    "interval-middle": {"guidance_interval": "0.2:0.8"},
    "interval-late": {"guidance_interval": "0.5:1"},
    "rescale": {"guidance_rescale": 0.7},
    "zero-snr": {"zero_terminal_snr": True},
    "freeu": {"freeu": "1.1,1.2,0.9,0.2"},
    "turns": {"batch_cfg": "off"},
    "reuse-3-interval-merge": {
        "reuse": "3",
        "guidance_interval": "0.2:0.8",
        "merge_tokens": 0.5,
    },
}


@dataclass
class Found:
    """What one way of drawing gave.

    Attributes:
        pictures: (B, 3, H, W) in [-1, 1], on the CPU.
        seconds: Of the processor, in the model's predictions.
        calls: Of the model.
        score: What the oracle sees.
    """

    pictures: Tensor
    seconds: float
    calls: int
    score: Score


@contextmanager
def timed(model: nn.Module) -> Iterator[list[float]]:
    """Collect the processor's seconds of each call of a model inside the block."""
    spent: list[float] = []

    def apply(own: Any, *given: Any, **named: Any) -> Tensor:
        begin = time.process_time()
        out = own(*given, **named)
        spent.append(time.process_time() - begin)
        return out

    wrapping = Wrapping()
    wrapping.put(model, "apply_model", apply)
    try:
        yield spent
    finally:
        wrapping.undo()


def draw(pipeline: Pipeline, settings: Txt2ImgSettings, scenes: Sequence[Scene]) -> tuple:
    """Draw the captions of scenes; return pictures (B, 3, H, W) in [-1, 1], seconds and calls."""
    prompts = [scene.caption for scene in scenes]
    with timed(pipeline.model) as spent:
        drawn = list(pipeline.generate(settings, prompts=prompts, observer=lambda _: None))
    pixels = torch.stack([torch.from_numpy(each.plain.copy()) for each in drawn])
    return pixels.movedim(-1, 1) / 127.5 - 1.0, sum(spent), len(spent)


def settings_of(args: argparse.Namespace) -> Txt2ImgSettings:
    """Return how pictures are drawn plainly: each from a seed of its own."""
    return Txt2ImgSettings(
        ckpt=str(args.ckpt),
        config=str(args.config),
        sampler=args.sampler,
        ddim_steps=args.steps,
        spacing=args.spacing,
        scale=args.scale,
        seed=args.seed,
        seed_mode="per-image",
        n_iter=1,
        n_samples=args.batch_size,
        safety_checker="off",
        watermark="off",
        skip_grid=True,
    )


def measure(pipeline: Pipeline, args: argparse.Namespace) -> dict[str, Found]:
    """Draw plainly, with each shortcut, and plainly again."""
    scenes = held_out_prompts(args.n, "en", PROMPT_SEED)
    oracle, plain = SceneOracle(), settings_of(args)
    cases = {name: CASES[name] for name in args.only or CASES}
    found = {}
    for name, changes in {PLAIN: {}, **cases, AGAIN: {}}.items():
        pictures, seconds, calls = draw(pipeline, replace(plain, **changes), scenes)
        score = judge(look_at(oracle, pictures, scenes), scenes)
        found[name] = Found(pictures, seconds, calls, score)
        print(f"{name}: {seconds:.1f} s", file=sys.stderr)
    return found


def rows(found: Mapping[str, Found]) -> Iterator[str]:
    """Yield the lines of the table."""
    plain = found[PLAIN]
    base = statistics.mean(found[name].seconds for name in (PLAIN, AGAIN))
    yield "| case | flags | PSNR to plain, median | one object | both objects | background | time |"
    yield "|---|---|---|---|---|---|---|"
    for name, each in found.items():
        same = torch.equal(each.pictures, plain.pictures)
        psnr = (
            "same" if same else f"{statistics.median(psnr_of(each.pictures, plain.pictures)):.1f}"
        )
        score = each.score
        shares = " | ".join(f"{v:.0%}" for v in (score.one, score.both, score.background))
        yield f"| {name} | {flags(name)} | {psnr} | {shares} | {each.seconds / base:.2f} |"


def flags(name: str) -> str:
    """Return a case as a user types it."""
    parts = [
        f"--{key}" if value is True else f"--{key} {value}"
        for key, value in CASES.get(name, {}).items()
    ]
    return f"`{' '.join(parts)}`" if parts else "-"


def describe(argv: Sequence[str] | None, args: argparse.Namespace) -> list[str]:
    """Say what was measured where."""
    given = " ".join(sys.argv[1:] if argv is None else argv)
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return [
        f"- command: `{f'python benchmarks/shortcuts.py {given}'.strip()}`",
        f"- hardware: {cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads used;"
        f" load average {load}",
        f"- versions: Python {platform.python_version()}, torch {torch.__version__}",
        f"- {args.n} held-out scenes, {args.sampler}, {args.steps} steps, {args.spacing}, guidance"
        f" {args.scale:g}, {args.batch_size} pictures at a time",
        "- PSNR in dB; objects and background: the share that the oracle sees as asked; time: the"
        " processor's, in the model, over the mean of both plain runs",
    ]


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = demo_parser(__doc__)
    add = parser.add_argument
    add("--n", type=int, default=40, help="held-out prompts (default: %(default)s)")
    add("--scale", type=float, default=3.0, help="guidance scale (default: %(default)s)")
    add("--only", nargs="+", choices=CASES, help="these cases only")
    add("--save", metavar="NAME", help="also write results/shortcuts-NAME.md")
    add_walk(parser, "ddim", 25, "of the first picture's noise (default: %(default)s)")
    parser.set_defaults(spacing="trailing", batch_size=8)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for and print it; return the exit code."""
    args = parse_args(argv)
    try:
        check_demo(args, n=2, steps=1, batch_size=1)
        pipeline = Pipeline.load(find_model(settings_of(args)), device="cpu")
        found = measure(pipeline, args)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    lines = [*describe(argv, args), "", *rows(found)]
    reports.tell(lines, "Shortcuts", f"shortcuts-{args.save}" if args.save else None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
