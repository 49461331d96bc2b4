"""Encode a data set's pictures and captions once, so that training need not do it every time.

Any configuration of main.py with a latent diffusion model is taken; its data set is read once, and
moments of the latents and encoded captions are written in shards. An interrupted run goes on when
it is started again. Several processes share the work: --part 1/8 to --part 8/8. main.py --latents
trains on the folder; a YAML names it as ldm.data.precomputed.PrecomputedLatents.

Example:
    python scripts/precompute_latents.py --base configs/stable-diffusion/v1-finetune.yaml \\
        --ckpt v1-5-pruned.ckpt --out data/latents data.params.train.params.root=my/pictures
"""

from __future__ import annotations

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # see ldm/programs/interrupts.py

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.programs.console import Console
from ldm.programs.start import run_settings_program
from ldm.settings.latents import PrecomputeSettings


def encode(console: Console, settings: PrecomputeSettings) -> None:
    """Encode the data set, and say where it lies."""
    from ldm.paths import is_file
    from ldm.pipelines.pipeline import resolve_device
    from ldm.training.precompute import Precomputation, precompute

    task = Precomputation(
        base=settings.base,
        out=settings.out,
        overrides=settings.overrides,
        split=settings.split,
        ckpt=settings.ckpt,
        text=not settings.no_text,
        half=settings.half,
        batch_size=settings.batch_size,
        shard_size=settings.shard_size,
        num_workers=settings.num_workers,
        device=str(resolve_device(settings.device)),
        seed=settings.seed,
        part=settings.share,
    )
    index = precompute(task, tell=console.say)
    done = sum(is_file(settings.out / name) for name in index.shards)
    console.say(f"{settings.out}: {index.count} items in {len(index.shards)} shards")
    if done < len(index.shards):
        console.say(f"{done} of them are there; the other parts are still to be encoded")
    elif settings.split == "train":
        console.say(f"to train on them: python main.py ... --latents {settings.out}")


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    left = "finished shards are kept; start it again to go on"
    return run_settings_program(PrecomputeSettings, __doc__, encode, argv, left=left)


if __name__ == "__main__":
    sys.exit(main())
