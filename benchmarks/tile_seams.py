"""Are there seams where tiles meet? The bundled model enlarges pictures, in tiles and otherwise.

Told is the mean difference of neighbouring pixels across the borders of tiles, that near them and
inside of tiles, and the ratio: 1 is no seam. Three ways start from the same pictures:

    together   scripts/upscale_tile.py: overlapping tiles, blended at every step, one noise field
    pasted     each tile drawn by image-to-image alone, finished and put beside the others
    one piece  no tiles: what the ratio is by chance

The pictures are clouds of colour, which are alike everywhere: a thing in the middle of a picture
would have its own edges where tiles meet. "Inside" are the nearest lines between other latent
elements, as the decoder draws those lines a little differently from all others.

Example:
    python benchmarks/tile_seams.py
    python benchmarks/tile_seams.py --pictures 20 --strength 0.6 --out seams
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.demo_flags import check_demo, demo_parser
from ldm.errors import UserError
from ldm.hints.filters import as_picture, blurred
from ldm.settings.generation import Img2ImgSettings, Txt2ImgSettings
from ldm.settings.upscale_tile import TileUpscaleSettings

ALLOWED = 1.1
NEAR = 3  # latent elements
GRAIN = 3.0  # pixels: how large the clouds are
QUIET = {"safety_checker": "off", "watermark": "off"}


@dataclass(frozen=True)
class Seams:
    """What was measured of some pictures.

    Attributes:
        across: Mean absolute difference of neighbours on two sides of a border, of 255.
        inside: That of all others.
    """

    across: float
    inside: float

    @property
    def ratio(self) -> float:
        """How much larger the former is."""
        return self.across / self.inside


def seams(pictures: Sequence[np.ndarray], borders: Sequence[int], unit: int) -> Seams:
    """Measure square pictures of one size.

    Args:
        pictures: uint8 (H, H, 3).
        borders: A border lies before each of these rows and columns.
        unit: Pixels along one latent element.
    """
    away = [far * unit for far in range(-NEAR, NEAR + 1) if far]
    near = sorted({border + far for border in borders for far in away} - {*borders})
    across, inside = [], []
    for picture in pictures:
        for axis in (0, 1):
            steps = np.abs(np.diff(picture.astype(float), axis=axis)).mean(axis=(1 - axis, 2))
            across.append(steps[np.array(borders) - 1])
            inside.append(steps[np.array([k for k in near if 0 < k <= len(steps)]) - 1])
    return Seams(*(float(np.concatenate(each).mean()) for each in (across, inside)))


def borders(length: int, tile: int, stride: int) -> list[int]:
    """Return where tiles begin or end inside of a side of ``length`` pixels."""
    from ldm.models.tiling.patches import starts_along

    edges = {e for s in starts_along(length, tile, stride) for e in (s, s + tile)}
    return sorted(edges - {0, length})


class Ways:
    """Enlarges a picture in each way.

    Args:
        options: The program's.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        from ldm.pipelines.models import choose_model
        from ldm.pipelines.pipeline import Pipeline

        wanted = Txt2ImgSettings(ckpt=str(options.ckpt), config=str(options.config))
        self.pipeline = Pipeline.load(choose_model(wanted), device="cpu", observer=lambda _: None)
        self.options, self.tile = options, self.pipeline.choice.size
        self.common = {"ddim_steps": options.steps, "scale": options.scale, **QUIET}

    def _first(self, settings, **given) -> np.ndarray:
        drawn = self.pipeline.generate(settings, observer=lambda _: None, **given)
        return next(drawn).pixels

    def starts(self) -> Iterator[Image.Image]:
        """Yield the pictures to enlarge."""
        for number in range(self.options.pictures):
            random = np.random.default_rng(self.options.seed + number)
            grain = random.standard_normal((self.tile, self.tile, 3), np.float32)
            clouds = blurred(grain, GRAIN)
            yield as_picture(128 + 50 * clouds / clouds.std())

    def together(self, picture: Image.Image) -> np.ndarray:
        """Enlarge it as scripts/upscale_tile.py does."""
        settings = TileUpscaleSettings(**self._how(), factor=self.options.factor)
        return self._first(settings, image=picture)

    def one_piece(self, picture: Image.Image) -> np.ndarray:
        """Enlarge it without tiles."""
        return self._first(Img2ImgSettings(**self._how()), image=self._enlarged(picture))

    def pasted(self, picture: Image.Image) -> np.ndarray:
        """Draw each tile by itself, from noise of its own."""
        canvas = self._enlarged(picture)
        result = np.array(canvas)
        places = [range(0, side, self.tile) for side in canvas.size[::-1]]
        for number, (top, left) in enumerate(itertools.product(*places)):
            crop = canvas.crop((left, top, left + self.tile, top + self.tile))
            settings = Img2ImgSettings(**{**self._how(), "seed": self.options.seed + number})
            drawn = self._first(settings, image=crop)
            result[top : top + self.tile, left : left + self.tile] = drawn
        return result

    def _how(self) -> dict:
        own = {"strength": self.options.strength, "seed": self.options.seed, "n_samples": 1}
        return {"prompt": "", **self.common, **own}

    def _enlarged(self, picture: Image.Image) -> Image.Image:
        size = tuple(side * self.options.factor for side in picture.size)
        return picture.resize(size, Image.Resampling.LANCZOS)


def measure(options: argparse.Namespace) -> dict[str, Seams]:
    """Enlarge all pictures in each way; return what was measured of each."""
    ways = Ways(options)
    drawn: dict[str, list[np.ndarray]] = {"together": [], "pasted": [], "one piece": []}
    for number, picture in enumerate(ways.starts()):
        for name, results in drawn.items():
            results.append(getattr(ways, name.replace(" ", "_"))(picture))
            if options.out is not None:
                options.out.mkdir(parents=True, exist_ok=True)
                path = options.out / f"{number:02}-{name.replace(' ', '-')}.png"
                Image.fromarray(results[-1]).save(path)
    side, tile = drawn["together"][0].shape[0], ways.tile
    overlapping, touching = borders(side, tile, tile // 2), borders(side, tile, tile)
    at = {"together": overlapping, "pasted": touching, "one piece": overlapping}
    unit = ways.pipeline.choice.factor
    return {name: seams(results, at[name], unit) for name, results in drawn.items()}


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = demo_parser(__doc__)
    add = parser.add_argument
    add("--pictures", type=int, default=8, help="how many (default: %(default)s)")
    add("--factor", type=int, default=2, help="times larger, 2 or more (default: %(default)s)")
    add("--steps", type=int, default=10, help="sampling steps (default: %(default)s)")
    add("--strength", type=float, default=0.4, help="of the change (default: %(default)s)")
    add("--scale", type=float, default=1.0, help="of guidance (default: %(default)s, none)")
    add("--seed", type=int, default=0, help="of the first picture (default: %(default)s)")
    add("--out", type=Path, help="a folder for the pictures (default: none is written)")
    options = parser.parse_args(argv)
    check_demo(options, pictures=1, factor=2, steps=2)
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code, 1 if seams show."""
    try:
        found = measure(parse_args(argv))
    except UserError as error:
        print(f"tile_seams: error: {error}", file=sys.stderr)
        return 2
    print("| way | across borders | inside | ratio |\n|---|---|---|---|")
    for name, each in found.items():
        print(f"| {name} | {each.across:.2f} | {each.inside:.2f} | {each.ratio:.3f} |")
    fine = found["together"].ratio <= ALLOWED
    print(f"allowed: {ALLOWED}; {'no seam shows' if fine else 'SEAMS SHOW'}")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
