"""Peak memory of a compute device while one batch is drawn: our plans beside diffusers' offloads.

Weights and activations are counted by a tracker on fake tensors, which needs no GPU and no time;
where there is a GPU, ``torch.cuda.max_memory_allocated`` and the clock are asked too. What is not
counted: the context of the driver, the workspaces of cuBLAS and cuDNN, and gaps of the allocator.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import reports
from benchmarks.sampling import describe_machine

if TYPE_CHECKING:
    import torch
    from omegaconf import DictConfig

    from benchmarks.memory_sides import Side

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "stable-diffusion" / "v1-inference.yaml"
PICTURE_STEPS, SCALE = 50, 7.5
GIB, MIB = 2**30, 2**20
PHASES = ("text", "UNet", "decode")
LAST_STEP = "last step"
TRACKED_STEPS = 2  # the first is not like the others, which are alike
NARROW = (
    "unet_config.params.model_channels=32",
    "unet_config.params.channel_mult=[1,2]",
    "unet_config.params.attention_resolutions=[2,1]",
    "unet_config.params.num_res_blocks=1",
    "unet_config.params.context_dim=64",
    "first_stage_config.params.ddconfig.ch=32",
    "first_stage_config.params.ddconfig.ch_mult=[1,2]",
    "first_stage_config.params.ddconfig.num_res_blocks=1",
    "cond_stage_config.params.text_config.hidden_size=64",
    "cond_stage_config.params.text_config.intermediate_size=128",
    "cond_stage_config.params.text_config.num_hidden_layers=1",
    "cond_stage_config.params.text_config.num_attention_heads=2",
)
# Whose, and its options: settings of a plan, or the name of an offload.
WAYS: dict[str, tuple[str, Any]] = {
    "resident": ("ours", {"policy": "resident"}),
    "resident, tiled": ("ours", {"policy": "resident", "tiled_decode": True}),
    "turbo": ("ours", {"policy": "turbo"}),
    "four-part": ("ours", {"policy": "four-part"}),
    "stream": ("ours", {"policy": "stream"}),
    "stream, tiled, row by row": (
        "ours",
        {"policy": "stream", "unet_rows": 1, "tiled_decode": True},
    ),
    "diffusers": ("diffusers", "none"),
    "diffusers, model offload": ("diffusers", "model"),
    "diffusers, group offload": ("diffusers", "group"),
    "diffusers, sequential offload": ("diffusers", "sequential"),
}
PEER = "diffusers"


@dataclass(frozen=True, order=True)
class Case:
    """What is drawn: pictures of ``size`` pixels a side, ``batch`` at once."""

    size: int
    batch: int


@dataclass
class Seen:
    """What one way took for one case.

    Attributes:
        peaks: Most bytes on the device in each phase.
        moved: Bytes brought to the device by one UNet step that is not the first.
        host: Most bytes held on the host.
        estimate: Bytes that the plan itself foresees; None for a peer.
        seconds: Of each phase's turns, where a clock was asked.
    """

    peaks: dict[str, int] = field(default_factory=dict)
    moved: int = 0
    host: int = 0
    estimate: int | None = None
    seconds: dict[str, list[float]] = field(default_factory=dict)

    @property
    def peak(self) -> int:
        """Most bytes on the device."""
        return max(self.peaks.values())

    def per_minute(self, batch: int) -> float:
        """Pictures of ``PICTURE_STEPS`` steps a minute."""
        once = self.seconds["text"][0] + self.seconds["decode"][0]
        steps = PICTURE_STEPS * statistics.median(self.seconds[LAST_STEP])
        return 60 * batch / (once + steps)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY")
    parser.add_argument("--size", type=int, nargs="+", default=[512, 1024], help="pixels a side")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 5], help="pictures at once")
    parser.add_argument("--float32", action="store_true", help="not in half precision")
    parser.add_argument("--steps", type=int, default=3, help="measured UNet steps (default: 3)")
    parser.add_argument("--device", help="a GPU to measure on too (default: CUDA if there is one)")
    parser.add_argument("--narrow", action="store_true", help="a small model: a check, no result")
    parser.add_argument("--save", metavar="NAME", help="also write results/memory-NAME.md")
    args = parser.parse_args(argv)
    if bad := [size for size in args.size if size < 64 or size % 64]:
        parser.error(f"--size {bad[0]} given; expected multiples of 64")
    if min(args.batch) < 1 or args.steps < 2:
        parser.error("--batch goes from 1, --steps from 2 (the first is not like the others)")
    if args.device == "cpu":
        parser.error("--device cpu given; expected a GPU; leave it out to only track")
    return args


def make_side(way: str, config: DictConfig, half: bool, device: torch.device) -> Side:
    """Build one way of running the model."""
    from benchmarks.memory_sides import Diffusers, Ours

    whose, options = WAYS[way]
    return {"ours": Ours, "diffusers": Diffusers}[whose](config, half, device, options)


def draw(side: Side, case: Case, steps: int, phase: Callable[[str], Any]) -> None:
    """Draw one batch as a pipeline does, each part inside ``phase(name)``."""
    import torch

    rows = case.batch
    with phase("text"):
        context = torch.cat([side.text([""] * rows), side.text(["a cat"] * rows)])
    latent = case.size // side.factor
    x = torch.randn(rows, 4, latent, latent).to(side.device)
    t = torch.full((2 * rows,), 500, device=side.device)
    for step in range(steps):
        with phase(LAST_STEP if step else "UNet"):
            eps_uncond, eps_cond = side.unet(torch.cat([x, x]), t, context).chunk(2)
            x = x - 0.01 * (eps_uncond + SCALE * (eps_cond - eps_uncond))
            del eps_uncond, eps_cond
    with phase("decode"):
        side.decode(x)


def track(way: str, config: DictConfig, half: bool, case: Case) -> Seen:
    """Count a way's bytes on fake tensors."""
    import torch

    from benchmarks.memory_tracker import MemoryTracker
    from benchmarks.pretended_device import pretended_device

    with pretended_device() as device, torch.no_grad(), MemoryTracker() as tracker:
        side = make_side(way, config, half, device)
        draw(side, case, TRACKED_STEPS, tracker.phase)
        estimated = side.estimate(case.size, case.batch) if hasattr(side, "estimate") else None
    phases = tracker.phases
    return Seen(
        peaks=_joined({name: seen.peak[device.type] for name, seen in phases.items()}),
        moved=phases[LAST_STEP].moved["cpu", device.type],
        host=max(seen.peak["cpu"] for seen in phases.values()),
        estimate=estimated,
    )


