"""What smaller gradients save between processes: bytes and seconds of a step, beside plain DDP.

Processes on this machine train the bundled model's UNet on fixed latents, by gloo, each kind of
compression in turn. Bytes are what the loopback interface carried, so nothing else may use it
meanwhile; how long those bytes take on slower lines is calculated from them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import reports  # noqa: E402
from benchmarks.sampling import describe_machine  # noqa: E402
from ldm.training.arguments import COMPRESSIONS  # noqa: E402

CONFIG = ROOT / "configs" / "demo" / "txt2img.yaml"
COUNTERS = Path("/proc/net/dev")
GIGABITS = (1, 10, 100)


@dataclass
class Result:
    """What one kind of compression did.

    Attributes:
        kind: Its name; "none" for plain DDP.
        sent: Bytes that crossed the loopback interface in a step, per process.
        seconds: Of each timed step.
        loss: The mean loss of the last turn's steps, in the first process.
    """

    kind: str
    sent: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    loss: float = 0.0


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--processes", type=int, default=2, help="how many train together (default: 2)")
    add("--steps", type=int, default=5, help="steps per turn (default: 5)")
    add("--rounds", type=int, default=5, help="turns of each kind (default: 5)")
    add("--batch", type=int, default=4, help="latents per step and process (default: 4)")
    add("--channels", type=int, default=0, help="width of the UNet (default: the bundled model's)")
    add("--rank", type=int, default=4, help="PowerSGD's rank (default: 4)")
    add("--save", metavar="NAME", help="also write results/gradient_compression-NAME.md")
    args = parser.parse_args(argv)
    for name in ("processes", "steps", "rounds", "batch", "rank"):
        if getattr(args, name) < (2 if name == "processes" else 1):
            parser.error(f"--{name} {getattr(args, name)} given; expected more")
    if args.channels % 32:
        parser.error(f"--channels {args.channels} given; expected a multiple of 32")
    if not COUNTERS.is_file():
        parser.error(f"bytes are counted by Linux in {COUNTERS}, which is not here")
    return args


def loopback_bytes() -> int:
    """Return how many bytes the loopback interface has carried."""
    lines = COUNTERS.read_text(encoding="ascii").splitlines()
    (line,) = [line for line in lines if line.strip().startswith("lo:")]
    return int(line.split(":")[1].split()[0])


class Side:
    """A UNet under DDP with one kind of compression, and its fixed batch.

    Args:
        kind: "none" or a kind of compression.
        rank: PowerSGD's.
        params: The UNet's.
        batch: Latents in a step.
    """

    def __init__(self, kind: str, rank: int, params: dict[str, Any], batch: int):
        import torch
        from torch import nn

        from benchmarks.sampling import random_weights
        from ldm.modules.diffusionmodules.openaimodel import UNetModel
        from ldm.training.compression import bucketing, compress, read_compression

        compression = read_compression({"kind": kind, "rank": rank, "start": 2})
        unet = UNetModel(**params)
        unet.load_state_dict(random_weights(unet))
        # As main.py's strategy has it.
        self.model = nn.parallel.DistributedDataParallel(
            unet,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
            **(bucketing(compression, "cpu") if compression else {}),
        )
        if compression:
            compress(self.model, compression)
        self.optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-4)
        generator = torch.Generator().manual_seed(torch.distributed.get_rank())
        side = params["image_size"]
        drawn = torch.randn(2, batch, params["in_channels"], side, side, generator=generator)
        self.noisy, self.target = drawn[0], drawn[1]
        self.t = torch.linspace(10, 990, batch).long()
        self.context = torch.randn(batch, 77, params["context_dim"], generator=generator)

    def step(self) -> float:
        """Take a step; return this process's loss."""
        found = self.model(self.noisy, self.t, context=self.context)
        loss = (found - self.target).square().mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()


def unet_params(channels: int) -> dict[str, Any]:
    """Return the parameters of the bundled model's UNet, of another width if one is given."""
    from omegaconf import OmegaConf

    from ldm.config import load_config

    params = load_config(CONFIG).model.params.unet_config.params
    given = dict(OmegaConf.to_container(params))
    return {**given, **({"model_channels": channels} if channels else {})}


def turn(side: Side, result: Result, steps: int, processes: int) -> None:
    """Let all processes take some steps together, and note what they cost."""
    import torch.distributed as dist

    losses = []
    for _ in range(steps):
        dist.barrier()
        carried, begin = loopback_bytes(), time.perf_counter()
        losses.append(side.step())
        dist.barrier()  # a barrier sends some hundred bytes
        result.seconds.append(time.perf_counter() - begin)
        result.sent.append((loopback_bytes() - carried) / processes)
    result.loss = statistics.mean(losses)


def work(number: int, args: argparse.Namespace, port: int, results: Any) -> None:
    """Measure as one of the processes; the first one reports."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=number, world_size=args.processes
    )
    params = unet_params(args.channels)
    sides = {kind: Side(kind, args.rank, params, args.batch) for kind in COMPRESSIONS}
    for side in sides.values():
        for _ in range(3):  # buckets are arranged anew, and PowerSGD begins with the third
            side.step()
    found = {kind: Result(kind) for kind in COMPRESSIONS}
    for _ in range(args.rounds):
        for kind, side in sides.items():
            turn(side, found[kind], args.steps, args.processes)
    weights = sum(p.numel() for p in sides["none"].model.parameters())
    dist.destroy_process_group()
    if number == 0:
        results.put((weights, list(found.values())))


def measure(args: argparse.Namespace) -> tuple[int, list[Result]]:
    """Start the processes; return how many weights there are, and what each kind did."""
    import socket

    import torch.multiprocessing as mp

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    results = mp.get_context("spawn").SimpleQueue()
    mp.spawn(work, (args, port, results), args.processes)
    return results.get()


HEADER = [
    "| gradients | sent, MB per step | of plain | s/step | of plain | loss after all steps | "
    + " | ".join(f"sending at {speed} Gbit/s, s" for speed in GIGABITS)
    + " |",
    "|---" * (6 + len(GIGABITS)) + "|",
]


def row(result: Result, plain: Result) -> str:
    """Return one kind as a line of Markdown."""
    sent, base = statistics.median(result.sent), statistics.median(plain.sent)
    seconds, usual = statistics.median(result.seconds), statistics.median(plain.seconds)
    lines = " | ".join(f"{sent * 8 / (speed * 1e9):.4f}" for speed in GIGABITS)
    name = "plain DDP" if result.kind == "none" else result.kind
    return (
        f"| {name} | {sent / 1e6:.3f} | {sent / base:.3f} | {seconds:.4f} | "
        f"**{seconds / usual:.3f}** | {result.loss:.4f} | {lines} |"
    )


def main(argv: list[str] | None = None) -> list[Result]:
    """Measure what the command line asks for and print it."""
    args = parse_args(argv)
    command = " ".join(["python benchmarks/gradient_compression.py", *(argv or sys.argv[1:])])
    weights, results = measure(args)
    head = [
        f"- command: `{command}`",
        *describe_machine("cpu"),
        f"- {args.processes} processes of one thread by gloo, {weights / 1e6:.2f} M weights "
        f"({weights * 4 / 1e6:.2f} MB of gradients), {args.batch} latents each; medians of "
        f"{args.rounds} alternating turns of {args.steps} steps; PowerSGD of rank {args.rank}",
    ]
    table = [*HEADER, *(row(result, results[0]) for result in results)]
    save = f"gradient_compression-{args.save}" if args.save else None
    reports.tell([*head, "", *table], "Smaller gradients beside plain DDP", save)
    return results


if __name__ == "__main__":
    main()
