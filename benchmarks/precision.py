"""What each number format costs and gains on this processor: pictures, layers, a full-size step.

Pictures of the bundled model are compared with those in float32 (PSNR over all their pixels). With
--layers, layers of v1's shapes are timed by themselves, and with --v1 one call of a full-size UNet
with random weights. Times are CPU seconds: other programs do not count, so run it with
OMP_NUM_THREADS=1 where there are any.

Examples:
    python benchmarks/precision.py
    python benchmarks/precision.py --layers --v1 --save cpu
"""

from __future__ import annotations

import argparse
import math
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import reports  # noqa: E402
from ldm.processor import cores, cpu_name

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from ldm.settings.generation import Txt2ImgSettings

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "stable-diffusion" / "v1-inference.yaml"
PROMPTS = (
    "a red car on a blue background",
    "a cat left of a dog on a green background",
    "a large apple on a white background",
)
# (rows, in, out) at 256x256 with guidance; (channels in, out, side of the latent).
LINEAR = ((2048, 320, 320), (2048, 320, 2560), (512, 640, 640), (128, 1280, 10240))
CONV = ((320, 320, 32), (640, 640, 16), (1280, 1280, 8), (2560, 1280, 8))


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--steps", type=int, default=20, help="DDIM steps of each picture (default: 20)")
    add("--repeats", type=int, default=5, help="calls of a layer, after the first (default: 5)")
    add("--layers", action="store_true", help="also time layers of v1's shapes")
    add("--v1", action="store_true", help="also time a full-size UNet: 5 GB of memory, a minute")
    add("--save", metavar="NAME", help="also write results/precision-NAME.md")
    args = parser.parse_args(argv)
    if args.steps < 1 or args.repeats < 1:
        parser.error("--steps and --repeats go from 1")
    return args


def formats() -> list[str]:
    """Return the formats that are more than emulated here; float32 is the first."""
    from ldm.modules import int8
    from ldm.processor import native_halves

    return ["full", *native_halves(), *(["int8"] if int8.is_native() else [])]


def psnr(found: np.ndarray, wanted: np.ndarray, peak: float = 255.0) -> float:
    """Return the peak signal-to-noise ratio in dB."""
    error = float(((found.astype(float) - wanted.astype(float)) ** 2).mean())
    return math.inf if error == 0 else 10 * math.log10(peak**2 / error)


def timed(work: Callable[[], object]) -> float:
    """Return the CPU seconds of a call."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def draw(settings: Txt2ImgSettings, names: list[str]) -> Iterator[str]:
    """Draw with the bundled model in each format, in turns; yield lines of a table."""
    import numpy as np

    from ldm.pipelines.models import DEMO_CHECKPOINT, find
    from ldm.pipelines.pipeline import Pipeline

    pipeline = Pipeline.load(find(DEMO_CHECKPOINT), device="cpu")
    pictures: dict[str, list[np.ndarray]] = {name: [] for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for prompt in PROMPTS:
        for name in names:
            begin = time.process_time()
            run = pipeline.generate(
                replace(settings, prompt=prompt, precision=name), observer=lambda _: None
            )
            pictures[name] += [picture.pixels for picture in run]
            seconds[name].append(time.process_time() - begin)
    wanted, own = np.stack(pictures["full"]), statistics.median(seconds["full"])
    yield "| format | PSNR to float32, dB | its worst picture | CPU s a run | float32's / its |"
    yield "|---|---|---|---|---|"
    for name in names:
        found, spent = np.stack(pictures[name]), statistics.median(seconds[name])
        worst = min(psnr(a, b) for a, b in zip(found, wanted, strict=True))
        yield (
            f"| {name} | {psnr(found, wanted):.1f} | {worst:.1f} | {spent:.2f} | "
            f"{own / spent:.2f} |"
        )


def time_layers(names: list[str], repeats: int) -> Iterator[str]:
    """Time layers of v1's shapes in each format; yield lines of a table."""
    import torch
    from torch import nn

    yield "| layer | " + " | ".join(f"{name}, ms" for name in names) + " |"
    yield "|---" * (1 + len(names)) + "|"
    works = [(f"linear {i} to {o}, {n} rows", nn.Linear(i, o), (n, i)) for n, i, o in LINEAR]
    works += [
        (f"3x3 {i} to {o}, {side}x{side}", nn.Conv2d(i, o, 3, padding=1), (2, i, side, side))
        for i, o, side in CONV
    ]
    for words, layer, shape in works:
        found = []
        for name in names:
            with torch.no_grad(), in_format(nn.ModuleDict({"middle": layer}), name) as dtype:
                work = _call(layer.to(dtype), torch.randn(shape).to(dtype))
                work()
                found.append(statistics.median(timed(work) for _ in range(repeats)))
            layer.float()
        yield f"| {words} | " + " | ".join(f"{1e3 * each:.2f}" for each in found) + " |"


