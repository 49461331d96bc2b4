"""Which sampler for how many model calls? Every sampler on the bundled model, at equal cost.

Each prompt is drawn by every sampler from the same noise with 8, 15, 25 and 50 calls of the model.
Samplers without noise of their own follow the model's probability flow: their pictures are compared
with those of DDIM in 1,000 steps (PSNR). Those with noise have no such limit and are judged, as all
are, by the glyph oracle alone: does the picture show what was asked for (see scene_oracle.py)?

Pictures are measured a few at a time and kept in --outdir, so that a run can be stopped, and gone
on with by the same command; --n may then be larger. lcm and tcd are left out: the bundled model is
not distilled.

Examples:
    python benchmarks/steps.py --minutes 25 --save 2026-11-29 --docs
    python benchmarks/steps.py --runs "dpmpp_2m karras" "ddim trailing" --calls 8
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import reports
from benchmarks.demo_flags import check_demo, demo_parser
from benchmarks.steps_tables import CALLS, RUNS, best_rows, flow_rows, mean_of, rows
from ldm.errors import UserError
from ldm.settings.samplers import SAMPLERS, check_walk

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmarks.scene_oracle import SceneOracle
    from ldm.data.demo.scenes import Scene

ROOT = Path(__file__).resolve().parents[1]
PLOT, PAGE = ROOT / "assets/steps.png", ROOT / "docs/samplers.md"
MARKS = ("<!-- steps: written by benchmarks/steps.py -->", "<!-- end of steps -->")
TITLE = "Which sampler for how many calls of the model"
PROMPT_SEED = 20  # of the held-out scenes of quality_demo.py
EXTRA = {"plms": 1}  # calls beyond one a step


@dataclass(frozen=True)
class Drawn:
    """What one picture came to.

    Attributes:
        picture: Its number in the list of prompts.
        run: Sampler and spacing.
        calls: How often the model was to be called, at most.
        psnr: Against DDIM in 1,000 steps, in dB; None where that was not drawn.
        right: Whether the oracle sees what the prompt asks for.
        explained: The share of the picture that the glyphs found account for, 0 to 1.
    """

    picture: int
    run: str
    calls: int
    psnr: float | None
    right: bool
    explained: float


def build_parser() -> argparse.ArgumentParser:
    """Make the command line; imports no torch."""
    parser = demo_parser(__doc__)
    add = parser.add_argument
    add("--n", type=int, default=200, help="prompts, at most (default: %(default)s)")
    add("--minutes", type=float, default=None, help="begin no more pictures after so many")
    add("--calls", type=int, nargs="+", default=CALLS, help="of the model (default: 8 15 25 50)")
    add("--runs", nargs="+", default=RUNS, metavar="'SAMPLER SPACING'", help="default: all")
    add("--psnr_n", type=int, default=24, help="of them with a limit (default: %(default)s)")
    add("--reference_steps", type=int, default=1000, help="of DDIM (default: %(default)s)")
    add("--scale", type=float, default=3.0, help="of guidance (default: %(default)s)")
    add("--batch_size", type=int, default=4, help="pictures at a time (default: %(default)s)")
    add("--device", default="cpu", help="cpu, cuda, cuda:1, mps (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the first picture's noise (default: %(default)s)")
    add("--outdir", default="outputs/steps", help="where measures are kept (default: %(default)s)")
    add("--save", metavar="NAME", help="also write results/steps-NAME.md")
    add("--docs", action="store_true", help="also write docs/samplers.md's table and its plot")
    return parser


def check(options: argparse.Namespace) -> None:
    """Refuse what cannot work, before any model is loaded.

    Raises:
        UserError: A count below its least, an unknown sampler or spacing, or a missing model.
    """
    check_demo(options, n=2, psnr_n=1, batch_size=1, reference_steps=1)
    if min(options.calls) < 3:
        raise UserError(f"--calls {min(options.calls)} was given; expected 3 or more; raise it")
    for run in options.runs:
        sampler, _, spacing = run.partition(" ")
        if sampler not in SAMPLERS:
            raise UserError(
                f"--runs {run!r} was given; expected a sampler and a spacing of scripts/txt2img.py,"
                " as 'dpmpp_2m karras'; correct it"
            )
        check_walk(sampler, spacing, 0.0, "--ddim_eta")


def steps_for(sampler: str, calls: int) -> int:
    """Return the most steps that a sampler takes with so many calls.

    Example:
        >>> [steps_for(name, 15) for name in ("ddim", "plms", "heun")]
        [15, 14, 8]
    """
    if SAMPLERS[sampler].calls == 2:
        return (calls + 1) // 2  # the last step has one
    return calls - EXTRA.get(sampler, 0)


class Record:
    """Measures that are kept between runs, a line of JSON each.

    Args:
        folder: Where; made if it is not there.
        settings: What must be alike for measures to go together.

    Raises:
        UserError: The folder holds measures of other settings.
    """

    def __init__(self, folder: Path, settings: dict[str, str]):
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "measures.jsonl"
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        if not lines:
            self._append(settings)
        elif json.loads(lines[0]) != settings:
            raise UserError(
                f"--outdir {folder} holds measures of other settings ({lines[0]}); expected those "
                "of this run; give another folder, or delete it"
            )
        self.drawn = [Drawn(**json.loads(line)) for line in lines[1:]]

    def has(self, pictures: Sequence[int], run: str, calls: int) -> bool:
        """Tell whether all these pictures are measured."""
        known = {each.picture for each in self.drawn if (each.run, each.calls) == (run, calls)}
        return known.issuperset(pictures)

    def add(self, drawn: Sequence[Drawn]) -> None:
        """Keep measures."""
        self.drawn += drawn
        self._append(*map(asdict, drawn))

    def _append(self, *entries: dict) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(entry) + "\n" for entry in entries)


class Bench:
    """A model and how it is asked.

    Args:
        model: The bundled one, or another of its kind.
        options: Of the command line.
    """

    def __init__(self, model: nn.Module, options: argparse.Namespace):
        from benchmarks.demo_measures import held_out_prompts
        from benchmarks.scene_oracle import SceneOracle

        self.model, self.options = model, options
        scenes = held_out_prompts(options.n, "en", PROMPT_SEED)
        # One-object and two-object scenes in turn, so that every part of the list has both.
        half = (len(scenes) + 1) // 2
        pairs = zip(scenes[:half], [*scenes[half:], None], strict=False)
        self.scenes: list[Scene] = [each for pair in pairs for each in pair if each is not None]
        self.oracle: SceneOracle = SceneOracle()

    def measure(self, record: Record) -> None:
        """Measure batch after batch, until all are done or the time is over."""
        options, began = self.options, time.monotonic()
        for first in range(0, len(self.scenes), options.batch_size):
            if options.minutes and time.monotonic() - began > 60 * options.minutes:
                return
            batch = range(first, min(first + options.batch_size, len(self.scenes)))
            self.measure_batch(record, batch)
            minutes = (time.monotonic() - began) / 60
            print(f"{batch[-1] + 1} pictures, {minutes:.1f} minutes", file=sys.stderr, flush=True)

    def measure_batch(self, record: Record, batch: Sequence[int]) -> None:
        """Measure what is not measured yet of some pictures."""
        from benchmarks.demo_measures import encoded, look_at, psnr_of
        from benchmarks.scene_oracle import shows_layout

        wanted = [(run, calls) for run in self.options.runs for calls in self.options.calls]
        wanted = [each for each in wanted if not record.has(batch, *each)]
        if not wanted:
            return
        scenes = [self.scenes[k] for k in batch]
        conds = encoded(self.model, [scene.caption for scene in scenes], self.options.scale)
        limit = self.reference(batch, conds) if batch[0] < self.options.psnr_n else None
        for run, calls in wanted:
            pictures = self.draw(run, calls, batch, conds)
            sights = look_at(self.oracle, pictures, scenes)
            distances = [None] * len(batch) if limit is None else psnr_of(pictures, limit)
            found = []
            for k, psnr in enumerate(distances):
                sight, scene = sights[k], scenes[k]
                right = sight.background == scene.background
                right = right and shows_layout(sight, scene.objects, scene.layout)
                found.append(Drawn(batch[k], run, calls, psnr, right, float(sight.explained)))
            record.add(found)

    def reference(self, batch: Sequence[int], conds: tuple[Tensor, Tensor | None]) -> Tensor:
        """Draw with DDIM down to the clean sample, with every training step if there are 1,000."""
        from benchmarks.demo_measures import walked

        sampler = self._sampler("ddim", "linspace", self.options.reference_steps, batch)
        whole = self.options.reference_steps == self.model.num_timesteps
        return walked(sampler, conds, self.options.scale, use_original_steps=whole)

    def draw(
        self, run: str, calls: int, batch: Sequence[int], conds: tuple[Tensor, Tensor | None]
    ) -> Tensor:
        """Draw with a sampler and a spacing."""
        from benchmarks.demo_measures import walked

        name, _, spacing = run.partition(" ")
        sampler = self._sampler(name, spacing, steps_for(name, calls), batch)
        return walked(sampler, conds, self.options.scale)

    def _sampler(self, name: str, spacing: str, steps: int, batch: Sequence[int]):
        from ldm.models.diffusion.sampler_registry import make_sampler
        from ldm.rng import PerImageNoise

        noise = PerImageNoise([self.options.seed + k for k in batch])
        sampler = make_sampler(name, self.model, spacing=spacing, noise=noise)
        sampler.make_schedule(steps, verbose=False)
        return sampler


def complete(drawn: Sequence[Drawn], options: argparse.Namespace) -> list[Drawn]:
    """Return the measures of what was asked for, of pictures that every run has."""
    asked = {(run, calls) for run in options.runs for calls in options.calls}
    kept = [each for each in drawn if (each.run, each.calls) in asked and each.picture < options.n]
    counts: dict[int, int] = {}
    for each in kept:
        counts[each.picture] = counts.get(each.picture, 0) + 1
    return [each for each in kept if counts[each.picture] == len(asked)]


def describe(argv: Sequence[str] | None, options: argparse.Namespace, count: int) -> Iterator[str]:
    """Say what was measured where."""
    import torch

    from benchmarks.sampling import cpu_name

    given = " ".join(sys.argv[1:] if argv is None else argv)
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    yield f"- command: `{f'python benchmarks/steps.py {given}'.strip()}`"
    yield (
        f"- hardware: {cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads used;"
        f" load average {load}"
    )
    yield f"- versions: Python {platform.python_version()}, torch {torch.__version__}"
    yield (
        f"- {count} held-out prompts at guidance {options.scale:g}, each from the same noise for "
        f"every sampler; PSNR in dB against DDIM in {options.reference_steps:,} steps, mean over "
        f"the first {min(count, options.psnr_n)}"
    )
    yield (
        "- right: pictures on which the oracle sees colour, objects and their relation as asked; "
        "explained: the share of a picture that the glyphs found account for, which tells finer"
    )


def report(argv: Sequence[str] | None, options: argparse.Namespace, record: Record) -> None:
    """Print the tables, and write them where the command line says.

    Raises:
        UserError: No picture is measured with every sampler yet.
    """
    drawn = complete(record.drawn, options)
    count = len({each.picture for each in drawn})
    if not count:
        raise UserError(
            f"--minutes {options.minutes} ended before one batch was measured; expected one or "
            "more; run the same command again to go on"
        )
    limit = {f"{run} {calls}": mean_of(drawn, run, calls) for run, calls in _asked(options)}
    table = [*flow_rows(limit, options.runs, options.calls), ""]
    table += [*rows(limit, options.runs, options.calls), ""]
    table += best_rows(limit, options.runs, options.calls)
    lines = [*describe(argv, options, count), "", *table]
    reports.tell(lines, TITLE, f"steps-{options.save}" if options.save else None)
    if options.docs:
        from benchmarks.steps_plot import plot

        plot(limit, options.runs, options.calls).save(PLOT, optimize=True)
        words = f"Measured on {count} prompts at guidance {options.scale:g}."
        write_page(PAGE, [words, "", f"![calls and quality](../assets/{PLOT.name})", "", *table])


def _asked(options: argparse.Namespace) -> list[tuple[str, int]]:
    return [(run, calls) for run in options.runs for calls in options.calls]


def write_page(page: Path, lines: Sequence[str]) -> None:
    """Replace what lies between the marks of a page."""
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(MARKS[0])
    _, after = rest.split(MARKS[1])
    middle = "\n".join([MARKS[0], "", *lines, "", MARKS[1]])
    page.write_text(before + middle + after, encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    options = build_parser().parse_args(argv)
    try:
        check(options)
        settings = {
            name: str(getattr(options, name))
            for name in ("ckpt", "scale", "seed", "reference_steps", "psnr_n", "batch_size")
        }
        record = Record(Path(options.outdir), settings)
        run(options, record)
        report(argv, options, record)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def run(options: argparse.Namespace, record: Record) -> None:
    """Load the model and measure."""
    import torch

    from ldm.checkpoint.load import load_model
    from ldm.pipelines.pipeline import resolve_device

    with torch.inference_mode():
        device = resolve_device(options.device)
        model, _ = load_model(options.config, options.ckpt, device=device)
        Bench(model, options).measure(record)


if __name__ == "__main__":
    sys.exit(main())
