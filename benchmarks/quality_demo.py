"""Does the demo model draw what it is told? Asked on combinations that training never saw.

Prompts are held-out combinations of nouns, relation or size, and background colour. Their pictures
are compared with all rendered glyphs (see scene_oracle.py): an oracle that never saw the model. The
first rows of the report show that the oracle itself can be believed: on the pictures that the
prompts describe, drawn with the font, and on the same pictures with each other's prompts.

Examples:
    python benchmarks/quality_demo.py
    python benchmarks/quality_demo.py --scale 2 4 --sampler dpm_solver --steps 15
    python benchmarks/quality_demo.py --ae_only --config configs/demo/autoencoder_kl_f4.yaml \\
        --ckpt logs/.../checkpoints/last.ckpt
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.demo_flags import add_walk, check_demo, demo_parser
from ldm.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmarks.demo_measures import Sampling, Score
    from benchmarks.scene_oracle import SceneOracle, Sight
    from ldm.data.demo.scenes import Scene

COLUMNS = ("background", "one", "both", "related", "explained")
TITLES = ("background", "one object", "both objects", "both, as related", "explained")
# A seed of its own, so that neither training nor its validation looked at this list.
PROMPT_SEED = 20
SHEET_COLUMNS = 20


def build_parser() -> argparse.ArgumentParser:
    """Make the command line; imports no torch."""
    parser = demo_parser(__doc__)
    add = parser.add_argument
    add("--use_ema", action="store_true", help="take the moving averages of a training checkpoint")
    add("--device", default="cpu", help="cpu, cuda, cuda:1, mps (default: %(default)s)")
    add("--n", type=int, default=200, help="English prompts (default: %(default)s)")
    add("--n_ja", type=int, default=40, help="Japanese prompts (default: %(default)s)")
    add(
        "--scale",
        type=float,
        nargs="+",
        default=[3.0],
        help="guidance scales to try beside none, which is 1 (default: 3)",
    )
    add_walk(parser, "ddim", 25, "of the starting noise (default: %(default)s)")
    add("--psnr_n", type=int, default=256, help="scenes for the PSNR (default: %(default)s)")
    add("--outdir", default="outputs/quality_demo", help="for sheets and report.json")
    add("--ae_only", action="store_true", help="measure the autoencoder alone")
    return parser


def check(options: argparse.Namespace) -> None:
    """Refuse what cannot work, before any model is loaded.

    Raises:
        UserError: a count below 1, or a missing file.
    """
    check_demo(options, n=2, n_ja=0, steps=1, batch_size=1, psnr_n=1)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    options = build_parser().parse_args(argv)
    try:
        check(options)
        run(options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def run(options: argparse.Namespace) -> None:
    """Load, measure, print and write the report."""
    from ldm.checkpoint.load import load_model
    from ldm.pipelines.pipeline import resolve_device

    device = resolve_device(options.device)
    model, _ = load_model(options.config, options.ckpt, use_ema=options.use_ema, device=device)
    if not options.ae_only and not hasattr(model, "first_stage_model"):
        raise UserError(
            f"--config {options.config} describes a first stage; expected a latent diffusion model;"
            " add --ae_only to measure it alone"
        )
    outdir = Path(options.outdir)
    outdir.mkdir(parents=True, exist_ok=True)
    report = {"options": {key: str(value) for key, value in vars(options).items()}}
    report["machine"] = describe_machine(options.device)
    print(report["machine"])
    report["psnr"] = measure_autoencoder(model, options, outdir)
    if not options.ae_only:
        report["scores"] = measure_drawing(model, options, outdir)
    text = json.dumps(report, indent=2, ensure_ascii=False)
    (outdir / "report.json").write_text(text + "\n", encoding="utf-8")
    print(f"sheets and report.json in {outdir}")


def describe_machine(device: str) -> str:
    """Say on what the figures were taken."""
    import torch

    return (
        f"Python {platform.python_version()}, torch {torch.__version__}, device {device},"
        f" {torch.get_num_threads()} CPU threads, {platform.machine()}"
    )


def measure_autoencoder(model: nn.Module, options: argparse.Namespace, outdir: Path) -> dict:
    """Print and return the PSNR of the first stage; ``model`` may be the first stage alone."""
    from benchmarks.demo_measures import autoencoder_psnr, side_of

    whole = hasattr(model, "first_stage_model")
    first_stage = model.first_stage_model if whole else model
    size = side_of(model) if whole else trained_side(options.config)
    psnr, shown = autoencoder_psnr(
        first_stage,
        size,
        count=options.psnr_n,
        batch_size=options.batch_size,
        seed=PROMPT_SEED,
    )
    save_sheet(shown, outdir / "autoencoder.png", columns=len(shown) // 2)
    mean, worst = sum(psnr) / len(psnr), min(psnr)
    print(f"autoencoder PSNR on {len(psnr)} held-out scenes of {size}x{size}:")
    print(f"  mean {mean:.2f} dB, worst {worst:.2f} dB\n")
    return {"mean": mean, "worst": worst, "scenes": len(psnr), "size": size}


def trained_side(config_path: Path) -> int:
    """Read the side in pixels from an autoencoder's configuration."""
    from ldm.config import load_config

    return int(load_config(config_path).model.params.ddconfig.resolution)


