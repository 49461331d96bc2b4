"""Seconds per denoising step: this project beside its peers, alternately, on the same weights.

The peers are diffusers and, where they are installed, OpenVINO and stable-diffusion.cpp. All sides
take DDIM steps with guidance of one picture, in a UNet batch of 2; stable-diffusion.cpp calls its
UNet twice instead. The weights are random and shared, so nothing is downloaded and a column can say
how far the results are apart.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.sampling_cpp import (  # noqa: E402
    InStableDiffusionCpp,
    cpp_note,
    files_for_cpp,
    has_cpp,
)
from benchmarks.sampling_sides import (
    SCALE,
    Side,
    UNetInOpenVINO,
    Walk,
    has_openvino,
    packed_walk,
    peak_gib,
    random_weights,
)
from ldm.processor import cpu_name

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "stable-diffusion" / "v1-inference.yaml"
RESULTS = ROOT / "benchmarks" / "results"
SCHEDULE_STEPS = 50
OURS, PLAIN, OPENVINO = "ours", "ours, --kernels plain", "OpenVINO"
NARROW = {"model_channels": 32, "context_dim": 64}


@dataclass(frozen=True)
class Case:
    """One measurement: where, in which number format, how large and how often."""

    device: str
    dtype: str
    size: int
    steps: int
    rounds: int


@dataclass(frozen=True)
class Result:
    """Seconds per step of each side, and how far its last state is from diffusers'.

    Attributes:
        case: What was measured.
        seconds: By side, for each step.
        apart: By side, the relative difference of its last state; not of one that shows none.
        prepared: By side, the seconds of its first step beyond a later one, or of its conversion.
        peak: GiB of the whole process at its largest; all sides are in it.
    """

    case: Case
    seconds: dict[str, list[float]]
    apart: dict[str, float]
    prepared: dict[str, float]
    peak: float

    @property
    def medians(self) -> dict[str, float]:
        """Median seconds per step by side."""
        return {name: statistics.median(values) for name, values in self.seconds.items()}

    @property
    def ratio(self) -> float:
        """Our median time divided by diffusers': below 1 is faster."""
        return self.medians[OURS] / self.medians["diffusers"]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3, help="steps per turn (default: 3)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side (default: 3)")
    parser.add_argument("--size", type=int, help="pixels a side (default: CPU 256, GPU 512)")
    parser.add_argument(
        "--dtype",
        nargs="+",
        choices=("float32", "float16", "bfloat16"),
        help="number formats (default: float32 bfloat16, on a GPU float16 too)",
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: CUDA if there is one)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--narrow", action="store_true", help="a small UNet: a check, no result")
    parser.add_argument("--save", metavar="NAME", help="also write results/sampling-NAME.md")
    args = parser.parse_args(argv)
    if args.steps < 1 or args.rounds < 1 or args.steps > SCHEDULE_STEPS:
        parser.error(f"--steps goes from 1 to {SCHEDULE_STEPS}, --rounds from 1")
    if args.size is not None and (args.size < 64 or args.size % 64):
        parser.error(f"--size {args.size} given; expected a multiple of 64")
    return args


def make_twins(narrow: bool) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Build our v1 UNet and diffusers' around one set of random weights, on the CPU."""
    import torch
    from diffusers import UNet2DConditionModel
    from diffusers.utils import logging as diffusers_logging

    from ldm.checkpoint.diffusers.keymaps import unet_to_diffusers
    from ldm.config import build, load_config

    diffusers_logging.set_verbosity_error()  # it warns of .to(dtype) even with nothing to keep
    config = load_config(CONFIG)
    if narrow:
        config.model.params.unet_config.params.update(NARROW)
    params = dict(config.model.params.unet_config.params)
    with torch.device("meta"):
        ours = build(config, "model.params.unet_config")
        theirs = UNet2DConditionModel(**diffusers_config(params))
    ours.load_state_dict(random_weights(ours), assign=True)
    theirs.load_state_dict(unet_to_diffusers(ours.state_dict(), params), assign=True, strict=True)
    return ours.eval().requires_grad_(False), theirs.eval().requires_grad_(False)


