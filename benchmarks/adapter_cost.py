"""Seconds that a step costs with a LoRA and with a ControlNet, beside none: ours and diffusers'.

All sides take DDIM steps with guidance (a UNet batch of 2) of one picture, in turns, on the same
random weights: the plain UNet; a LoRA on every layer that kohya's trainer changes, beside the
layers and merged into them; a ControlNet. Ratios are to the same library's plain UNet.

Examples:
    python benchmarks/adapter_cost.py --save 2026-11-29
    python benchmarks/adapter_cost.py --narrow --size 64 --steps 1 --rounds 1
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn

from benchmarks import reports
from benchmarks.sampling import (
    describe_machine,
    make_twins,
    our_walk,
    random_weights,
    their_walk,
    timed,
    width,
)
from ldm.adapters.control import read_control
from ldm.adapters.control.writing import write_control
from ldm.adapters.lora import new_lora, read_lora, write_lora
from ldm.modules.diffusionmodules.control_net import control_net_like

TITLE = "The cost of adapters"
WAYS = ("none", "LoRA beside", "LoRA merged", "ControlNet")
LIBRARIES = ("ours", "diffusers")


class Hub(nn.Module):
    """A UNet where adapters look for it: ``model.diffusion_model``."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.diffusion_model = unet


@dataclass
class Side:
    """One library's way of drawing.

    Attributes:
        walk: Returns the walk from a start.
        on: Puts the adapter on for the time of a turn.
        seconds: Of each step.
    """

    walk: Callable[[tuple], Iterator[Tensor]]
    on: Callable[[], AbstractContextManager[Any]] = nullcontext
    seconds: list[float] = field(default_factory=list)


def our_sides(unet: nn.Module, lora_file: Path, control_file: Path, hint: Tensor) -> list[Side]:
    """Return ours, in the order of ``WAYS``."""
    hub = Hub(unet)
    lora, control = read_lora(lora_file), read_control(control_file, hub)

    def walk(start: tuple) -> Iterator[Tensor]:
        return our_walk(unet, start)

    return [
        Side(walk),
        Side(walk, lambda: lora.attach(hub)),
        Side(walk, lambda: lora.attach(hub, merge=True)),
        Side(walk, lambda: control.attach(hub, hint)),
    ]


def their_sides(unet: nn.Module, lora_file: Path, control: nn.Module, hint: Tensor) -> list[Side]:
    """Return diffusers', in the order of ``WAYS``; ``unet`` is theirs alone."""
    from safetensors.torch import load_file

    unet.load_lora_adapter(load_file(lora_file), prefix="unet")

    def walk(start: tuple) -> Iterator[Tensor]:
        return their_walk(unet, start)

    return [
        Side(walk, lambda: _switched(unet.disable_lora, unet.enable_lora)),
        Side(walk),
        Side(walk, lambda: _switched(unet.fuse_lora, unet.unfuse_lora)),
        Side(
            lambda start: their_walk(_Controlled(unet, control, hint), start),
            lambda: _switched(unet.disable_lora, unet.enable_lora),
        ),
    ]


class _switched(AbstractContextManager):  # noqa: N801 - reads as a word
    def __init__(self, first: Callable[[], Any], last: Callable[[], Any]) -> None:
        self.first, self.last = first, last

    def __enter__(self) -> None:
        self.first()

    def __exit__(self, *error: Any) -> None:
        self.last()


class _Controlled:
    """diffusers' UNet with its ControlNet, called as the UNet alone is."""

    def __init__(self, unet: nn.Module, control: nn.Module, hint: Tensor) -> None:
        self.unet, self.control, self.hint, self.dtype = unet, control, hint, unet.dtype

    def __call__(self, x: Tensor, t: Tensor, *, encoder_hidden_states: Tensor, **given: Any) -> Any:
        seen = self.hint.to(x).expand(len(x), -1, -1, -1)
        words = {"encoder_hidden_states": encoder_hidden_states, **given}
        down, middle = self.control(x, t, controlnet_cond=seen, **words)
        words |= {"down_block_additional_residuals": down}
        return self.unet(x, t, mid_block_additional_residual=middle, **words)


