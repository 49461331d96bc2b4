"""Convert a checkpoint file to a diffusers folder, or such a folder to a checkpoint file.

Weights keep their values and types; --half halves them. What a folder has no place for lies in its
compvis.safetensors and comes back from there. A model that is not plain Stable Diffusion v1 gets
its configuration X.yaml beside X.safetensors.

Example:
    python scripts/convert.py models/mine.ckpt mine/
    python scripts/convert.py mine/ models/back.safetensors
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.arguments import ArgumentParser
from ldm.checkpoint.header import HELP, header_entries
from ldm.errors import UserError


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "src", metavar="SRC", help="a .ckpt or .safetensors file, or a diffusers folder"
    )
    parser.add_argument(
        "dst", metavar="DST", help="a folder for a file; a .safetensors or .ckpt file for a folder"
    )
    parser.add_argument(
        "--config",
        metavar="YAML",
        help="the model's configuration (default: of a file the YAML beside it, else Stable "
        "Diffusion's own; of a folder what its JSON files say)",
    )
    parser.add_argument("--half", action="store_true", help="write the weights as float16")
    parser.add_argument(
        "--use_ema", action="store_true", help="take the averaged (EMA) weights where there are any"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace DST if it exists")
    parser.add_argument("--meta", action="append", default=[], metavar="KEY=VALUE", help=HELP)
    return parser


def convert(options: argparse.Namespace) -> list[str]:
    """Convert as the command line says; return what was done.

    Raises:
        UserError: What is wrong; nothing is written.
    """
    entries = header_entries(options.meta)
    src = Path(options.src)
    if not src.exists():
        raise UserError(
            f"{options.src!r} does not exist; expected a checkpoint file or a diffusers folder; "
            "check the path"
        )

    import torch

    from ldm.checkpoint.diffusers.convert import Conversion, from_diffusers, to_diffusers

    how = Conversion(
        use_ema=options.use_ema,
        dtype=torch.float16 if options.half else None,
        metadata=entries,
        overwrite=options.overwrite,
    )
    if src.is_dir():
        return from_diffusers(src, options.dst, options.config, how)
    from ldm.pipelines.models import config_beside

    return to_diffusers(src, options.dst, options.config or config_beside(src), how)


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    logging.basicConfig(format="convert: %(message)s", level=logging.WARNING)
    try:
        lines = convert(parser().parse_args(argv))
    except UserError as error:
        print(f"convert: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
