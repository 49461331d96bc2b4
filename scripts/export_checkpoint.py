"""Write a training checkpoint as one .safetensors file for inference.

Moving averages, training losses and optimizer state are left out; --use_ema takes the averages in
place of the weights. The file can be given to --ckpt of every script here and to other programs.

Example:
    python scripts/export_checkpoint.py --ckpt logs/run/checkpoints/last.ckpt --use_ema --half \\
        --out models/mine.safetensors
"""

from __future__ import annotations

import argparse
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
    parser.add_argument("--ckpt", required=True, help="checkpoint to read: .ckpt or .safetensors")
    parser.add_argument("--out", required=True, help="file to write: .safetensors")
    parser.add_argument(
        "--use_ema", action="store_true", help="take the averaged (EMA) weights where there are any"
    )
    types = parser.add_mutually_exclusive_group()
    types.add_argument(
        "--dtype",
        choices=("float32", "float16", "bfloat16"),
        help="element type of the weights (default: as in --ckpt)",
    )
    types.add_argument(
        "--half", action="store_const", const="float16", dest="dtype", help="--dtype float16"
    )
    parser.add_argument("--meta", action="append", default=[], metavar="KEY=VALUE", help=HELP)
    parser.add_argument("--overwrite", action="store_true", help="replace --out if it exists")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    try:
        options = parser().parse_args(argv)
        entries = header_entries(options.meta)

        import torch

        from ldm.checkpoint.export import export_inference

        report = export_inference(
            options.ckpt,
            options.out,
            use_ema=options.use_ema,
            dtype=getattr(torch, options.dtype) if options.dtype else None,
            metadata=entries,
            overwrite=options.overwrite,
        )
    except UserError as error:
        print(f"export_checkpoint: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(report.summary())
    return 0


if __name__ == "__main__":
    sys.exit(main())
