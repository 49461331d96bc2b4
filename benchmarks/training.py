"""Seconds and memory of a training step: this project beside diffusers' text-to-image example.

Both sides take the same batch with the same weights, in turns: noise, UNet forward and backward,
clipping, AdamW, EMA. A second table tells what latents and captions that were encoded once save.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.sampling import describe_machine, wait_for  # noqa: E402

if TYPE_CHECKING:
    from benchmarks.training_sides import Side

CONFIG = ROOT / "configs" / "stable-diffusion" / "v1-finetune.yaml"
RESULTS = ROOT / "benchmarks" / "results"
FULL = 320


@dataclass
class Result:
    """What was measured in one number format.

    Attributes:
        dtype: float32, or bfloat16 by autocast with float32 weights.
        seconds: Side to the seconds of its steps; "pictures" are ours that encode them each time.
        peak: Side to the most bytes that lived at once in a step, by type of device.
        apart: Relative difference of both sides' losses at the same noise.
    """

    dtype: str
    seconds: dict[str, list[float]] = field(default_factory=dict)
    peak: dict[str, int] = field(default_factory=dict)
    apart: float = 0.0

    @property
    def ratio(self) -> float:
        """Our median time divided by diffusers': below 1 is faster."""
        return self.median("ours") / self.median("diffusers")

    def median(self, side: str) -> float:
        """Return a side's seconds per step."""
        return statistics.median(self.seconds[side])


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--steps", type=int, default=2, help="steps per turn (default: 2)")
    add("--rounds", type=int, default=5, help="turns of each side (default: 5)")
    add("--batch", type=int, help="pictures per step (default: CPU 2, GPU 4)")
    add("--size", type=int, help="pixels a side (default: CPU 256, GPU 512)")
    add("--channels", type=int, help=f"width of the UNet (default: CPU 64, GPU {FULL}, v1's)")
    formats = ("float32", "bfloat16")
    add("--dtype", nargs="+", choices=formats, default=formats, help="number formats (both)")
    add("--device", help="cpu, cuda, cuda:1 (default: CUDA if there is one)")
    add("--cpu_time", action="store_true", help="count this process's processor time alone")
    add("--checkpointing", action="store_true", help="recompute activations, on our side alone")
    add("--save", metavar="NAME", help="also write results/training-NAME.md")
    args = parser.parse_args(argv)
    if args.steps < 1 or args.rounds < 1:
        parser.error("--steps and --rounds go from 1")
    if args.size is not None and (args.size < 64 or args.size % 64):
        parser.error(f"--size {args.size} given; expected a multiple of 64")
    if args.channels is not None and (args.channels < 32 or args.channels % 32):
        parser.error(f"--channels {args.channels} given; expected a multiple of 32")
    return args


def overrides(channels: int, size: int, checkpointing: bool) -> list[str]:
    """Shrink v1 in proportion to its UNet's width, and start from random weights."""
    params, organs = "model.params", []
    unet = f"{params}.unet_config.params"
    if channels != FULL:
        first = f"{params}.first_stage_config.params.ddconfig"
        text = f"{params}.cond_stage_config.params.text_config"
        width = 64 * max(1, round(channels * 768 / FULL / 64))
        organs = [
            f"{unet}.model_channels={channels}",
            f"{unet}.context_dim={width}",
            f"{first}.ch={32 * max(1, round(channels * 128 / FULL / 32))}",
            f"{text}.hidden_size={width}",
            f"{text}.intermediate_size={4 * width}",
            f"{text}.num_attention_heads={width // 64}",
        ]
    return [
        *organs,
        f"{unet}.use_checkpoint={str(checkpointing).lower()}",
        f"{params}.image_size={size // 8}",
        f"{params}.ckpt_path=null",
        f"{params}.scheduler_config=null",
        f"{params}.cond_dropout=0",  # diffusers' example has none
    ]


def timed(
    step: Callable[[], None], device: Any, count: int, clock: Callable[[], float]
) -> list[float]:
    """Return the seconds of each of some steps."""
    seconds = []
    for _ in range(count):
        begin = clock()
        step()
        wait_for(device)
        seconds.append(clock() - begin)
    return seconds


def peak_of(side: Side, step: Callable[[], None]) -> int:
    """Return the most bytes that lived at once in a step; kernels' own workspace is not seen."""
    from benchmarks.memory_tracker import MemoryTracker

    with MemoryTracker() as tracker:
        tracker.count(side.tensors())
        with tracker.phase("step") as phase:
            step()
    return max(phase.peak.values())


