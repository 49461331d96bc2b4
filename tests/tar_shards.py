"""Webdataset shards of small pictures."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from PIL import Image
from small_pictures import noise


def picture(seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise(16, 20, seed)).save(buffer, "JPEG")
    return buffer.getvalue()


def write(path: Path, samples: dict[str, dict[str, bytes]]) -> None:
    """Write a shard of {name: {ending: content}}."""
    with tarfile.open(path, "w") as tar:
        for name, parts in samples.items():
            for ending, content in parts.items():
                info = tarfile.TarInfo(f"{name}.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def write_shards(folder: Path, sizes: list[int], bad: tuple[int, ...] = ()) -> None:
    """Write shards of so many samples, numbered throughout; pictures of ``bad`` are none."""
    folder.mkdir(exist_ok=True)
    first = 0
    for shard, size in enumerate(sizes):
        samples = {
            f"{k:02}": {"jpg": b"none" if k in bad else picture(k), "txt": f"{k:02}".encode()}
            for k in range(first, first + size)
        }
        write(folder / f"part-{shard:02}.tar", samples)
        first += size
