"""Valid files with random changes are read as far as they are whole, or refused in one line.

``PYTHONPATH=tests python tests/trust/test_mutated_files.py MINUTES [FIRST_SEED]`` tries new seeds
for that long and prints those that fail; they belong into ``FAILED``, which every run of the tests
tries again.
"""

from __future__ import annotations

import io
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image, PngImagePlugin
from safetensors.torch import save
from trust.guard import Result, faults, guarded

FAILED: tuple[int, ...] = ()
EACH_RUN = range(150)
RECIPE = "a (red:1.2) fox\nNegative prompt: rain\nSteps: 20, Sampler: DDIM, CFG scale: 7.5, Seed: 4"
YAML = """model:
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params: {linear_start: 0.00085, timesteps: 1000, unet_config: {target: torch.nn.Identity}}
"""


def originals() -> dict[str, bytes]:
    """A small valid file of each kind, by its ending."""
    state = {"a.weight": torch.arange(24.0).view(2, 3, 4), "b": torch.ones(3).half()}
    made = {}
    for ending, zipped in (("ckpt", True), ("pt", False)):
        content = {"state_dict": state, "global_step": 3, "lr": [1e-4, (True, None)]}
        file = io.BytesIO()
        torch.save(content, file, _use_new_zipfile_serialization=zipped)
        made[ending] = file.getvalue()
    made["safetensors"] = save(state, {"format": "pt", "global_step": "3"})
    picture, texts = Image.new("RGB", (16, 16), "red"), PngImagePlugin.PngInfo()
    texts.add_text("parameters", RECIPE)
    texts.add_text("prompt", json.dumps({"1": {"class_type": "KSampler", "inputs": {"seed": 1}}}))
    for ending in ("png", "jpg", "webp", "gif", "bmp", "tif"):
        file = io.BytesIO()
        picture.save(file, Image.registered_extensions()[f".{ending}"], pnginfo=texts)
        made[ending] = file.getvalue()
    return {**made, "yaml": YAML.encode()}


def mutated(data: bytes, seed: int) -> bytes:
    """Change a few places: other bits, other bytes, parts cut out, doubled or moved."""
    chance, changed = random.Random(seed), bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at, length = chance.randrange(len(changed)), chance.choice((1, 2, 4, 8, 64))
        part = changed[at : at + length]
        other = chance.randrange(len(changed))
        match chance.randrange(7):
            case 0:
                changed[at] ^= 1 << chance.randrange(8)
            case 1:
                changed[at : at + length] = chance.randbytes(length)
            case 2:
                changed[at : at + length] = b"\xff" * length
            case 3:
                del changed[at : at + length]
            case 4:
                changed[other:other] = part * chance.choice((1, 100))
            case 5:
                changed[at : at + length] = changed[other : other + length]
            case _:
                del changed[at:]
        if not changed:
            return b""
    return bytes(changed)


def read(path: Path) -> int:
    """Read a file as the programs would."""
    from ldm.checkpoint.io import read_checkpoint
    from ldm.checkpoint.peek import peek_shapes
    from ldm.config import load_config
    from ldm.images.io import load_image
    from ldm.images.recipes import read_recipe

    if path.suffix == ".yaml":
        return len(load_config(path))
    if path.suffix in (".ckpt", ".pt", ".safetensors"):
        peek_shapes(path)
        return sum(int(each.numel()) for each in read_checkpoint(path).tensors.values())
    read_recipe(path)
    return load_image(path).size[0]


def cases(folder: Path) -> Iterator[tuple[str, Callable]]:
    import ldm.checkpoint.io
    import ldm.config
    import ldm.images.recipes
    import ldm.models.diffusion.ddpm  # noqa: F401 - before the guard is up

    seeds = json.loads((folder / "seeds").read_text())
    Image.init()
    for ending, data in originals().items():
        path = folder / f"whole.{ending}"
        path.write_bytes(data)
        yield f"whole {ending}", partial(read, path)
        for seed in seeds:
            path = folder / f"{seed}.{ending}"
            path.write_bytes(mutated(data, seed))
            yield f"{ending} {seed}", partial(read, path)
            path.unlink()


def tried(seeds: list[int], folder: Path) -> dict[str, Result]:
    folder.mkdir(exist_ok=True)
    (folder / "seeds").write_text(json.dumps(seeds))
    return guarded(__file__, folder)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return tried([*FAILED, *EACH_RUN], tmp_path_factory.mktemp("mutated"))


def test_no_change_makes_a_file_do_harm(results):
    assert not faults(results)


def test_whole_files_are_read_and_many_changed_ones_refused(results):
    whole = [name for name in results if name.startswith("whole")]
    assert len(whole) >= 10
    assert all(results[name].error == "" for name in whole)
    assert sum(each.error == "UserError" for each in results.values()) > len(results) / 4


def main(minutes: str, first: str = "1000") -> int:
    """Try new seeds until the time is over."""
    seed, end, failed = int(first), time.monotonic() + 60 * float(minutes), []
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end:
            found = faults(tried([*range(seed, seed + 200)], Path(folder) / "work"))
            failed += found
            seed += 200
            sys.stdout.write(
                "\n  ".join([f"up to seed {seed}: {len(failed)} failed", *found]) + "\n"
            )
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