def _joined(peaks: dict[str, int]) -> dict[str, int]:
    """Count the later steps to the UNet's."""
    later = peaks.pop(LAST_STEP)
    return peaks | {"UNet": max(peaks["UNet"], later)}


def measure(side: Side, case: Case, steps: int) -> Seen:
    """Ask the device's allocator and the clock, after a turn that is not counted."""
    import torch

    backend, seen = torch.get_device_module(side.device), Seen()

    @contextlib.contextmanager
    def phase(name: str) -> Iterator[None]:
        backend.synchronize(side.device)
        backend.reset_peak_memory_stats(side.device)
        begin = time.perf_counter()
        yield
        backend.synchronize(side.device)
        seen.seconds.setdefault(name, []).append(time.perf_counter() - begin)
        peak = backend.max_memory_allocated(side.device)
        seen.peaks[name] = max(seen.peaks.get(name, 0), peak)

    with torch.no_grad():
        draw(side, case, steps, lambda _: contextlib.nullcontext())
        draw(side, case, steps, phase)
    seen.peaks = _joined(seen.peaks)
    return seen


Table = dict[tuple[Case, str], Seen]


def track_all(args: argparse.Namespace, config: DictConfig) -> Table:
    """Count every way's bytes for every case."""
    table: Table = {}
    for case, way in itertools.product(cases_of(args), args.ways):
        table[case, way] = track(way, config, not args.float32, case)
        print(f"tracked {case.size}x{case.size}, batch {case.batch}: {way}", file=sys.stderr)
    return table


