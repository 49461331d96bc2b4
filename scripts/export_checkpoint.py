"""Write a training checkpoint as one .safetensors file for inference.

Moving averages, training losses and optimizer state are left out; --use_ema takes the averages in
place of the weights. The file can be given to --ckpt of every script here and to other programs.

Example:
    python scripts/export_checkpoint.py --ckpt logs/run/checkpoints/last.ckpt --use_ema --half \\
        --out models/mine.safetensors
"""

from __future__ import annotations

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # see ldm/programs/interrupts.py

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.checkpoint.header import header_entries
from ldm.programs.console import Console
from ldm.programs.start import run_settings_program
from ldm.settings.checkpoints import ExportSettings


def export(console: Console, settings: ExportSettings) -> None:
    """Write the file, and say what is in it."""
    entries = header_entries(settings.meta)
    import torch

    from ldm.checkpoint.export import export_inference

    report = export_inference(
        settings.ckpt,
        settings.out,
        use_ema=settings.use_ema,
        dtype=getattr(torch, settings.dtype) if settings.dtype else None,
        metadata=entries,
        overwrite=settings.overwrite,
    )
    console.say(report.summary())


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    return run_settings_program(ExportSettings, __doc__, export, argv)


if __name__ == "__main__":
    sys.exit(main())
