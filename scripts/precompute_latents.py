"""Encode a data set's pictures and captions once, so that training need not do it every time.

Any configuration of main.py with a latent diffusion model is taken; its data set is read once, and
moments of the latents and encoded captions are written in shards. An interrupted run goes on when
it is started again. main.py --latents trains on the folder; a YAML names it as
ldm.data.precomputed.PrecomputedLatents.

Example:
    python scripts/precompute_latents.py --base configs/stable-diffusion/v1-finetune.yaml \\
        --ckpt v1-5-pruned.ckpt --out data/latents data.params.train.params.root=my/pictures
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.arguments import ArgumentParser
from ldm.errors import UserError


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("-b", "--base", type=Path, nargs="+", required=True, metavar="YAML", help="configurations")
    add("--out", type=Path, required=True, help="folder to write; a begun one is continued")
    add("--ckpt", type=Path, help="file of a whole model (default: as the configuration says)")
    add("--split", default="train", choices=("train", "validation", "test"), help="which data set")
    add("--no_text", action="store_true", help="encode the pictures alone")
    add("--half", action="store_true", help="write float16: half the disk, about three digits")
    add("--batch_size", type=_count, default=8, help="pictures encoded at once (8)")
    add("--shard_size", type=_count, default=1024, help="items of a file (1024)")
    add("--num_workers", type=_whole, default=0, help="processes that read pictures (0)")
    add("--device", default="auto", help="cpu, cuda, cuda:1, mps (default: a GPU if there is one)")
    add("--seed", type=_whole, default=23, help="of random crops and flips, drawn once (23)")
    add("overrides", nargs="*", metavar="a.b=c", help="settings of the configuration")
    return parser


def _whole(text: str, least: int = 0) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} given, expected {least} or more")
    return int(text)


def _count(text: str) -> int:
    return _whole(text, least=1)


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    try:
        given = parser().parse_intermixed_args(argv)
        # `-b a.yaml x.y=1` takes the override for a file.
        dots = [str(path) for path in given.base if "=" in str(path) and not path.exists()]

        from ldm.pipelines.pipeline import resolve_device
        from ldm.training.precompute import Precomputation, precompute

        task = Precomputation(
            base=tuple(path for path in given.base if str(path) not in dots),
            out=given.out,
            overrides=(*dots, *given.overrides),
            split=given.split,
            ckpt=given.ckpt,
            text=not given.no_text,
            half=given.half,
            batch_size=given.batch_size,
            shard_size=given.shard_size,
            num_workers=given.num_workers,
            device=str(resolve_device(given.device)),
            seed=given.seed,
        )
        index = precompute(task, tell=print)
    except UserError as error:
        print(f"precompute_latents: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("precompute_latents: interrupted; start it again to go on", file=sys.stderr)
        return 130
    print(f"{given.out}: {index.count} items in {len(index.shards)} shards")
    if given.split == "train":
        print(f"to train on them: python main.py ... --latents {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
