"""How well is a real picture drawn again after inversion? Three ways, on the bundled model.

Pictures of held-out scenes are encoded, inverted along their own captions, drawn again under
guidance and decoded. Their PSNR is compared with what encoding and decoding alone leave of them.

Examples:
    python benchmarks/inversion.py
    python benchmarks/inversion.py --methods null-text --n 4 --epsilon_growth 0
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn

from benchmarks import reports
from benchmarks.demo_measures import ground_truth, held_out_prompts, psnr_of, side_of
from ldm.checkpoint.load import load_model
from ldm.data.demo.scenes import Scene
from ldm.errors import UserError
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.models.diffusion.inversion import METHODS, invert
from ldm.models.diffusion.null_text import Fit, NullText
from ldm.pipelines.models import DEMO_CHECKPOINT, DEMO_CONFIG, find
from ldm.processor import cores, cpu_name

TITLE = "Inversion of real pictures"
TARGET = 0.5  # dB that null-text may lose to the autoencoder alone
PROMPT_SEED = 20  # of the held-out scenes of quality_demo.py
SHOWN_STEPS = 6  # of the table of losses


@dataclass
class Measured:
    """What one way did to all pictures, a number for each.

    Attributes:
        psnr: Against the picture itself, in dB.
        lost: How much less that is than the autoencoder's own, in dB.
        seconds: Of inverting and of drawing again, a picture's share of its batch.
        fits: Losses of null-text's steps, by batch.
    """

    psnr: list[float] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    fits: list[tuple[Fit, ...]] = field(default_factory=list)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, paper = parser.add_argument, NullText()
    add("--config", default=DEMO_CONFIG, help="YAML of the model (default: %(default)s)")
    add("--ckpt", default=DEMO_CHECKPOINT, help="its weights (default: %(default)s)")
    add("--n", type=int, default=20, help="held-out scenes (default: %(default)s)")
    add("--methods", nargs="+", choices=METHODS, default=METHODS, help="default: all three")
    add("--scale", type=float, default=3.0, help="of guidance (default: %(default)s)")
    add("--steps", type=int, default=50, help="DDIM steps (default: %(default)s)")
    add("--spacing", default="linspace", help="of the steps (default: %(default)s)")
    add("--batch_size", type=int, default=4, help="pictures at a time (default: %(default)s)")
    for name in vars(paper):
        value = getattr(paper, name)
        add(f"--{name}", type=type(value), default=value, help="of NullText (default: %(default)s)")
    add("--save", metavar="NAME", help="also write results/inversion-NAME.md")
    args = parser.parse_args(argv)
    for name in ("n", "batch_size"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} {getattr(args, name)} given; expected 1 or more")
    return args


def measure(
    model: nn.Module, scenes: Sequence[Scene], args: argparse.Namespace
) -> dict[str, Measured]:
    """Measure the autoencoder alone, under ``none``, and each way."""
    sampler = DDIMSampler(model, spacing=args.spacing)
    sampler.make_schedule(args.steps)
    found = {name: Measured() for name in ("none", *args.methods)}
    for begin in range(0, len(scenes), args.batch_size):
        part = scenes[begin : begin + args.batch_size]
        pictures = ground_truth(part, side_of(model)).to(model.device)
        x0 = model.scale_factor * model.encode_first_stage(pictures).mode()
        own = psnr_of(_decoded(model, x0), pictures)
        found["none"].psnr += own
        for method in args.methods:
            measured, start = found[method], time.perf_counter()
            drawn, fits = _drawn_again(sampler, x0, [scene.caption for scene in part], method, args)
            measured.seconds += [(time.perf_counter() - start) / len(part)] * len(part)
            psnr = psnr_of(_decoded(model, drawn), pictures)
            measured.psnr += psnr
            measured.lost += [a - b for a, b in zip(own, psnr, strict=True)]
            measured.fits += [fits] if fits else []
        print(f"{len(found['none'].psnr)} of {len(scenes)} pictures", file=sys.stderr)
    return found


def _drawn_again(
    sampler: DDIMSampler, x0: Tensor, captions: list[str], method: str, args: argparse.Namespace
) -> tuple[Tensor, tuple[Fit, ...]]:
    model = sampler.model
    cond = model.get_learned_conditioning(captions)
    settings = NullText(**{name: getattr(args, name) for name in vars(NullText())})
    inversion = invert(
        sampler,
        x0,
        cond,
        method=method,
        scale=args.scale,
        uncond=model.get_learned_conditioning([""] * len(captions)),
        null_text=settings if method == "null-text" else None,
    )
    drawn = sampler.decode(inversion.x_T, cond, inversion.steps, guider=inversion.guider())
    return drawn, inversion.fits


def _decoded(model: nn.Module, x0: Tensor) -> Tensor:
    return model.decode_first_stage(x0).clamp(-1, 1)


def rows(found: dict[str, Measured]) -> Iterator[str]:
    """Give the lines of the table of ways."""
    yield "| way | PSNR, median | PSNR, mean | lost, median | lost, mean | lost, worst | s |"
    yield "|---" * 7 + "|"
    for name, measured in found.items():
        shown = [statistics.median(measured.psnr), statistics.mean(measured.psnr)]
        cells = [f"{value:.2f}" for value in shown]
        if measured.lost:
            lost = measured.lost
            shown = [statistics.median(lost), statistics.mean(lost), max(lost)]
            cells += [f"{value:.2f}" for value in shown]
            cells.append(f"{statistics.median(measured.seconds):.1f}")
        else:
            cells += ["-"] * 4
        yield f"| {name} | {' | '.join(cells)} |"


def loss_rows(measured: Measured, settings: argparse.Namespace) -> Iterator[str]:
    """Give the lines of the table of null-text's losses, at some steps."""
    yield "| null-text's step | done below | before, median | after, median | after, worst |"
    yield "|---" * 5 + "|"
    count = len(measured.fits[0])
    for i in sorted({round(k * (count - 1) / (SHOWN_STEPS - 1)) for k in range(SHOWN_STEPS)}):
        before = torch.cat([fits[i].before for fits in measured.fits])
        after = torch.cat([fits[i].after for fits in measured.fits])
        enough = settings.epsilon + i * settings.epsilon_growth
        values = (enough, before.median(), after.median(), after.max())
        yield f"| {i + 1} | " + " | ".join(f"{float(value):.2e}" for value in values) + " |"


