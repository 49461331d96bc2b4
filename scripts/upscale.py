"""Make pictures larger: by a network such as Real-ESRGAN's, or by the published diffusion model.

Results are new files OUTDIR/NAME_00000.png; nothing is replaced.

Example:
    python scripts/upscale.py --init-img small.png --model RealESRGAN_x4plus --factor 3
    python scripts/upscale.py --init-img small.png --steps 100 --eta 1
"""

from __future__ import annotations

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # see ldm/programs/interrupts.py

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.errors import UserError
from ldm.paths import MISSING, unreachable
from ldm.programs.console import Console
from ldm.programs.start import leave, run_settings_program
from ldm.settings.upscale import MODEL, UpscaleProgramSettings


def upscale(console: Console, settings: UpscaleProgramSettings) -> None:
    """Make every picture larger and write it."""
    if settings.model is not None:
        from ldm.programs.upscaling import enlarge

        enlarge(console, settings)
        return
    from ldm.checkpoint.folders import find_model_files
    from ldm.images.io import load_image, save_numbered
    from ldm.pipelines.models import find
    from ldm.programs.naming import numbered_after
    from ldm.programs.output import OutputFolder

    pictures = {Path(path): load_image(path) for path in settings.init_img}
    OutputFolder(settings.outdir).check()
    if fault := unreachable(find(settings.ckpt)):
        what = ": there is no such file" if fault == MISSING else f" {fault}"
        raise UserError(
            f"--ckpt {settings.ckpt}{what}; expected a super-resolution model's "
            f"weights; name another network by --model, or put the published bsr_sr there, as "
            f"{MODEL}/model.ckpt"
        )
    config = find(settings.config) if settings.config else None
    files = find_model_files(find(settings.ckpt), "--ckpt", config, trust=settings.trust_config)

    from ldm.checkpoint.load import load_model
    from ldm.pipelines.pipeline import resolve_device
    from ldm.pipelines.postprocess import Watermark, telling
    from ldm.pipelines.upscale import Upscaler

    device = resolve_device(settings.device)
    model, report = load_model(
        files.load_config(), files.ckpt, use_ema=settings.use_ema, device=device
    )
    for text in report.warnings():
        console.warn(text)
    upscaler = Upscaler(model, settings, console.observe)
    mark = telling(Watermark.of(settings.watermark), console.observe)
    for path, picture in pictures.items():
        for result in upscaler.pictures(picture):
            name = f"{numbered_after(path)}.png"
            saved, _ = save_numbered(mark(result), settings.outdir, name)
            size = f"{result.shape[1]}x{result.shape[0]}"
            console.say(f"{path} ({picture.width}x{picture.height}) -> {saved} ({size})")


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    left = "finished pictures are kept"
    return run_settings_program(UpscaleProgramSettings, __doc__, upscale, argv, left=left)


if __name__ == "__main__":
    leave(main())
