"""What does drawing together gain on this processor, and has each picture the bytes it has alone?

Pictures of the bundled model, alone and in batches, in turns; each picture's bytes are compared
with those of its request drawn alone. Times are CPU seconds: other programs do not count, so run it
with OMP_NUM_THREADS=1 where there are any.

Example:
    OMP_NUM_THREADS=1 python benchmarks/together.py --save cpu
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import reports  # noqa: E402
from ldm.processor import cores, cpu_name

if TYPE_CHECKING:
    from ldm.pipelines.pipeline import Pipeline
    from ldm.pipelines.request import Request
    from ldm.pipelines.text_cache import TextCache

SIZES = (1, 2, 3, 4, 8)
THINGS = ("a red apple", "a cat left of a dog", "two stars", "a boat on water", "a house")
COLOURS = ("green", "blue", "white", "black")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--steps", type=int, default=8, help="DDIM steps of each picture (default: 8)")
    add("--pictures", type=int, default=16, help="different pictures (default: 16)")
    add("--repeats", type=int, default=3, help="how often each is drawn (default: 3)")
    add("--side", type=int, default=64, help="of the pictures, in pixels (default: 64)")
    add("--kernels", nargs="+", default=["plain", "auto"], help="as of scripts/txt2img.py")
    add("--save", metavar="NAME", help="also write results/together-NAME.md")
    args = parser.parse_args(argv)
    if min(args.steps, args.pictures, args.repeats) < 1:
        parser.error("--steps, --pictures and --repeats go from 1")
    return args


def requests(pipeline: Pipeline, args: argparse.Namespace, kernels: str) -> list[Request]:
    """Return requests that differ in prompt, seed and guidance scale."""
    from ldm.settings.generation import Txt2ImgSettings

    made = []
    for number in range(args.pictures):
        text = f"{THINGS[number % len(THINGS)]} on a {COLOURS[number % len(COLOURS)]} background"
        settings = Txt2ImgSettings(
            prompt=text,
            seed=number,
            scale=2.0 + number % 4,
            ddim_steps=args.steps,
            H=args.side,
            W=args.side,
            n_samples=1,
            n_iter=1,
            seed_mode="per-image",
            kernels=kernels,
            safety_checker="off",
        )
        made.append(pipeline.prepare(settings))
    return made


def png(picture: object) -> bytes:
    """Return the bytes of a picture's file."""
    from ldm.images.io import encode_picture

    return encode_picture(picture.pixels, "png", picture.parameters, synthetic=picture.drawn)


def draw(
    pipeline: Pipeline, asked: Sequence[Request], size: int, cache: TextCache
) -> tuple[list[bytes], float]:
    """Draw requests ``size`` at a time (0: each by itself, as programs do).

    Returns:
        The files, and the CPU seconds of a picture.
    """
    from ldm.pipelines.together import draw_together

    quiet, files, begin = lambda _: None, {}, time.process_time()
    for first in range(0, len(asked), size or 1):
        some = asked[first : first + (size or 1)]
        if size:
            drawn = draw_together(pipeline, some, observer=quiet, cache=cache)
        else:
            drawn = enumerate(pipeline.generate(some[0], observer=quiet))
        files |= {first + index: png(picture) for index, picture in drawn}
    return [files[n] for n in range(len(asked))], (time.process_time() - begin) / len(asked)


def measure(args: argparse.Namespace, kernels: str) -> Iterator[str]:
    """Draw alone and in batches of each size, in turns; yield rows of the table."""
    from ldm.pipelines.pipeline import Pipeline
    from ldm.pipelines.together import TextCache

    pipeline, cache = Pipeline.load(device="cpu"), TextCache()
    asked = requests(pipeline, args, kernels)
    sizes = (0, *SIZES)
    own, _ = draw(pipeline, asked, 0, cache)
    for size in SIZES:  # what is measured of bits, and packed, once
        draw(pipeline, asked, size, cache)
    seconds: dict[int, list[float]] = {size: [] for size in sizes}
    equal: dict[int, int] = {}
    for _ in range(args.repeats):
        for size in sizes:
            files, spent = draw(pipeline, asked, size, cache)
            seconds[size].append(spent)
            equal[size] = sum(a == b for a, b in zip(files, own, strict=True))
    alone = statistics.median(seconds[0])
    for size in sizes:
        spent = statistics.median(seconds[size])
        yield (
            f"| {kernels} | {size or 'alone, by generate'} | {1e3 * spent:.1f} | "
            f"{alone / spent:.2f} | {equal[size]} of {len(asked)} |"
        )


def report(args: argparse.Namespace, argv: Sequence[str]) -> Iterator[str]:
    """Measure, and yield the lines of the report as they come."""
    import torch

    yield f"- command: `{' '.join(['python benchmarks/together.py', *argv])}`"
    yield f"- hardware: {cpu_name()}, {cores()} cores, {torch.get_num_threads()} threads used"
    yield f"- versions: Python {platform.python_version()}, torch {torch.__version__}"
    yield f"\n{args.side}x{args.side} pixels, {args.steps} DDIM steps, PNG compressed:\n"
    yield "| kernels | at a time | CPU ms a picture | alone's / its | files with their own bytes |"
    yield "|---|---|---|---|---|"
    for kernels in args.kernels:
        yield from measure(args, kernels)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    given = sys.argv[1:] if argv is None else argv
    args = parse_args(given)
    save = f"together-{args.save}" if args.save else None
    reports.tell(report(args, given), "What drawing together gains", save)
    return 0


if __name__ == "__main__":
    sys.exit(main())