def measure(sides: tuple[Side, Side], batches: tuple, dtype: str, args: Any) -> Result:
    """Let the sides take turns (A B C A B C ...), after two untimed steps of each."""
    import torch

    ours, theirs = sides
    (stored, fresh), device = batches, ours.model.device
    number, clock = getattr(torch, dtype), time.process_time if args.cpu_time else time.perf_counter
    steps = {
        "ours": lambda: ours.step(stored, number),
        "diffusers": lambda: theirs.step(stored, number),
        "pictures": lambda: ours.step(fresh, number),
    }
    result = Result(dtype)
    for name, step in steps.items():
        timed(step, device, 2, clock)
        result.seconds[name] = []
    result.peak = {side.name: peak_of(side, steps[side.name]) for side in sides}
    for _ in range(args.rounds):
        for name, step in steps.items():
            result.seconds[name] += timed(step, device, args.steps, clock)
    return result


def losses_apart(ours: Any, theirs: Any, batch: dict, dtype: str) -> float:
    """Return the relative difference of the losses at the same latents, steps and noise.

    To be asked before the first step: each side then draws noise of its own.
    """
    import torch

    z = batch["jpg_moments"].chunk(2, dim=1)[0] * theirs.scale_factor
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(z.shape, generator=generator).to(z)
    t = torch.linspace(10, 990, len(z), device=z.device).long()
    given = z, batch["txt_embedding"], t, noise, getattr(torch, dtype)
    losses = [side.loss_at(*given) for side in (ours, theirs)]
    return abs(losses[0] - losses[1]) / losses[1]


HEADER = [
    "| dtype | ours, s/step | diffusers, s/step | ours / diffusers | steps/s | samples/s "
    "| peak MB, ours | diffusers | losses apart |",
    "|---|---|---|---|---|---|---|---|---|",
]
SAVING = [
    "| dtype | encoding each time, s/step | from latents, s/step | time saved |",
    "|---|---|---|---|",
]


def row(result: Result, batch: int) -> str:
    """Return one comparison as a line of Markdown."""
    ours, theirs = result.median("ours"), result.median("diffusers")
    peaks = [f"{result.peak[name] / 1e6:.0f}" for name in ("ours", "diffusers")]
    return (
        f"| {result.dtype} | {ours:.4f} | {theirs:.4f} | **{result.ratio:.3f}** | {1 / ours:.3f} "
        f"| {batch / ours:.3f} | {peaks[0]} | {peaks[1]} | {result.apart:.1e} |"
    )


def saving_row(result: Result) -> str:
    """Return what encoding once saves as a line of Markdown."""
    fresh, stored = result.median("pictures"), result.median("ours")
    return f"| {result.dtype} | {fresh:.4f} | {stored:.4f} | **{1 - stored / fresh:.0%}** |"


def main(argv: list[str] | None = None) -> list[Result]:
    """Measure what the command line asks for and print it."""
    args = parse_args(argv)
    import torch

    from benchmarks.training_sides import make_batches, make_sides

    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    on_cpu = device == "cpu"
    size, batch = args.size or (256 if on_cpu else 512), args.batch or (2 if on_cpu else 4)
    channels = args.channels or (64 if on_cpu else FULL)
    command = f"python benchmarks/training.py {' '.join(argv or sys.argv[1:])}".strip()
    head = [f"- command: `{command}`", *describe_machine(device)]
    head.append(
        f"- v1 with a UNet of width {channels} (v1 itself: {FULL}), {batch} pictures of {size}x"
        f"{size}; medians of {args.rounds} alternating turns of {args.steps} steps on {device}"
        + (", processor time: the machine had other work" if args.cpu_time else "")
    )
    print("\n".join(head), flush=True)
    torch.manual_seed(0)
    sides = make_sides(str(CONFIG), overrides(channels, size, args.checkpointing), device)
    batches = make_batches(sides[0].model, size, batch)
    apart = [losses_apart(*sides, batches[0], dtype) for dtype in args.dtype]
    results = [measure(sides, batches, dtype, args) for dtype in args.dtype]
    for result, difference in zip(results, apart, strict=True):
        result.apart = difference
    tables = [*HEADER, *(row(result, batch) for result in results), "", *SAVING]
    tables += map(saving_row, results)
    print("\n".join(["", *tables]))
    if args.save:
        RESULTS.mkdir(exist_ok=True)
        text = ["# A training step beside diffusers'", "", *head, "", *tables, ""]
        (RESULTS / f"training-{args.save}.md").write_text("\n".join(text), encoding="utf-8")
    return results


if __name__ == "__main__":
    main()
