"""Convert a checkpoint file to a diffusers folder, or such a folder to a checkpoint file.

Weights keep their values and types; --half halves them. What a folder has no place for lies in its
compvis.safetensors and comes back from there. A model that is not plain Stable Diffusion v1 gets
its configuration X.yaml beside X.safetensors.

Example:
    python scripts/convert.py models/mine.ckpt mine/
    python scripts/convert.py mine/ models/back.safetensors
"""

from __future__ import annotations

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # see ldm/programs/interrupts.py

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.atomic import clear
from ldm.checkpoint.header import header_entries
from ldm.errors import UserError
from ldm.paths import is_folder, real_path, unreachable
from ldm.programs.console import Console
from ldm.programs.start import run_settings_program
from ldm.settings.checkpoints import ConvertSettings


def convert(console: Console, settings: ConvertSettings) -> None:
    """Convert as the settings say, and say what was done."""
    entries = header_entries(settings.meta)
    src = Path(settings.src)
    clear(real_path(src).parent)  # a killed run may have put it aside
    if fault := unreachable(src):
        raise UserError(
            f"{settings.src!r} {fault}; expected a checkpoint file or a diffusers folder; "
            "check the path"
        )

    import torch

    from ldm.checkpoint.diffusers.convert import Conversion, from_diffusers, to_diffusers
    from ldm.checkpoint.found_config import load_model_config

    how = Conversion(
        use_ema=settings.use_ema,
        dtype=torch.float16 if settings.half else None,
        metadata=entries,
        overwrite=settings.overwrite,
    )
    if is_folder(src):
        config = settings.config and load_model_config(settings.config, given=True)
        lines = from_diffusers(src, settings.dst, config, how)
    else:
        from ldm.pipelines.models import config_beside

        given = settings.trust_config or settings.config is not None
        config = load_model_config(settings.config or config_beside(src), given=given)
        lines = to_diffusers(src, settings.dst, config, how)
    for line in lines:
        console.say(line)


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    return run_settings_program(ConvertSettings, __doc__, convert, argv)


if __name__ == "__main__":
    sys.exit(main())
