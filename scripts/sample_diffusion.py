"""Draw samples of a diffusion model: unconditional, of classes, or of one text.

They go to LOGDIR/samples/<global step>/<date>/: img/sample_000000.png, ..., all of them as one
array in numpy/, and sampling_config.yaml. Picture k has the seed SEED + k, whatever the batch
size. Further arguments a.b=c change the model's configuration.

Examples:
    python scripts/sample_diffusion.py -r models/ldm/ffhq256 -n 16 --batch_size 4 -c 100 -e 0
    python scripts/sample_diffusion.py -r models/ldm/cin256-v2/model.ckpt \\
        --config configs/latent-diffusion/cin256-v2.yaml -n 8 --class_label 25 187 --scale 3
    python scripts/sample_diffusion.py -r logs/my-run -n 8 -v
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.arguments import ArgumentParser
from ldm.errors import UserError
from ldm.programs.sampling import run_sampling
from ldm.settings.samplers import SAMPLERS, SPACINGS
from ldm.settings.samples import PRECISIONS


def parser() -> argparse.ArgumentParser:
    """Describe the command line; its namespace holds only what is given."""
    parser = ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )

    def add(*flags: str, **options: object) -> None:
        parser.add_argument(*flags, **options)

    add("-r", "--resume", metavar="PATH", help="the model: a checkpoint, a folder with model.ckpt "
        "and config.yaml, or a run of main.py")  # fmt: skip
    add("--config", metavar="FILE", help="the model's YAML (default: the one with the weights)")
    add("-n", "--n_samples", type=int, metavar="N", help="how many samples (default: 50000)")
    add("--batch_size", type=int, metavar="N", help="how many at a time (default: 10)")
    add("-l", "--logdir", metavar="FOLDER", help="where a folder of the model's name gets the "
        "samples (default: none, the model's own folder)")  # fmt: skip
    add("-c", "--custom_steps", type=int, metavar="N", help="sampling steps (default: 50)")
    add("-e", "--eta", type=float, metavar="X", help="noise added in each DDIM step, 0 to 1 "
        "(default: 1)")  # fmt: skip
    add("-v", "--vanilla_sample", action="store_true", help="ancestral (DDPM) sampling over all "
        "training steps")  # fmt: skip
    add("--sampler", choices=SAMPLERS, help="the sampler that takes the steps (default: ddim)")
    add("--spacing", choices=SPACINGS, help="how steps are spread (default: uniform)")
    add("--class_label", nargs="+", metavar="CLASS", help="classes, as 207 or 0-999, in turn")
    add("--prompt", metavar="TEXT", help="what to draw, for text models")
    add("--scale", type=float, metavar="X", help="classifier-free guidance; the model's last class,"
        " or the empty text, is what it leads away from (default: 1, none)")  # fmt: skip
    add("--classifier", metavar="PATH", help="a classifier's run or checkpoint, to guide by")
    add("--classifier_scale", type=float, metavar="X", help="how much it guides (default: 1)")
    add("--seed", type=int, metavar="N", help="the seed of the first picture (default: 42)")
    add("--use_ema", action="store_true", help="take the checkpoint's averaged weights; a model "
        "whose configuration has use_ema does so anyway")  # fmt: skip
    add("--precision", choices=PRECISIONS, help="autocast is faster on GPUs (default: full)")
    add("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    add("--continue", metavar="FOLDER", help="go on in an earlier run's folder, up to --n_samples")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    try:
        options, rest = parser().parse_known_args(argv)
        unknown = [text for text in rest if text.startswith("-") or "=" not in text]
        if unknown:
            raise UserError(
                f"unknown argument {unknown[0]!r}; expected flags and a.b=c overrides; see --help"
            )
    except UserError as error:
        print(f"sample_diffusion: error: {error}", file=sys.stderr)
        return 2
    return run_sampling(vars(options), rest, "sample_diffusion")


if __name__ == "__main__":
    sys.exit(main())
