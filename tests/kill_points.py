"""Kill a piece of work at its steps on the disk, and see what is there then and after the next run.

    python tests/kill_points.py FOLDER replace-file convert     # a JSON line for each kill

A process of its own: it forks a child for every kill, which would be no good in a test's process.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

STEPS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.link", "shutil.rmtree"}
OLD, NEW = "old", "new"


def changes_the_disk(event: str, args: tuple) -> bool:
    if event == "open":
        return isinstance(args[1], str) and bool(set(args[1]) & set("wax+"))
    return event in STEPS


def run(act: Callable[[], None], die_at: int = 0, most_bytes: int = 0) -> list[str]:
    """Run in a child; return the steps it took.

    Args:
        act: What to run.
        die_at: The child is killed before this step, counted from 1.
        most_bytes: It is killed when a file grows beyond this.
    """
    out, into = os.pipe()
    if pid := os.fork():
        os.close(into)
        with open(out, encoding="utf-8") as steps:
            taken = steps.read().split()
        os.waitpid(pid, 0)
        return taken

    def watch(event: str, args: tuple) -> None:
        if changes_the_disk(event, args):
            watch.count += 1
            if watch.count == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            os.write(into, f"{event}\n".encode())

    watch.count = 0
    sys.addaudithook(watch)
    if most_bytes:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    act()
    os._exit(0)


def hidden(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name.startswith("."))


def survey(folder: Path, make: Callable[[str], None], look: Callable[[], str | None]) -> None:
    """Kill the making of the new at its steps where the old is; print what is there then.

    Args:
        folder: Holds the work's output and nothing else.
        make: Writes "old" or "new" in place of what is there.
        look: Says which of both is there; None if neither.
    """
    from ldm.atomic import clear

    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("ldm").addHandler(handler)
    run(lambda: make(OLD))
    shutil.copytree(folder, before := folder.with_name(f"{folder.name}-before"))
    largest = max(p.stat().st_size for p in folder.rglob("*"))
    ways = [{"die_at": step} for step in points(run(lambda: make(NEW)))]
    ways += [{"most_bytes": largest * n // 4} for n in range(1, 4) if largest > 10_000]
    for way in ways:
        shutil.rmtree(folder)
        shutil.copytree(before, folder)
        run(lambda: make(NEW), **way)
        seen = {"work": folder.name, **way, "killed": look(), "left": len(hidden(folder))}
        said.clear()
        clear(folder)
        seen |= {"next": look(), "then_left": len(hidden(folder)), "said": list(said)}
        print(json.dumps(seen), flush=True)  # noqa: T201


def points(steps: list[str]) -> list[int]:
    """Choose steps: all of few; of many every twelfth and those about the last renames."""
    renames = [n for n, name in enumerate(steps, 1) if name == "os.rename"]
    near = {n + d for n in renames[-3:] for d in (0, 1)} | {len(steps)}
    return [n for n in range(1, len(steps) + 1) if len(steps) < 20 or n in near or n % 12 == 0]


def replace_folder(folder: Path) -> None:
    from ldm.atomic import replacing

    def make(text: str) -> None:
        with replacing(folder / "out") as part:
            (part / "inner").mkdir(parents=True)
            for name in ("a", "inner/b"):
                (part / name).write_text(text)

    def look() -> str | None:
        texts = {p.read_text() for p in (folder / "out").rglob("*") if p.is_file()}
        return texts.pop() if len(texts) == 1 and (folder / "out/inner/b").exists() else None

    survey(folder, make, look)


def replace_file(folder: Path) -> None:
    from ldm.atomic import replacing

    def make(text: str) -> None:
        with replacing(folder / "out") as part:
            part.write_text(text)

    survey(folder, make, lambda: (folder / "out").read_text())


def export(folder: Path) -> None:
    from safetensors import safe_open

    from ldm.checkpoint.export import export_inference

    source, out = folder.parent / "v1.safetensors", folder / "out.safetensors"

    def make(text: str) -> None:
        export_inference(source, out, metadata={"text": text}, overwrite=True)

    def look() -> str:
        with safe_open(out, "pt") as file:
            return file.metadata()["text"]

    survey(folder, make, look)


def convert(folder: Path) -> None:
    from safetensors import safe_open

    from ldm.checkpoint.diffusers.convert import Conversion, to_diffusers
    from ldm.checkpoint.diffusers.json_files import KEPT
    from ldm.config import load_config

    config, out = load_config(folder.parent / "v1.yaml"), folder / "out"
    to_diffusers(folder.parent / "v1.safetensors", out, config, Conversion())
    whole = sorted(p.relative_to(out) for p in out.rglob("*"))

    def make(text: str) -> None:
        how = Conversion(metadata={"text": text}, overwrite=True)
        to_diffusers(folder.parent / "v1.safetensors", out, config, how)

    def look() -> str | None:
        if sorted(p.relative_to(out) for p in out.rglob("*")) != whole:
            return None
        with safe_open(out / KEPT, "pt") as file:
            return file.metadata()["text"]

    survey(folder, make, look)


WORK = {
    "replace-folder": replace_folder,
    "replace-file": replace_file,
    "export": export,
    "convert": convert,
}

if __name__ == "__main__":
    for work in sys.argv[2:]:
        output = Path(sys.argv[1], work)
        output.mkdir()
        WORK[work](output)
