"""How long until a checkpoint is ready, and at what peak of memory: CompVis's way and ours.

Every measurement runs in a process of its own, on a file that is in the page cache. Without --ckpt
a full-size v1 checkpoint with random weights is made in a temporary folder (8.6 GB on disk).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import reports
from ldm.processor import cores, cpu_name

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "stable-diffusion" / "v1-inference.yaml"
PROGRAMS = ("scripts/txt2img.py", "scripts/img2img.py", "scripts/download_models.py", "main.py")
WAYS = {
    "reference": "default initialisation, torch.load, load_state_dict(strict=False)",
    "ours": "load_model: meta device, mmap, assign",
    "torch-reader": "the same, but torch.load(mmap=True, weights_only=True) reads the file",
    "ours-read": "the same, then one read of every weight",
    "ours-half": "load_model(dtype=float16)",
}

PICKLES = ("reference", "torch-reader")  # these read nothing else


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default=str(CONFIG), help="configuration (default: SD v1)")
    parser.add_argument("--ckpt", help="a .ckpt to load (default: a random one is made)")
    parser.add_argument("--work", help="where to make it (default: the system's temporary folder)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each way (default: 3)")
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, default=list(WAYS), help="what to measure (default: all)"
    )
    parser.add_argument("--save", metavar="NAME", help="also write results/startup-NAME.md")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.repeats < 1:
        parser.error("--repeats goes from 1")
    return args


def peak_memory() -> int:
    """Return the largest resident size of this process so far, in bytes.

    From /proc where there is one: the kernel's ru_maxrss begins at the size of the process that
    started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def as_compvis_did(config: str, ckpt: str):
    """Load as the reference does: fill a model with random numbers, unpickle, copy."""
    import torch

    from ldm.config import build, load_config

    state = torch.load(ckpt, map_location="cpu", weights_only=True)["state_dict"]
    model = build(load_config(config))
    model.load_state_dict(state, strict=False)
    return model.eval()


def as_we_do(config: str, ckpt: str, **options):
    """Load as the scripts do."""
    from ldm.checkpoint.load import load_model

    return load_model(config, ckpt, **options)[0]


def with_torchs_reader(config: str, ckpt: str):
    """Load as the scripts do, but read the pickle by torch's own unpickler."""
    import torch

    from ldm.checkpoint import load
    from ldm.checkpoint.io import Checkpoint

    def read(path: str | Path) -> Checkpoint:
        content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        return Checkpoint(content["state_dict"], Path(path), mapped=True)

    load.read_checkpoint = read  # in this process alone, which ends afterwards
    return as_we_do(config, ckpt)


