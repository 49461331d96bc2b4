"""How far it is through the code: calls and files from txt2img's main to the mathematics.

One small picture is drawn with the bundled model, once in a process of its own. Told are the
project's functions on the call stack where the token embedding and the UNet's attention are
computed, and the files that the picture imports.

Example:
    python benchmarks/structure.py
    python benchmarks/structure.py --root ../another-checkout    # beside another state of it
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SMALL = "--n_samples 1 --n_iter 1 --ddim_steps 2 --H 64 --W 64"
# The reference's sampler, whatever the model's YAML says suits it.
FLAGS = f"--prompt cat {SMALL} --sampler ddim --device cpu --skip_grid"
# Runs in the checkout that is measured, which may be of any age.
PROBE = """
import json, runpy, sys
import torch
from torch.nn import functional

root, found = sys.argv.pop(1), {}
sys.argv[0] = root + "/scripts/txt2img.py"

def own(frame):
    return frame.f_code.co_filename.startswith(root + "/")

def stack(frame):
    chain = []
    while frame is not None:
        if own(frame) and frame.f_code.co_name != "<module>":
            name = getattr(frame.f_code, "co_qualname", frame.f_code.co_name)
            chain.append((frame.f_code.co_filename[len(root) + 1:], name))
        frame = frame.f_back
    return chain[::-1]

def watch(name, label, wanted):
    inner = getattr(functional, name)
    def outer(*args, **kwargs):
        chain = stack(sys._getframe(1))
        if label not in found and any(part in file for file, _ in chain for part in wanted):
            found[label] = chain
        return inner(*args, **kwargs)
    setattr(functional, name, outer)

watch("embedding", "token embedding", ["encoders"])
watch("scaled_dot_product_attention", "UNet attention", ["openaimodel"])

try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
files = {m.__file__ for m in list(sys.modules.values()) if getattr(m, "__file__", None)}
files = sorted(f[len(root) + 1:] for f in files if f.startswith(root + "/"))
print(json.dumps({"found": found, "imported": files, "modules": sorted(sys.modules)}))
"""


def measure(root: Path) -> dict:
    """Draw a picture with the checkout at ``root``; return what was seen on the way."""
    with tempfile.TemporaryDirectory() as outdir:
        command = [sys.executable, "-c", PROBE, str(root), *FLAGS.split(), "--outdir", outdir]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def sizes(root: Path) -> dict[str, int | str]:
    """Count the package's files and lines, and find its biggest room."""
    files = [path for path in (root / "ldm").rglob("*.py") if path.name != "__init__.py"]
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    rooms = Counter()
    for path, count in lines.items():
        rooms["/".join(path.relative_to(root).parts[:2])] += count
    room, most = rooms.most_common(1)[0]
    inside = sum(path.is_relative_to(root / room) for path in files)
    return {
        "files in ldm": len(files),
        "lines in ldm": sum(lines.values()),
        "biggest room": f"{room}: {inside} files, {most} lines",
    }


def report(root: Path) -> None:
    """Print the figures of one checkout."""
    seen = measure(root)
    for name, value in sizes(root).items():
        print(f"{name}: {value}")
    for label, chain in seen["found"].items():
        print(f"{label}: {len(chain)} calls in {len({file for file, _ in chain})} files")
        for file, name in chain:
            print(f"    {file}: {name}")
    print(f"imported: {len(seen['imported'])} files")


def main() -> int:
    """Run the program; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout to measure")
    report(parser.parse_args().root.resolve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