def verdict(measured: Measured) -> str:
    """Say whether null-text is as near to the autoencoder as it is to be."""
    near = sum(lost <= TARGET for lost in measured.lost)
    mean = statistics.mean(measured.lost)
    reached = "reached" if mean <= TARGET else "missed"
    return (
        f"null-text within {TARGET} dB of the autoencoder: {reached} in the mean ({mean:.2f} dB),"
        f" by {near} of {len(measured.lost)} pictures"
    )


def describe(argv: Sequence[str] | None, args: argparse.Namespace, side: int) -> list[str]:
    """Say what was measured where."""
    given = " ".join(sys.argv[1:] if argv is None else argv)
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return [
        f"- command: `{f'python benchmarks/inversion.py {given}'.strip()}`",
        f"- hardware: {cpu_name()}, {cores()} cores, {torch.get_num_threads()} threads used;"
        f" load average {load}",
        f"- versions: Python {platform.python_version()}, torch {torch.__version__}",
        f"- {args.n} held-out scenes of {side}x{side} and their captions; {args.steps} DDIM steps,"
        f" {args.spacing}, guidance {args.scale:g}; PSNR in dB against the picture itself",
        "- none: encoded to the posterior's mode and decoded; lost: dB below that, picture by"
        f" picture; s: inverting and drawing again, {args.batch_size} pictures at a time",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for and print it; return the exit code."""
    args = parse_args(argv)
    try:
        with torch.no_grad():
            model, _ = load_model(find(args.config), find(args.ckpt))
            found = measure(model, held_out_prompts(args.n, "en", PROMPT_SEED), args)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    lines = [*describe(argv, args, side_of(model)), "", *rows(found)]
    if "null-text" in found:
        lines += ["", *loss_rows(found["null-text"], args), "", verdict(found["null-text"])]
    reports.tell(lines, TITLE, f"inversion-{args.save}" if args.save else None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
