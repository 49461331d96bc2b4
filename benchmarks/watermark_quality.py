"""Is the watermark seen, and can it be read? The reference's own beside the gentle one.

Every picture is cropped to a square, resized, marked both ways, and read back by the package's own
decoder: as it is, and after JPEG at quality 90 with full and with half chroma resolution.

Examples:
    python benchmarks/watermark_quality.py
    python benchmarks/watermark_quality.py photographs/ --side 768 --save photographs
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from PIL import Image, ImageOps

from benchmarks import reports
from ldm.images.io import load_image
from ldm.images.opening import redecoded
from ldm.processor import cores, cpu_name
from ldm.safety.dwt_dct import bits_of
from ldm.safety.gentle_watermark import GentleWatermarker, psnr
from ldm.safety.watermark import TEXT

# Photographs that come with packages; those that are installed are taken.
PHOTOGRAPHS = {
    "skimage": "data/{astronaut,chelsea,coffee,motorcycle_left,ihc}.png "
    "data/{hubble_deep_field,retina,rocket}.jpg",
    "sklearn": "datasets/images/{china,flower}.jpg",
    "matplotlib": "mpl-data/sample_data/grace_hopper.jpg",
    "gradio": "media_assets/images/{cheetah1,tower}.jpg",
}
WAYS = {
    "reference": "invisible-watermark's encoder, method dwtDct, as the reference calls it",
    "gentle": "ldm.safety.gentle_watermark",
}
COPIES = {"plain": None, "JPEG 90, 4:4:4": 0, "JPEG 90, 4:2:0": 2}


@dataclass(frozen=True)
class Mark:
    """What one way did to one picture.

    Attributes:
        psnr: Of the marked picture, in dB.
        largest: Largest change of a channel of a pixel, in levels.
        wrong: Bits of the text that each of ``COPIES`` gets wrong; 0 reads the text.
        seconds: Wall time.
    """

    psnr: float
    largest: int
    wrong: tuple[int, ...]
    seconds: float


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "pictures",
        nargs="*",
        metavar="PATH",
        help="pictures or folders of them (default: photographs that installed packages bring)",
    )
    parser.add_argument("--side", type=int, default=512, help="in pixels, 256 or more")
    parser.add_argument("--save", metavar="NAME", help="also write results/watermark-NAME.md")
    args = parser.parse_args(argv)
    if args.side < 256:
        parser.error("--side goes from 256: smaller pictures carry no watermark")
    return args


def find_pictures(paths: list[str]) -> list[Path]:
    """Return the files to mark, in order."""
    if paths:
        folders = [sorted(p.iterdir()) if p.is_dir() else [p] for p in map(Path, paths)]
        return [path for found in folders for path in found if path.is_file()]
    return list(_installed())


def _installed() -> Iterator[Path]:
    for package, patterns in PHOTOGRAPHS.items():
        spec = importlib.util.find_spec(package)
        if spec is None:
            continue
        for pattern in patterns.split():
            before, _, rest = pattern.partition("{")
            names, _, after = rest.partition("}")
            for name in names.split(","):
                path = Path(spec.origin).parent / f"{before}{name}{after}"
                if path.is_file():
                    yield path


def square(path: Path, side: int) -> np.ndarray:
    """Return a picture's middle as uint8 (side, side, 3)."""
    return np.asarray(ImageOps.fit(load_image(path), (side, side), Image.Resampling.LANCZOS))


def embed(way: str, plain: np.ndarray) -> np.ndarray:
    """Return the picture with the watermark."""
    if way == "gentle":
        return GentleWatermarker().apply(plain)[0]
    encoder = _package().WatermarkEncoder()
    encoder.set_watermark("bytes", TEXT.encode("utf-8"))
    return encoder.encode(_reversed(plain), "dwtDct")[..., ::-1]


def measure(way: str, plain: np.ndarray) -> Mark:
    """Mark a picture in one way, and read it back from each copy."""
    begin = time.perf_counter()
    marked = embed(way, plain)
    seconds = time.perf_counter() - begin
    return Mark(
        psnr=psnr(marked, plain),
        largest=int(np.abs(marked.astype(int) - plain).max()),
        wrong=tuple(_wrong_bits(_copy(marked, subsampling)) for subsampling in COPIES.values()),
        seconds=seconds,
    )


def _copy(picture: np.ndarray, subsampling: int | None) -> np.ndarray:
    if subsampling is None:
        return picture
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(picture))
    image.save(buffer, "JPEG", quality=90, subsampling=subsampling)
    return np.asarray(redecoded(buffer.getvalue()))


def _wrong_bits(picture: np.ndarray) -> int:
    payload = TEXT.encode("utf-8")
    decoder = _package().WatermarkDecoder("bytes", 8 * len(payload))
    return int((bits_of(decoder.decode(_reversed(picture), "dwtDct")) != bits_of(payload)).sum())


def _reversed(picture: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(picture[..., ::-1])  # OpenCV's order


def _package() -> Any:
    import imwatermark

    return imwatermark


HEADER = [
    f"| picture | way | PSNR, dB | largest | {' | '.join(f'wrong: {c}' for c in COPIES)} | s |",
    "|---" * (5 + len(COPIES)) + "|",
]


def rows(found: dict[tuple[str, str], Mark]) -> list[str]:
    """Return the lines of the Markdown table, by picture and way, then a summary of each way."""
    lines = [
        f"| {name} | {way} | {mark.psnr:.1f} | {mark.largest} "
        f"| {' | '.join(map(str, mark.wrong))} | {mark.seconds:.2f} |"
        for (name, way), mark in found.items()
    ]
    for way in WAYS:
        marks = [mark for (_, own), mark in found.items() if own == way]
        read = [sum(not mark.wrong[k] for mark in marks) for k in range(len(COPIES))]
        lines.append(
            f"| **of {len(marks)}** | **{way}** | at least {min(mark.psnr for mark in marks):.1f} "
            f"| at most {max(mark.largest for mark in marks)} "
            f"| {' | '.join(f'read from {n}' for n in read)} "
            f"| {statistics.median(mark.seconds for mark in marks):.2f} |"
        )
    return lines


def describe(argv: list[str] | None, args: argparse.Namespace) -> list[str]:
    """Say what was measured where."""
    given = " ".join(sys.argv[1:] if argv is None else argv)
    packages = ("invisible-watermark", "opencv-python", "numpy", "pillow")
    return [
        f"- command: `{f'python benchmarks/watermark_quality.py {given}'.strip()}`",
        f"- hardware: {cpu_name()}, {cores()} cores",
        f"- versions: Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in packages),
        f"- pictures of {args.side}x{args.side}; wrong: bits of {8 * len(TEXT)} that the package's "
        "own decoder gets wrong, 0 reads the text",
        *(f"- {way}: {words}" for way, words in WAYS.items()),
    ]


def main(argv: list[str] | None = None) -> dict[tuple[str, str], Mark]:
    """Measure what the command line asks for and print it."""
    args = parse_args(argv)
    paths = find_pictures(args.pictures)
    if not paths:
        raise SystemExit("no photographs are installed; give pictures, or pip install scikit-image")
    found = {}
    for path in paths:
        plain = square(path, args.side)
        found |= {(path.name, way): measure(way, plain) for way in WAYS}
    lines = [*describe(argv, args), "", *HEADER, *rows(found)]
    save = f"watermark-{args.save}" if args.save else None
    reports.tell(lines, "The watermark: is it seen, can it be read?", save)
    return found


if __name__ == "__main__":
    main()
