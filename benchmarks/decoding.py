"""Seconds to decode a latent: this project's first stage beside its peers, in turns.

The peers are diffusers' AutoencoderKL and, where it is installed, OpenVINO. Stable Diffusion v1's
autoencoder, random weights that all share; a picture at a time.

Examples:
    python benchmarks/decoding.py --size 512 --save cpu-512
    python benchmarks/decoding.py --size 256 --dtype bfloat16
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import reports  # noqa: E402
from benchmarks.sampling import (  # noqa: E402
    CONFIG,
    OPENVINO,
    OURS,
    PLAIN,
    describe_machine,
    random_weights,
)
from benchmarks.sampling_sides import InOpenVINO, has_openvino  # noqa: E402

if TYPE_CHECKING:
    import torch

DIFFUSERS = "diffusers"
HEADER = ["| side | s | ours / it | picture apart |", "|---|---|---|---|"]
Side = Callable[["torch.Tensor"], "torch.Tensor"]


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=512, help="pixels a side (default: 512)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side (default: 5)")
    parser.add_argument("--narrow", action="store_true", help="a small model: a check, no result")
    parser.add_argument("--save", metavar="NAME", help="also write results/decoding-NAME.md")
    args = parser.parse_args(argv)
    if args.size < 64 or args.size % 64 or args.rounds < 1:
        parser.error("--size takes multiples of 64, --rounds goes from 1")
    return args


def make_twins(narrow: bool) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Build v1's first stage and diffusers' around one set of random weights."""
    import torch
    from diffusers import AutoencoderKL

    from ldm.checkpoint.diffusers.keymaps import vae_to_diffusers
    from ldm.config import build, load_config

    config = load_config(CONFIG)
    stage = config.model.params.first_stage_config
    stage.target = "ldm.models.first_stage.KLFirstStage"  # what draws: without Lightning
    if narrow:
        stage.params.ddconfig.ch = 32
    shape = stage.params.ddconfig
    levels = len(shape.ch_mult)
    with torch.device("meta"):
        ours = build(config, "model.params.first_stage_config")
        theirs = AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * levels,
            up_block_types=["UpDecoderBlock2D"] * levels,
            block_out_channels=[shape.ch * factor for factor in shape.ch_mult],
            layers_per_block=shape.num_res_blocks,
            latent_channels=stage.params.embed_dim,
        )
    ours.load_state_dict(random_weights(ours), assign=True)
    table = vae_to_diffusers(ours.state_dict(), shape)
    theirs.load_state_dict(table, assign=True, strict=True)
    return ours.eval().requires_grad_(False), theirs.eval().requires_grad_(False)


def sides_of(
    ours: torch.nn.Module, theirs: torch.nn.Module, z: torch.Tensor, dtype: str
) -> dict[str, Side]:
    """Return what decodes latents like ``z``, by the name of the side."""
    from ldm.kernels.prepare import Kernels

    kernels = Kernels(ours)

    def packed(z: torch.Tensor) -> torch.Tensor:
        with kernels.during_run():
            return ours.decode(z)

    def their(z: torch.Tensor) -> torch.Tensor:
        return theirs.decode(z, return_dict=False)[0]

    sides = {OURS: packed, PLAIN: ours.decode, DIFFUSERS: their}
    if has_openvino():
        sides[OPENVINO] = InOpenVINO(
            lambda z: theirs.float().decode(z, return_dict=False)[0], (z.float(),), dtype
        )
        theirs.to(z.dtype)
    return sides


def measure(sides: dict[str, Side], z: torch.Tensor, rounds: int) -> list[str]:
    """Let the sides take turns, after one turn that is not counted; return the table's rows."""
    import torch

    from ldm.kernels.pages import kept_pages

    seconds: dict[str, list[float]] = {name: [] for name in sides}
    with torch.no_grad(), kept_pages():
        pictures = {name: decode(z).float() for name, decode in sides.items()}
        for _ in range(rounds):
            for name, decode in sides.items():
                begin = time.perf_counter()
                decode(z)
                seconds[name].append(time.perf_counter() - begin)
    exact, own = pictures[DIFFUSERS], statistics.median(seconds[OURS])
    rows = []
    for name, times in seconds.items():
        apart = ((pictures[name] - exact).norm() / exact.norm()).item()
        median = statistics.median(times)
        rows.append(f"| {name} | {median:.3f} | **{own / median:.3f}** | {apart:.1e} |")
    return rows


def main(argv: list[str] | None = None) -> list[str]:
    """Measure what the command line asks for and print it; return the rows."""
    args = parse_args(argv)
    import torch

    ours, theirs = make_twins(args.narrow)
    dtype = getattr(torch, args.dtype)
    ours.to(dtype), theirs.to(dtype)
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(1, 4, args.size // 8, args.size // 8, generator=generator).to(dtype)
    command = f"python benchmarks/decoding.py {' '.join(argv or sys.argv[1:])}".strip()
    head = [f"- command: `{command}`", *describe_machine("cpu")]
    kind = "narrow" if args.narrow else "Stable Diffusion v1's"
    head.append(
        f"- {kind} decoder, a latent to {args.size}x{args.size} pixels in {args.dtype}; medians of "
        f"{args.rounds} turns"
    )
    rows = measure(sides_of(ours, theirs, z, args.dtype), z, args.rounds)
    save = f"decoding-{args.save}" if args.save else None
    reports.tell([*head, "", *HEADER, *rows], "Decoding beside its peers", save)
    return rows


if __name__ == "__main__":
    main()
