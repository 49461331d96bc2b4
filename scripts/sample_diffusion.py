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

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # see ldm/programs/interrupts.py

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.programs.sampling import run_sampling
from ldm.programs.start import leave


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    return run_sampling(__doc__, argv)


if __name__ == "__main__":
    leave(main())
