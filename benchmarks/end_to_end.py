"""Seconds for a batch of pictures: texts, all steps with guidance, decoding, copy to the host.

Our ways of computing beside diffusers, alternately, each after an untimed turn, in which kernels
are compiled and steps recorded. A turn is of ``--batches`` batches; a way that overlaps decodes
each beside the next one's steps. Weights are random: no figure here depends on them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import reports
from benchmarks.memory import NARROW
from benchmarks.sampling import CONFIG, SCALE, describe_machine, wait_for

if TYPE_CHECKING:
    import torch
    from omegaconf import DictConfig

    from ldm.pipelines.overlapping import Beside

CARD = {"kernels": "auto", "attention_backend": "auto", "graphs": "auto"}
# Whose, and its options: ours are settings of speed, and whether the sampler's update is recorded
# with the model's call; diffusers' whether it is compiled.
WAYS: dict[str, tuple[str, Any]] = {
    "ours": ("ours", {}),
    "ours, graphs": ("ours", {"graphs": "auto"}),
    "ours, graphs without the update": ("ours", {"graphs": "auto", "update": False}),
    "ours, kernels and graphs": ("ours", CARD),
    "ours, kernels, graphs and overlap": ("ours", {**CARD, "decode_beside": "auto"}),
    "ours, compiled": ("ours", {"compile": True, "graphs": "auto"}),
    "diffusers": ("diffusers", False),
    "diffusers, compiled": ("diffusers", True),
}
Draw = Callable[[int, int], None]
"""Draws so many pictures at once, so many times, to the host's memory."""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY")
    parser.add_argument("--device", required=True, help="cuda, cuda:1, cpu")
    parser.add_argument("--batch", type=int, default=1, help="pictures at once (default: 1)")
    parser.add_argument("--batches", type=int, default=1, help="batches a turn (default: 1)")
    parser.add_argument("--size", type=int, default=512, help="pixels a side (default: 512)")
    parser.add_argument("--steps", type=int, default=50, help="steps (default: 50)")
    parser.add_argument("--rounds", type=int, default=3, help="timed turns a way (default: 3)")
    parser.add_argument("--narrow", action="store_true", help="a small model: a check, no result")
    parser.add_argument("--save", metavar="NAME", help="also write results/end-to-end-NAME.md")
    args = parser.parse_args(argv)
    if min(args.batch, args.batches, args.rounds) < 1 or not 1 <= args.steps <= 1000:
        parser.error("--batch, --batches and --rounds go from 1, --steps from 1 to 1000")
    if args.size < 64 or args.size % 64:
        parser.error(f"--size {args.size} given; expected a multiple of 64")
    return args


@contextmanager
def ours(config: DictConfig, options: dict, args: argparse.Namespace) -> Iterator[Draw]:
    """Return a context with what draws batches by this project's model and sampler."""
    import torch

    from ldm.config import build
    from ldm.models.diffusion.ddim import DDIMSampler
    from ldm.pipelines.speed import sped_up
    from ldm.settings.speed import SpeedSettings

    device, dtype = torch.device(args.device), dtype_for(args.device)
    model = build(config).eval().requires_grad_(False).to(device)
    for part in (model.model, model.first_stage_model, model.cond_stage_model):
        part.to(dtype)
    sampler = DDIMSampler(model)
    sampler.make_schedule(args.steps, verbose=False)
    latent = args.size // model.first_stage_model.downsampling_factor

    def latents(rows: int) -> torch.Tensor:
        encode = model.get_learned_conditioning
        prompts = {
            "cond": encode(["a cat"] * rows),
            "unconditional_conditioning": encode([""] * rows),
        }
        x = torch.randn(rows, 4, latent, latent, device=device)
        for state in sampler.walk(x, unconditional_guidance_scale=SCALE, **prompts):
            x = state.x
        return x

    def draw(rows: int, batches: int) -> None:
        drawn = (latents(rows) for _ in range(batches))
        with beside_on(device, options) as beside:
            for pictures in decoded(drawn, model.decode_first_stage, beside):
                pictures.cpu()

    def say(notice: Any) -> None:
        print(notice.text, file=sys.stderr)

    chosen = {name: value for name, value in options.items() if name != "update"}
    with sped_up(model, SpeedSettings(**chosen), device, True, say):
        graphs = getattr(model, "step_graphs", None)
        if graphs is not None and not options.get("update", True):
            graphs.whole = lambda rule, *_: rule
        yield draw