def measure_all(args: argparse.Namespace, config: DictConfig, device: torch.device) -> Table:
    """Measure every way for every case, one model at a time on the device."""
    import torch

    table: Table = {}
    for way in args.ways:
        side = make_side(way, config, not args.float32, device)
        for case in cases_of(args):
            with contextlib.suppress(torch.OutOfMemoryError):
                table[case, way] = measure(side, case, args.steps)
        del side
        gc.collect()  # hooks and their modules refer to one another
        torch.get_device_module(device).empty_cache()
    return table


def cases_of(args: argparse.Namespace) -> list[Case]:
    """List the cases that the command line asks for."""
    return [Case(size, batch) for size, batch in itertools.product(args.size, args.batch)]


COLUMNS = ("way", *(f"{phase}, GiB" for phase in PHASES), "peak, GiB", f"peak / {PEER}")
TRACKED_ONLY = ("plan's estimate, GiB", "to device per step, MiB", "host, GiB")
MEASURED_ONLY = ("pictures a minute",)


def tables(title: str, table: Table, extra: tuple[str, ...]) -> list[str]:
    """Return a Markdown table a case; ratios are to the peer with everything resident."""
    lines = []
    for case in dict.fromkeys(case for case, _ in table):
        found = {way: seen for (other, way), seen in table.items() if other == case}
        peer = found[PEER].peak if PEER in found else None
        lines += [f"## {title}: {case.size}x{case.size}, batch {case.batch}", ""]
        lines += [_line(COLUMNS + extra), _line(["---"] * len(COLUMNS + extra))]
        lines += [_line(_cells(way, seen, peer, case.batch)) for way, seen in found.items()]
        lines.append("")
    return lines


def _cells(way: str, seen: Seen, peer: int | None, batch: int) -> list[str]:
    cells = [way, *(f"{seen.peaks[phase] / GIB:.2f}" for phase in PHASES)]
    cells += [f"**{seen.peak / GIB:.2f}**", f"{seen.peak / peer:.2f}" if peer else "-"]
    if seen.seconds:
        return [*cells, f"{seen.per_minute(batch):.1f}"]
    estimate = "-" if seen.estimate is None else f"{seen.estimate / GIB:.2f}"
    return [*cells, estimate, f"{seen.moved / MIB:.0f}", f"{seen.host / GIB:.2f}"]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def describe(argv: list[str] | None, args: argparse.Namespace, device: str | None) -> list[str]:
    """Say what was counted where."""
    from importlib.metadata import version

    command = f"python benchmarks/memory.py {' '.join(sys.argv[1:] if argv is None else argv)}"
    model = "narrow" if args.narrow else "full-size v1"
    return [
        f"- command: `{command.strip()}`",
        *describe_machine(device or "cpu"),
        f"- accelerate {version('accelerate')}, transformers {version('transformers')}",
        f"- {model} model, {'float32' if args.float32 else 'float16'}, guidance (two rows of the "
        "UNet for each picture)",
        "- tracked: weights and activations by a tracker on fake tensors, fused attention; "
        "measured: the device's allocator. Workspaces and the driver's context come on top",
        *([] if device else ["- no GPU here: tracked only, no pictures a minute"]),
    ]


def main(argv: list[str] | None = None) -> tuple[Table, Table]:
    """Track, and measure where there is a GPU; print the tables and return them."""
    args = parse_args(argv)
    import torch

    from ldm.config import load_config

    device = args.device or ("cuda" if torch.cuda.is_available() else None)
    overrides = [f"model.params.{text}" for text in NARROW] if args.narrow else []
    config = load_config(CONFIG, overrides=overrides)
    head = describe(argv, args, device)
    tracked = track_all(args, config)
    measured = measure_all(args, config, torch.device(device)) if device else {}
    lines = [*head, "", *tables("Tracked", tracked, TRACKED_ONLY)]
    lines += tables("Measured", measured, MEASURED_ONLY)
    save = f"memory-{args.save}" if args.save else None
    reports.tell(lines, "Peak memory of a small device", save)
    return tracked, measured


if __name__ == "__main__":
    main()