def diffusers_config(params: dict) -> dict:
    """Say a v1 UNet's parameters in diffusers' words."""
    levels = len(params["channel_mult"])
    attends = [2**level in params["attention_resolutions"] for level in range(levels)]
    return {
        "sample_size": params["image_size"],
        "in_channels": params["in_channels"],
        "out_channels": params["out_channels"],
        "block_out_channels": [params["model_channels"] * m for m in params["channel_mult"]],
        "down_block_types": ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends],
        "up_block_types": ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in attends[::-1]],
        "layers_per_block": params["num_res_blocks"],
        "cross_attention_dim": params["context_dim"],
        "attention_head_dim": params["num_heads"],  # diffusers' name for the number of heads
    }


def our_walk(unet: torch.nn.Module, start: tuple) -> Iterator[torch.Tensor]:
    """Yield x after each of our DDIM steps."""
    from types import SimpleNamespace

    import torch

    from ldm.models.diffusion.ddim import DDIMSampler
    from ldm.process.schedules import diffusion_coefficients, make_beta_schedule

    x, cond, uncond = start
    betas = make_beta_schedule("linear", 1000, 0.00085, 0.012)
    cumprod = torch.tensor(diffusion_coefficients(betas)["alphas_cumprod"], dtype=torch.float32)
    model = SimpleNamespace(
        num_timesteps=1000,
        alphas_cumprod=cumprod,
        parameterization="eps",
        device=x.device,
        apply_model=lambda x, t, cond: unet(x, t, context=cond),
    )
    sampler = DDIMSampler(model)
    sampler.make_schedule(SCHEDULE_STEPS)
    for state in sampler.walk(
        x, cond, unconditional_guidance_scale=SCALE, unconditional_conditioning=uncond
    ):
        yield state.x


def their_walk(unet: torch.nn.Module, start: tuple) -> Iterator[torch.Tensor]:
    """Yield x after each of diffusers' DDIM steps, in the manner of its own pipeline."""
    import torch
    from diffusers import DDIMScheduler

    x, cond, uncond = start
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    scheduler.set_timesteps(SCHEDULE_STEPS, device=x.device)
    x, context = x.to(unet.dtype), torch.cat([uncond, cond])
    for t in scheduler.timesteps:
        with torch.no_grad():
            both = scheduler.scale_model_input(torch.cat([x, x]), t)
            eps = unet(both, t, encoder_hidden_states=context, return_dict=False)[0]
            eps_uncond, eps_cond = eps.chunk(2)
            guided = eps_uncond + SCALE * (eps_cond - eps_uncond)
            x = scheduler.step(guided, t, x, return_dict=False)[0]
        yield x


def timed(walk: Iterator[torch.Tensor], steps: int) -> tuple[list[float], torch.Tensor]:
    """Take some steps of a walk; return the seconds of each, and the last state."""
    seconds, x = [], None
    for _ in range(steps):
        begin = time.perf_counter()
        x = next(walk)
        wait_for(x.device)
        seconds.append(time.perf_counter() - begin)
    walk.close()
    return seconds, x


def wait_for(device: torch.device) -> None:
    """Block until the device has done what was queued."""
    import torch

    if device.type != "cpu":
        torch.get_device_module(device).synchronize()