def measure_drawing(model: nn.Module, options: argparse.Namespace, outdir: Path) -> dict:
    """Print and return a row of scores per prompt list and guidance scale."""
    from benchmarks.demo_measures import Sampling, held_out_prompts
    from benchmarks.scene_oracle import SceneOracle

    sampling = Sampling(
        sampler=options.sampler,
        steps=options.steps,
        batch_size=options.batch_size,
        seed=options.seed,
        spacing=options.spacing,
    )
    oracle, table = SceneOracle(), {}
    scales = list(dict.fromkeys([1.0, *options.scale]))
    for language, count in (("en", options.n), ("ja", options.n_ja)):
        scenes = held_out_prompts(count, language, PROMPT_SEED)
        if not scenes:
            continue
        if language == "en":
            table.update(validate_oracle(oracle, scenes, model))
        for scale in scales:
            name = f"{language}, " + ("no guidance" if scale == 1 else f"scale {scale:g}")
            table[name] = score_drawing(model, oracle, scenes, (scale, sampling), outdir / name)
    print_table(table)
    return {name: asdict(score) for name, score in table.items()}


def validate_oracle(
    oracle: SceneOracle, scenes: Sequence[Scene], model: nn.Module
) -> dict[str, Score]:
    """Judge the pictures that the prompts describe: right prompts first, then wrong ones."""
    from benchmarks.demo_measures import ground_truth, judge, look_at, mismatched, side_of

    sights = look_at(oracle, ground_truth(scenes, side_of(model)), scenes)
    return {
        "oracle on ground truth": judge(sights, scenes),
        "oracle, wrong prompts": judge(*mismatched(sights, scenes)),
    }


def score_drawing(
    model: nn.Module,
    oracle: SceneOracle,
    scenes: Sequence[Scene],
    how: tuple[float, Sampling],
    stem: Path,
) -> Score:
    """Draw the prompts, keep a contact sheet and a list of verdicts, return the score."""
    from benchmarks.demo_measures import draw, judge, look_at

    started = time.perf_counter()
    pictures = draw(model, [scene.caption for scene in scenes], *how)
    seconds = time.perf_counter() - started
    print(f"{stem.name}: {len(scenes)} pictures, {seconds / len(scenes):.2f} s each")
    sights = look_at(oracle, pictures, scenes)
    stem = stem.with_name(stem.name.replace(", ", "-").replace(" ", "-"))
    save_sheet(pictures, stem.with_name(stem.name + ".png"), columns=SHEET_COLUMNS)
    stem.with_name(stem.name + ".txt").write_text(list_verdicts(sights, scenes), encoding="utf-8")
    return judge(sights, scenes)


def list_verdicts(sights: Sequence[Sight], scenes: Sequence[Scene]) -> str:
    """Write a line per picture: right or wrong, its place on the sheet, prompt, what was seen."""
    from benchmarks.scene_oracle import shows_layout

    lines = []
    for k, (sight, scene) in enumerate(zip(sights, scenes, strict=True)):
        right = sight.background == scene.background
        right = right and shows_layout(sight, scene.objects, scene.layout)
        row, column = divmod(k, SHEET_COLUMNS)
        seen = " + ".join(finding.noun for finding in sight.found)
        lines.append(
            f"{'right' if right else 'WRONG'} row {row + 1:2} column {column + 1:2}:"
            f" {scene.caption} | seen: {seen} on {sight.background},"
            f" explained {sight.explained:.2f}"
        )
    return "\n".join(lines) + "\n"


def save_sheet(pictures: Tensor, path: Path, columns: int) -> None:
    """Write pictures (B, 3, H, W) in [-1, 1] as one PNG, replacing an earlier one."""
    from PIL import Image

    from ldm.images.grid import make_grid
    from ldm.images.io import to_uint8

    Image.fromarray(make_grid(list(to_uint8(pictures)), columns)).save(path)


def print_table(table: dict[str, Score]) -> None:
    """Print scores as percentages."""
    print("\n" + f"{'':24}" + "".join(f"{title:>18}" for title in TITLES))
    for name, score in table.items():
        cells = (getattr(score, column) for column in COLUMNS)
        shown = ("-" if math.isnan(cell) else f"{100 * cell:.1f} %" for cell in cells)
        print(f"{name:24}" + "".join(f"{cell:>18}" for cell in shown))
    print()


if __name__ == "__main__":
    sys.exit(main())