def read_every_weight(model) -> None:
    """Touch every page of every weight."""
    for value in [*model.parameters(), *model.buffers()]:
        value.flatten()[:: 4096 // value.itemsize].sum()


def work(way: str, config: str, ckpt: str) -> dict[str, float]:
    """Load one checkpoint in one way, in this process; imports are done before the clock starts."""
    import torch

    import ldm.checkpoint.load
    import ldm.models.diffusion.ddpm
    import ldm.modules.encoders.modules  # noqa: F401 - imported for the clock's sake

    before = peak_memory()
    wall, cpu = time.perf_counter(), time.process_time()
    if way == "reference":
        model = as_compvis_did(config, ckpt)
    elif way == "torch-reader":
        model = with_torchs_reader(config, ckpt)
    elif way == "ours-half":
        model = as_we_do(config, ckpt, dtype=torch.float16)
    else:
        model = as_we_do(config, ckpt)
    if way == "ours-read":
        read_every_weight(model)
    return {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "peak": peak_memory(),
        "base": before,
        "threads": torch.get_num_threads(),
    }


def make_random(config: str, folder: str) -> None:
    """Write a configuration's model with random weights as random.ckpt and random.safetensors."""
    import torch
    from safetensors.torch import save_file

    from ldm.config import build, load_config

    with torch.device("meta"):
        model = build(load_config(config))
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, value in model.state_dict().items():
        if value.is_meta:
            value = torch.empty(value.shape).normal_(std=0.02, generator=generator)
        state[name] = value
    torch.save({"state_dict": state, "global_step": 0}, f"{folder}/random.ckpt")
    save_file(state, f"{folder}/random.safetensors")


def in_a_process(*arguments: str) -> str:
    """Run this file again with arguments; return what it prints."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout


def files_to_load(args: argparse.Namespace, folder: str) -> list[Path]:
    """Return the files to load: the given one, or the random one in both formats."""
    if args.ckpt:
        return [Path(args.ckpt)]
    in_a_process("--worker", "make", "--config", args.config, "--work", folder)
    return [Path(folder, "random.ckpt"), Path(folder, "random.safetensors")]


def warm(path: Path) -> None:
    """Read a file once, so that it lies in the page cache."""
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass


def measure(args: argparse.Namespace, files: list[Path]) -> dict[tuple[str, Path], list[dict]]:
    """Let the ways take turns."""
    cases = [(way, file) for file in files for way in args.ways]
    cases = [(way, file) for way, file in cases if way not in PICKLES or file == files[0]]
    runs: dict[tuple[str, Path], list[dict]] = {case: [] for case in cases}
    for _ in range(args.repeats):
        for way, file in cases:
            warm(file)
            out = in_a_process("--worker", way, "--config", args.config, "--ckpt", str(file))
            runs[way, file].append(json.loads(out.splitlines()[-1]))
    return runs


HEADER = [
    "| way | file | wall, s | CPU, s | peak memory, GB | peak / file | wall / reference |",
    "|---|---|---|---|---|---|---|",
]


def rows(runs: dict[tuple[str, Path], list[dict]]) -> list[str]:
    """Return the lines of the Markdown table, medians of the runs."""
    walls = {case: statistics.median(run["wall"] for run in found) for case, found in runs.items()}
    reference = next((wall for (way, _), wall in walls.items() if way == "reference"), None)
    lines = []
    for (way, file), found in runs.items():
        cpu, peak = (statistics.median(run[key] for run in found) for key in ("cpu", "peak"))
        wall, size = walls[way, file], file.stat().st_size
        ratio = f"{wall / reference:.3f}" if reference else "-"
        lines.append(
            f"| {way} | {file.suffix} | {wall:.2f} | {cpu:.2f} | {peak / 1e9:.2f} "
            f"| {peak / size:.2f} | {ratio} |"
        )
    return lines


def reader_ratio(runs: dict[tuple[str, Path], list[dict]]) -> list[str]:
    """Return a line that compares our reader of pickles with torch's, where both were measured."""
    cpu = {
        way: statistics.median(run["cpu"] for run in found)
        for (way, file), found in runs.items()
        if file.suffix != ".safetensors"
    }
    if not {"ours", "torch-reader"} <= cpu.keys():
        return []
    return ["", f"CPU seconds, ours / torch-reader: {cpu['ours'] / cpu['torch-reader']:.3f}"]


def time_help(repeats: int) -> list[str]:
    """Return lines of a table: seconds until each program has printed its --help."""
    lines = ["| program --help | seconds |", "|---|---|"]
    for program in PROGRAMS:
        seconds = []
        for _ in range(max(repeats, 2)):
            begin = time.perf_counter()
            command = [sys.executable, str(ROOT / program), "--help"]
            subprocess.run(command, capture_output=True, check=True)
            seconds.append(time.perf_counter() - begin)
        lines.append(f"| {program} | {min(seconds):.2f} |")
    return lines


def describe(argv: list[str] | None, args: argparse.Namespace, run: dict) -> list[str]:
    """Say what was measured where."""
    from importlib.metadata import version

    command = f"python benchmarks/startup.py {' '.join(sys.argv[1:] if argv is None else argv)}"
    return [
        f"- command: `{command.strip()}`",
        f"- hardware: {cpu_name()}, {cores()} cores, {run['threads']} threads used; "
        f"load average {os.getloadavg()[0]:.1f} (above the cores, compare CPU seconds)",
        f"- versions: Python {platform.python_version()}, torch {version('torch')}, "
        f"safetensors {version('safetensors')}",
        f"- medians of {args.repeats} runs, each in its own process, files in the page cache; "
        "imports are not counted in the seconds; the peak counts "
        f"{run['base'] / 1e9:.2f} GB of imports, and mapped pages of the file",
        *(f"- {way}: {words}" for way, words in WAYS.items() if way in args.ways),
    ]


def main(argv: list[str] | None = None) -> dict[tuple[str, Path], list[dict]] | None:
    """Measure what the command line asks for and print it."""
    args = parse_args(argv)
    if args.worker == "make":
        return make_random(args.config, args.work)
    if args.worker:
        print(json.dumps(work(args.worker, args.config, args.ckpt)))
        return None
    folder = tempfile.mkdtemp(prefix="startup-", dir=args.work)
    try:
        runs = measure(args, files_to_load(args, folder))
        table = [*HEADER, *rows(runs), *reader_ratio(runs), "", *time_help(args.repeats)]
    finally:
        shutil.rmtree(folder)
    head = describe(argv, args, next(iter(runs.values()))[0])
    save = f"startup-{args.save}" if args.save else None
    reports.tell([*head, "", *table], "From file to ready model", save)
    return runs


if __name__ == "__main__":
    main()