def make_files(unet: nn.Module, folder: Path, rank: int) -> tuple[Path, Path, Path]:
    """Write a LoRA as kohya's and as diffusers' trainer would, and a ControlNet."""
    lora = new_lora(Hub(unet), rank, text=False)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in lora.parameters():
            value.normal_(std=0.01, generator=generator)
    kohya = write_lora(lora, folder / "kohya.safetensors", "kohya")
    theirs = write_lora(lora, folder / "diffusers.safetensors", "diffusers")
    with torch.device("meta"):
        network = control_net_like(unet, 4, 3)
    network.load_state_dict(random_weights(network), assign=True)
    write_control(network, folder / "control.safetensors", "cldm")
    write_control(network, folder / "control", "diffusers")
    return kohya, theirs, folder / "control.safetensors"


def run(args: argparse.Namespace, folder: Path) -> dict[str, list[Side]]:
    """Let all sides take turns, after one untimed turn of each."""
    import copy

    from diffusers import ControlNetModel

    ours, theirs = make_twins(args.narrow)
    files = make_files(ours, folder, args.rank)
    control = ControlNetModel.from_pretrained(folder / "control").eval()
    theirs = copy.deepcopy(theirs)  # fusing writes into its weights
    dtype = getattr(torch, args.dtype)
    for network in (ours, theirs, control):
        network.to(dtype=dtype)
    generator = torch.Generator().manual_seed(1)
    shapes = ((1, 4, args.size // 8, args.size // 8), (1, 77, width(ours)), (1, 77, width(ours)))
    start = tuple(torch.randn(s, generator=generator) for s in shapes)
    start = start[0], *(each.to(dtype) for each in start[1:])
    hint = torch.rand(1, 3, args.size, args.size, generator=generator)
    sides = {
        "ours": our_sides(ours, files[0], files[2], hint),
        "diffusers": their_sides(theirs, files[1], control, hint),
    }
    for turn in range(args.rounds + 1):
        for way in range(len(WAYS)):
            for side in (sides[name][way] for name in LIBRARIES):
                with side.on(), torch.no_grad():
                    seconds, _ = timed(side.walk(start), args.steps)
                side.seconds += seconds if turn else []
    return sides


def table(sides: dict[str, list[Side]]) -> list[str]:
    """Return the medians, and each way's ratio to none, as lines of Markdown."""
    lines = [
        "| way | ours, s/step | x none | diffusers, s/step | x none | ours / diffusers |",
        "|---|---|---|---|---|---|",
    ]
    medians = {name: [statistics.median(s.seconds) for s in sides[name]] for name in LIBRARIES}
    for number, way in enumerate(WAYS):
        own, theirs = (medians[name][number] for name in LIBRARIES)
        ratios = own / medians["ours"][0], theirs / medians["diffusers"][0]
        lines.append(
            f"| {way} | {own:.4f} | **{ratios[0]:.3f}** | {theirs:.4f} | {ratios[1]:.3f} "
            f"| {own / theirs:.3f} |"
        )
    return lines


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--size", type=int, default=256, help="pixels a side (default: %(default)s)")
    add("--steps", type=int, default=2, help="steps per turn (default: %(default)s)")
    add("--rounds", type=int, default=3, help="turns of each side (default: %(default)s)")
    add("--rank", type=int, default=32, help="of the LoRA (default: %(default)s)")
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the weights")
    add("--narrow", action="store_true", help="a small UNet: a check, no result")
    add("--save", metavar="NAME", help="write benchmarks/results/adapter-cost-NAME.md")
    args = parser.parse_args(argv)
    if args.steps < 1 or args.rounds < 1 or args.rank < 1:
        parser.error("--steps, --rounds and --rank go from 1")
    if args.size < 64 or args.size % 64:
        parser.error(f"--size {args.size} given; expected a multiple of 64")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for and print it; return the exit code."""
    args = parse_args(argv)
    with TemporaryDirectory() as folder:
        sides = run(args, Path(folder))
    given = " ".join(sys.argv[1:] if argv is None else argv)
    lines = [
        f"- command: `python benchmarks/adapter_cost.py {given}`",
        *describe_machine("cpu"),
        f"- {'narrow' if args.narrow else 'full-size v1'} UNet in {args.dtype}, {args.size} pixels,"
        f" DDIM with guidance (UNet batch 2), LoRA of rank {args.rank}; medians of {args.rounds} "
        f"turns of {args.steps} steps",
        "",
        *table(sides),
    ]
    reports.tell(lines, TITLE, f"adapter-cost-{args.save}" if args.save else None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