def _call(layer: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    return lambda: layer(x)


def in_format(unet: nn.Module, name: str) -> _Format:
    """Return the context in which a UNet computes in a format; it gives the inputs' type."""
    return _Format(unet, name)


class _Format:
    def __init__(self, unet: nn.Module, name: str) -> None:
        from ldm.modules.int8 import in_integers

        self.name = name
        self._inner: AbstractContextManager = in_integers(unet) if name == "int8" else nullcontext()

    def __enter__(self) -> torch.dtype:
        import torch

        self._inner.__enter__()
        return torch.float32 if self.name in ("full", "int8") else getattr(torch, self.name)

    def __exit__(self, *error: object) -> None:
        self._inner.__exit__(*error)


def call_v1(names: list[str], repeats: int) -> Iterator[str]:
    """Call a full-size UNet with random weights on a 32x32 latent; yield lines of a table."""
    import torch

    from ldm.config import build, load_config

    torch.manual_seed(0)
    with torch.device("meta"):
        model = build(load_config(CONFIG), "model.params.unet_config")
    unet = model.to_empty(device="cpu").eval().requires_grad_(False)
    for name, weight in unet.named_parameters():
        fan = weight[0].numel() if weight.dim() > 1 else 0
        weight.normal_(std=fan**-0.5) if fan else weight.fill_(float(name.endswith("weight")))
    x, t, context = torch.randn(2, 4, 32, 32), torch.tensor([500, 500]), torch.randn(2, 77, 768)
    yield "| format | CPU s a call | float32's / its | PSNR of eps to float32's, dB |"
    yield "|---|---|---|---|"
    wanted = own = None
    for name in names:
        with torch.no_grad(), lowered(unet, name):
            eps = unet(x, t, context).float().numpy()
            spent = statistics.median(timed(lambda: unet(x, t, context)) for _ in range(repeats))
        wanted, own = (eps, spent) if wanted is None else (wanted, own)
        ratio = psnr(eps, wanted, peak=float(wanted.max() - wanted.min()))
        yield f"| {name} | {spent:.2f} | {own / spent:.2f} | {ratio:.1f} |"


def lowered(unet: nn.Module, name: str) -> AbstractContextManager:
    """Return the context in which a bare UNet computes as ``--precision`` has it."""
    from contextlib import ExitStack
    from types import SimpleNamespace

    import torch

    from ldm.pipelines.precision import in_integers, weights_in

    stack, cpu = ExitStack(), torch.device("cpu")
    if name == "int8":
        whole = SimpleNamespace(model=SimpleNamespace(diffusion_model=unet))
        stack.enter_context(in_integers(whole, cpu))
    elif name != "full":
        dtype = getattr(torch, name)
        stack.enter_context(weights_in(SimpleNamespace(model=unet, device=cpu), dtype))
        stack.enter_context(torch.autocast("cpu", dtype=dtype))
    return stack


def report(args: argparse.Namespace, argv: list[str]) -> Iterator[str]:
    """Measure, and yield the lines of the report as they come."""
    import torch

    from ldm.processor import probe
    from ldm.settings.generation import Txt2ImgSettings

    names = formats()
    yield f"- command: `{' '.join(['python benchmarks/precision.py', *argv])}`"
    yield f"- hardware: {cpu_name()}, {cores()} cores, {torch.get_num_threads()} threads used"
    yield f"- versions: Python {platform.python_version()}, torch {torch.__version__}"
    times, complete = probe()
    words = ", ".join(f"{name} {1e3 * each:.2f} ms" for name, each in times.items())
    yield f"- the probe of `--precision auto`: {words}{'' if complete else ' (cut short)'}"
    settings = Txt2ImgSettings(
        scale=3.0,
        ddim_steps=args.steps,
        n_iter=1,
        seed_mode="per-image",
        H=64,
        W=64,
        safety_checker="off",
        watermark="off",
    )
    count = len(PROMPTS) * settings.n_samples
    yield f"\n{count} pictures of the bundled model, {args.steps} DDIM steps, three in a run:\n"
    yield from draw(settings, names)
    if args.layers:
        yield "\nLayers of v1's shapes, the conversion of their inputs to int8 included:\n"
        yield from time_layers(names, args.repeats)
    if args.v1:
        yield "\nA call of v1's UNet, random weights, 32x32 latent, batch 2:\n"
        yield from call_v1(names, min(args.repeats, 3))


def main(argv: list[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    given = sys.argv[1:] if argv is None else argv
    args = parse_args(given)
    save = f"precision-{args.save}" if args.save else None
    reports.tell(report(args, given), "What each number format costs and gains", save)
    return 0


if __name__ == "__main__":
    sys.exit(main())
