"""Train an autoencoder or a latent diffusion model from YAML.

    python main.py --base configs/demo/autoencoder_kl_f4.yaml --train --name ae
    python main.py --resume logs/2026-01-31T09-00-00_ae --train --max_steps 40000

Configurations name ``main.DataModuleFromConfig`` and its like by path, so these names live here
too; they are fetched on first use, because ``--help`` must not wait for torch.
"""

from __future__ import annotations

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # see ldm/programs/interrupts.py

from ldm.lazy import lazy_exports
from ldm.programs.console import Console, exit_codes
from ldm.training.arguments import parse

PUBLIC = {
    "DataModuleFromConfig": "ldm.training.data",
    "WrappedDataset": "ldm.training.data",
    "ImageLogger": "ldm.training.images",
    "SetupCallback": "ldm.training.callbacks",
    "CUDACallback": "ldm.training.callbacks",
}
__all__ = sorted(PUBLIC)


__getattr__, __dir__ = lazy_exports(__name__, PUBLIC)


def main(argv: list[str] | None = None) -> int:
    """Run the program and return its exit code: 0, 2 for a user's error, 128 + n for a signal."""
    console = Console("main.py", sys.stdout, sys.stderr)
    left = "training had not begun; nothing was saved"
    # Training logs by itself, and Lightning's warnings are worth reading.
    with exit_codes(console, lambda: left, takes_warnings=False) as ending:
        options = parse(argv)
        from ldm.training.program import run

        ending.code = run(options)
    return ending.code


if __name__ == "__main__":
    sys.exit(main())