def measure(
    case: Case, ours: torch.nn.Module, theirs: torch.nn.Module, files: Path | None = None
) -> Result:
    """Let the sides take turns; stable-diffusion.cpp is one where it is given its files."""
    import torch

    generator = torch.Generator().manual_seed(1)
    shapes = ((1, 4, case.size // 8, case.size // 8), (1, 77, width(ours)), (1, 77, width(ours)))
    x, cond, uncond = (torch.randn(s, generator=generator).to(case.device) for s in shapes)
    sides = sides_of(case, ours, theirs, (x, cond.to(ours.dtype), uncond.to(ours.dtype)))
    if files is None:
        return take_turns(case, sides)
    with closing(InStableDiffusionCpp(files, case.dtype, case.size)) as cpp:
        return take_turns(case, {**sides, cpp.name: Side(cpp.draw, cpp.seconds)})


def take_turns(case: Case, sides: dict[str, Side]) -> Result:
    """Let the sides take turns (A B A B ...), after one untimed turn of each."""
    first = {name: side.turn(case.steps) for name, side in sides.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(case.rounds):
        for name, side in sides.items():
            seconds[name] += side.turn(case.steps)[0]
    last = {name: x.float() for name, (_, x) in first.items() if x is not None}
    reference = last["diffusers"]
    apart = {name: ((x - reference).norm() / reference.norm()).item() for name, x in last.items()}
    prepared = {
        name: first[name][0][0] - statistics.median(seconds[name])
        if side.prepared is None
        else side.prepared
        for name, side in sides.items()
    }
    return Result(case, seconds, apart, prepared, peak_gib())


def sides_of(
    case: Case, ours: torch.nn.Module, theirs: torch.nn.Module, start: tuple
) -> dict[str, Side]:
    """Return the sides that walk from one start: (x, conditioning, empty conditioning)."""
    import torch

    from ldm.kernels.prepare import Kernels

    def walking(walk: Walk, unet: Any, prepared: float | None = None) -> Side:
        return Side(lambda steps: timed(walk(unet, start), steps), prepared)

    sides = {PLAIN: walking(our_walk, ours)}
    if case.device == "cpu":
        sides = {OURS: walking(packed_walk(Kernels(ours), our_walk), ours), **sides}
    else:
        sides = {OURS: sides[PLAIN]}
    sides["diffusers"] = walking(their_walk, theirs)
    if case.device == "cpu" and has_openvino():
        x, cond, uncond = start
        inputs = torch.cat([x, x]), torch.tensor([500, 500]), torch.cat([uncond, cond]).float()
        converted = UNetInOpenVINO(theirs.float(), inputs, case.dtype)
        theirs.to(ours.dtype)
        sides[OPENVINO] = walking(their_walk, converted, converted.seconds)
    return sides


def width(unet: torch.nn.Module) -> int:
    """Return the width D of the context that a UNet attends to."""
    return unet.middle_block[1].transformer_blocks[0].attn2.to_k.in_features


def describe_machine(device: str) -> list[str]:
    """Name the hardware and the versions."""
    import diffusers
    import torch

    name = cpu_name()
    if device != "cpu":
        name += f"; {torch.get_device_module(device).get_device_name()}"
    return [
        f"- hardware: {name}, {torch.get_num_threads()} CPU threads",
        f"- versions: Python {platform.python_version()}, torch {torch.__version__}, "
        f"diffusers {diffusers.__version__}",
    ]


HEADER = [
    "| size | dtype | side | s/step | ours / it | last x apart | to prepare, s |",
    "|---|---|---|---|---|---|---|",
]


def rows_of(result: Result) -> list[str]:
    """Return one measurement as lines of the Markdown table."""
    medians = result.medians
    return [
        f"| {result.case.size} | {result.case.dtype} | {name} | {median:.4f} "
        f"| **{medians[OURS] / median:.3f}** "
        f"| {f'{result.apart[name]:.1e}' if name in result.apart else '-'} "
        f"| {result.prepared[name]:.2f} |"
        for name, median in medians.items()
    ]


def main(argv: list[str] | None = None) -> list[Result]:
    """Measure what the command line asks for and print it."""
    args = parse_args(argv)
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    on_cpu = device == "cpu"
    size = args.size or (256 if on_cpu else 512)
    formats = args.dtype or ["float32", "bfloat16", *([] if on_cpu else ["float16"])]
    command = f"python benchmarks/sampling.py {' '.join(argv or sys.argv[1:])}".strip()
    head = [f"- command: `{command}`", *describe_machine(device)]
    head.append(
        f"- DDIM with guidance (UNet batch 2), {'narrow' if args.narrow else 'full-size v1'} "
        f"UNet; medians of {args.rounds} alternating turns of {args.steps} steps on {device}"
    )
    with_cpp = on_cpu and has_cpp()
    head += [cpp_note(narrow=args.narrow)] if with_cpp else []
    print("\n".join([*head, "", *HEADER]), flush=True)
    ours, theirs = make_twins(args.narrow)
    results = []
    with files_for_cpp(ours) if with_cpp and not args.narrow else nullcontext() as files:
        for dtype in formats:
            for unet in (ours, theirs):
                unet.to(device=device, dtype=getattr(torch, dtype))
            case = Case(device, dtype, size, args.steps, args.rounds)
            results.append(measure(case, ours, theirs, files))
            print("\n".join(rows_of(results[-1])), flush=True)
    last = f"- largest memory of the process, all sides in it: {results[-1].peak:.2f} GiB"
    print(f"\n{last}")
    if args.save:
        RESULTS.mkdir(exist_ok=True)
        table = [line for result in results for line in rows_of(result)]
        text = ["# Sampling beside its peers", "", *head, "", *HEADER, *table, "", last, ""]
        (RESULTS / f"sampling-{args.save}.md").write_text("\n".join(text), encoding="utf-8")
    return results


if __name__ == "__main__":
    main()
