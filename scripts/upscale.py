"""Make pictures larger, four times with the published super-resolution model.

Results are new files OUTDIR/NAME_00000.png; nothing is replaced.

Example:
    python scripts/upscale.py --init-img small.png --steps 100 --eta 1
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.arguments import ArgumentParser
from ldm.errors import UserError
from ldm.programs.console import Console, run_guarded

MODEL = "models/ldm/bsr_sr"


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--init-img", nargs="+", required=True, metavar="FILE", help="the small pictures")
    add("--outdir", default="outputs/upscale-samples", metavar="FOLDER",
        help="where results go (default: %(default)s)")  # fmt: skip
    add("--ckpt", default=f"{MODEL}/model.ckpt", metavar="FILE",
        help="the weights (default: %(default)s)")  # fmt: skip
    add("--config", metavar="FILE", help="the model's YAML (default: beside the weights)")
    add("--steps", type=int, default=100, metavar="N", help="sampling steps (default: 100)")
    add("--eta", type=float, default=1.0, metavar="X",
        help="noise added in each step, 0 to 1 (default: 1)")  # fmt: skip
    add("--n_samples", type=int, default=1, metavar="N", help="results for each (default: 1)")
    add("--tile", type=int, default=128, metavar="N", help="sides, in pixels of the small picture, "
        "of the patches that larger ones are cut into; 0 never cuts (default: 128)")  # fmt: skip
    add("--seed", type=int, default=42, metavar="N", help="the first result's (default: 42)")
    add("--use_ema", action="store_true", help="take the checkpoint's averaged weights")
    add("--device", default="auto", metavar="DEVICE",
        help="auto, cpu, cuda, cuda:N or mps (default: auto)")  # fmt: skip
    return parser


def upscale(options: argparse.Namespace, console: Console) -> None:
    """Make every picture larger."""
    from ldm.checkpoint.folders import find_model_files
    from ldm.images.io import load_image, save_numbered
    from ldm.pipelines.models import find
    from ldm.programs.output import OutputFolder

    pictures = {Path(path): load_image(path) for path in options.init_img}
    OutputFolder(options.outdir).check()
    if not find(options.ckpt).exists():
        raise UserError(
            f"--ckpt {options.ckpt}: there is no such file; expected a super-resolution model's "
            f"weights; put the published bsr_sr there, as {MODEL}/model.ckpt"
        )
    config = find(options.config) if options.config else None
    files = find_model_files(find(options.ckpt), "--ckpt", config)

    from ldm.checkpoint.load import load_model
    from ldm.pipelines.pipeline import resolve_device
    from ldm.pipelines.upscale import Upscaler, UpscaleSettings

    names = ("steps", "eta", "seed", "n_samples", "tile")
    settings = UpscaleSettings(**{name: getattr(options, name) for name in names})
    settings.validate()
    device = resolve_device(options.device)
    model, report = load_model(
        files.load_config(), files.ckpt, use_ema=options.use_ema, device=device
    )
    for text in report.warnings():
        console.warn(text)
    upscaler = Upscaler(model, settings, console.observe)
    for path, picture in pictures.items():
        for result in upscaler.pictures(picture):
            name = path.stem.translate({ord("{"): "_", ord("}"): "_"})
            saved, _ = save_numbered(result, options.outdir, f"{name}_{{:05d}}.png")
            size = f"{result.shape[1]}x{result.shape[0]}"
            console.say(f"{path} ({picture.width}x{picture.height}) -> {saved} ({size})")


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    console = Console("upscale", sys.stdout, sys.stderr)
    return run_guarded(
        console,
        lambda: upscale(parser().parse_args(argv), console),
        lambda: "finished pictures are kept",
    )


if __name__ == "__main__":
    sys.exit(main())