def beside_on(device: torch.device, options: dict) -> AbstractContextManager[Beside | None]:
    """Return what decodes beside the steps, where a way overlaps and the device can."""
    from ldm.pipelines.overlapping import Beside

    overlaps = options.get("decode_beside") == "auto" and device.type == "cuda"
    return Beside(device) if overlaps else nullcontext()


def decoded(
    latents: Iterable[torch.Tensor],
    decode: Callable[[torch.Tensor], torch.Tensor],
    beside: Beside | None,
) -> Iterator[torch.Tensor]:
    """Decode batches, each before the next one or, with ``beside``, while that takes its steps."""
    from ldm.pipelines.overlapping import one_behind

    if beside is None:
        yield from map(decode, latents)
        return
    for result in one_behind(beside.start(decode, x) for x in latents):
        yield result()


@contextmanager
def diffusers(config: DictConfig, compiled: bool, args: argparse.Namespace) -> Iterator[Draw]:
    """Return a context with what draws batches by diffusers' modules and scheduler."""
    import torch

    from benchmarks.memory_sides import Diffusers

    device, dtype = torch.device(args.device), dtype_for(args.device)
    side = Diffusers(config, dtype != torch.float32, device, "none")
    if compiled:
        for part in (side.pipe.unet, side.pipe.vae.decoder):
            part.to(memory_format=torch.channels_last)
            part.compile(mode="reduce-overhead", fullgraph=True)
    scheduler = side.pipe.scheduler
    latent = args.size // side.factor

    def draw_one(rows: int) -> None:
        context = torch.cat([side.text([""] * rows), side.text(["a cat"] * rows)])
        x = torch.randn(rows, 4, latent, latent, device=device, dtype=dtype)
        scheduler.set_timesteps(args.steps, device=device)
        for t in scheduler.timesteps:
            eps_uncond, eps_cond = side.unet(torch.cat([x, x]), t, context).chunk(2)
            eps = eps_uncond + SCALE * (eps_cond - eps_uncond)
            x = scheduler.step(eps, t, x, return_dict=False)[0]
        side.decode(x).cpu()

    yield lambda rows, batches: [draw_one(rows) for _ in range(batches)]


def dtype_for(device: str) -> torch.dtype:
    """Return what a device computes in here: half precision, on a processor float32."""
    import torch

    return torch.float32 if device == "cpu" else torch.float16


def measure(args: argparse.Namespace, config: DictConfig) -> dict[str, list[float]]:
    """Let the ways take turns; return the seconds a batch of each turn."""
    import torch

    sides = {"ours": ours, "diffusers": diffusers}
    with ExitStack() as stack, torch.no_grad():
        draws = {}
        for way in args.ways:
            whose, options = WAYS[way]
            draws[way] = stack.enter_context(sides[whose](config, options, args))
            begin = time.perf_counter()
            draws[way](args.batch, args.batches)
            print(f"{way}: first turn {time.perf_counter() - begin:.1f} s", file=sys.stderr)
        seconds: dict[str, list[float]] = {way: [] for way in draws}
        for _ in range(args.rounds):
            for way, draw in draws.items():
                begin = time.perf_counter()
                draw(args.batch, args.batches)
                wait_for(torch.device(args.device))
                seconds[way].append((time.perf_counter() - begin) / args.batches)
    return seconds


def table(seconds: dict[str, list[float]], batch: int) -> list[str]:
    """Return a Markdown table; ratios are to the last way."""
    medians = {way: statistics.median(turns) for way, turns in seconds.items()}
    last = list(medians)[-1]
    lines = [f"| way | seconds a batch | pictures a second | x {last} |", "|---|---|---|---|"]
    for way, median in medians.items():
        lines.append(
            f"| {way} | {median:.3f} | {batch / median:.2f} | {medians[last] / median:.2f} |"
        )
    return lines


def main(argv: list[str] | None = None) -> dict[str, list[float]]:
    """Measure what the command line asks for and print it."""
    args = parse_args(argv)
    from ldm.config import load_config

    overrides = [f"model.params.{text}" for text in NARROW] if args.narrow else []
    command = " ".join(sys.argv[1:] if argv is None else argv)
    head = [
        f"- command: `python benchmarks/end_to_end.py {command}`",
        *describe_machine(args.device),
        f"- {args.size}x{args.size}, {args.steps} steps, batch {args.batch}, guidance; medians of "
        f"{args.rounds} alternating turns of {args.batches}",
    ]
    seconds = measure(args, load_config(CONFIG, overrides=overrides))
    save = f"end-to-end-{args.save}" if args.save else None
    reports.tell([*head, "", *table(seconds, args.batch)], "Pictures from start to end", save)
    return seconds


if __name__ == "__main__":
    main()
