"""Do adapters of the bundled model do what they promise? Asked on scenes that training never saw.

Two of them ship, the others are trained by their recipes in configs/adapters. Each is attached to
the bundled model; held-out prompts are drawn with it and without it from the same noise, and an
oracle that knows the emoji font looks at the pictures.

- models/lora/demo-outline.safetensors: things get a dark outline, and are still what was asked for.
- models/embeddings/demo-tangerine.pt: a textual inversion of a thing that the model does not know.
- models/controlnet/demo-boxes.safetensors, a T2I-Adapter: a small thing stands in a drawn box.
- models/controlnet/demo-picture.safetensors, an IP-Adapter: a picture is the prompt.

Examples:
    python benchmarks/adapters.py --save 2026-11-29 --sheet sheets
    python benchmarks/adapters.py --only boxes --n 20
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks import adapter_measures as figures
from benchmarks import reports
from benchmarks.demo_flags import add_walk, check_demo, demo_parser
from benchmarks.demo_measures import Sampling, draw, ground_truth, side_of
from benchmarks.scene_oracle import OutlineOracle, SceneOracle, Sight
from ldm.adapters.control import read_control
from ldm.adapters.handle import Handle
from ldm.adapters.ip_adapter import read_ip_adapter
from ldm.adapters.lora import read_lora
from ldm.adapters.textual_inversion import read_embedding
from ldm.checkpoint.load import load_model
from ldm.data.demo.hinted import BoxedScenes, box_hint
from ldm.data.demo.scene_vocabulary import COLOURS
from ldm.data.demo.scenes import Scene, SceneDataset
from ldm.errors import UserError
from ldm.images.grid import make_grid
from ldm.images.io import save_picture, to_uint8
from ldm.paths import exists, is_file
from ldm.pipelines.models import find
from ldm.processor import cpu_name

FOLDER = "models"
FILES = {
    "outline": "lora/demo-outline.safetensors",
    "tangerine": "embeddings/demo-tangerine.pt",
    "boxes": "controlnet/demo-boxes.safetensors",
    "picture": "controlnet/demo-picture.safetensors",
}
NEW_WORD, NEW_EMOJI = "demo-tangerine", "🍊"
SHOWN = 8  # pictures in a row of a sheet
ROW = {"outline": (1, 0), "tangerine": (0,), "boxes": (0, 1), "picture": (0, 1)}
"""Which ways of drawing, by their places in a sheet, stand in the README's row."""


@dataclass(frozen=True)
class Row:
    """One figure with the adapter, without it, and what it should be."""

    adapter: str
    measure: str
    within: float
    without: float
    goal: str

    def cells(self) -> str:
        """Return the row of a Markdown table."""
        numbers = f"{self.within:.3f} | {self.without:.3f}"
        return f"| {self.adapter} | {self.measure} | {numbers} | {self.goal} |"


class Bench:
    """The bundled model, the oracle, and how pictures are drawn.

    Args:
        model: With its weights.
        args: The program's.
    """

    def __init__(self, model: nn.Module, args: argparse.Namespace) -> None:
        self.model, self.args = model, args
        self.oracle = SceneOracle(**{NEW_WORD: NEW_EMOJI})
        self.sheets: dict[str, list[Tensor]] = {}

    def file(self, name: str) -> Path:
        """Return an adapter's file."""
        return Path(self.args.adapters) / FILES[name]

    def scenes(self, kind: type[SceneDataset], **given: float) -> list[Scene]:
        """Return held-out scenes whose captions are in English."""
        data = kind(split="heldout", languages=("en",), seed=self.args.seed, **given)
        return [data.scene(k) for k in range(self.args.n)]

    def draw(
        self, prompts: Sequence[str], attach: Callable[[range], Handle] | None = None
    ) -> Tensor:
        """Draw prompts, each batch under what ``attach`` puts on for its rows: (B, 3, H, W)."""
        parts, size = [], self.args.batch_size
        for start in range(0, len(prompts), size):
            rows = range(start, min(start + size, len(prompts)))
            walk = (self.args.sampler, self.args.steps, size, self.args.seed + start)
            with ExitStack() as stack:
                if attach is not None:
                    stack.enter_context(attach(rows))
                texts = [prompts[k] for k in rows]
                how = Sampling(*walk, spacing=self.args.spacing)
                parts.append(draw(self.model, texts, self.args.scale, how))
        return torch.cat(parts)

    def look(self, pictures: Tensor) -> list[Sight]:
        """See the one thing in each picture."""
        return self.oracle.look(pictures, 1)


def outline(bench: Bench) -> Iterator[Row]:
    """Measure the LoRA."""
    lora = read_lora(bench.file("outline"), bench.model)
    scenes = bench.scenes(SceneDataset, pair_share=0.0)
    prompts = [scene.caption for scene in scenes]
    styled = bench.draw(prompts, lambda rows: lora.attach(bench.model))  # noqa: ARG005
    plain = bench.draw(prompts)
    bench.sheets["outline"] = [styled, plain]
    oracle = OutlineOracle()
    seen = [oracle.look(pictures, 1) for pictures in (styled, plain)]
    shown = [k for k, scene in enumerate(scenes) if figures.can_show_outlines(scene.background)]
    outlined = [figures.share(each[k] for k in shown) for each in map(figures.outlined, seen)]
    yield Row("outline (LoRA)", "things with an outline", *outlined, ">= 0.9")
    right = [
        figures.share(noun == scene.objects[0] for noun, scene in zip(named, scenes, strict=True))
        for named in map(figures.nouns, seen)
    ]
    yield Row("outline (LoRA)", "things as asked", *right, "as without")


def tangerine(bench: Bench) -> Iterator[Row]:
    """Measure the textual inversion."""
    embedding = read_embedding(bench.file("tangerine"))
    colours = [name for name in COLOURS if name != "orange"]
    prompts = [
        f"a photo of a {NEW_WORD} on a {colours[k % len(colours)]} background"
        for k in range(bench.args.n)
    ]
    taught = bench.draw(prompts, lambda rows: embedding.attach(bench.model))  # noqa: ARG005
    plain = bench.draw(prompts)
    bench.sheets["tangerine"] = [taught, plain]
    found = [
        figures.share(noun == NEW_WORD for noun in figures.nouns(bench.look(pictures)))
        for pictures in (taught, plain)
    ]
    yield Row("tangerine (textual inversion)", "the new thing, of 73", *found, ">= 0.9")


def boxes(bench: Bench) -> Iterator[Row]:
    """Measure the T2I-Adapter."""
    control = read_control(bench.file("boxes"), bench.model)
    scenes, side = bench.scenes(BoxedScenes), side_of(bench.model)
    wanted = [scene.boxes[0] for scene in scenes]
    hints = torch.stack([torch.from_numpy(box_hint(box, side)) for box in wanted]).movedim(-1, 1)
    prompts = [scene.caption for scene in scenes]
    placed = bench.draw(
        prompts, lambda rows: control.attach(bench.model, hints[rows.start : rows.stop])
    )
    free = bench.draw(prompts)
    bench.sheets["boxes"] = [hints * 2 - 1, placed, free]
    seen = [bench.look(pictures) for pictures in (placed, free)]
    means = [statistics.mean(figures.ious(sights, wanted)) for sights in seen]
    yield Row("boxes (T2I-Adapter)", "IoU with the box, mean", *means, ">= 0.6, <= 0.25")
    right = [
        figures.share(noun == scene.objects[0] for noun, scene in zip(named, scenes, strict=True))
        for named in map(figures.nouns, seen)
    ]
    yield Row("boxes (T2I-Adapter)", "things as asked", *right, "as without")


def picture(bench: Bench) -> Iterator[Row]:
    """Measure the IP-Adapter."""
    adapter = read_ip_adapter(bench.file("picture"))
    scenes = bench.scenes(SceneDataset, pair_share=0.0)
    shown = ground_truth(scenes, side_of(bench.model))
    files = [Image.fromarray(each) for each in to_uint8(shown, rounded=True)]
    prompts = [""] * len(scenes)
    prompted = bench.draw(
        prompts,
        lambda rows: adapter.attach(bench.model, [[files[k]] for k in rows]),
    )
    free = bench.draw(prompts)
    bench.sheets["picture"] = [shown, prompted, free]
    seen = [bench.look(pictures) for pictures in (prompted, free)]
    for measure, of in (("thing", _thing), ("background", _background)):
        same = [
            figures.share(of(sight, scene) for sight, scene in zip(sights, scenes, strict=True))
            for sights in seen
        ]
        yield Row("picture (IP-Adapter)", f"{measure} as in the picture", *same, ">= 0.8")


def _thing(sight: Sight, scene: Scene) -> bool:
    return sight.found[0].noun == scene.objects[0]


def _background(sight: Sight, scene: Scene) -> bool:
    return sight.background == scene.background


MEASURED: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "outline": outline,
    "tangerine": tangerine,
    "boxes": boxes,
    "picture": picture,
}


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = demo_parser(__doc__)
    add = parser.add_argument
    add("--adapters", default=FOLDER, help="folder of their folders (default: %(default)s)")
    add("--only", nargs="+", choices=MEASURED, help="some (default: those whose files are there)")
    add("--n", type=int, default=100, help="prompts for each (default: %(default)s)")
    add("--scale", type=float, default=3.0, help="of guidance (default: %(default)s)")
    add_walk(parser, "ddim", 20, "of scenes and noise (default: %(default)s)")
    add("--sheet", metavar="FOLDER", help="write a sheet of pictures for each adapter")
    add("--row", metavar="FILE", help="write a row of examples, as assets/demo-adapters.png")
    add("--save", metavar="NAME", help="write benchmarks/results/adapters-NAME.md")
    return parser.parse_args(argv)


def table(rows: Sequence[Row], args: argparse.Namespace) -> list[str]:
    """Return the result as lines of Markdown."""
    return [
        f"{args.n} held-out prompts each, {args.sampler}, {args.steps} steps, guidance "
        f"{args.scale:g}, seed {args.seed}; {cpu_name()}, torch {torch.__version__}",
        "",
        "| adapter | measure | with | without | goal |",
        "|---|---|---|---|---|",
        *(row.cells() for row in rows),
    ]


def write_sheets(sheets: dict[str, list[Tensor]], folder: Path) -> None:
    """Write each adapter's first pictures, a row for each way of drawing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, ways in sheets.items():
        rows = torch.cat([way[:SHOWN] for way in ways])
        save_picture(make_grid(list(to_uint8(rows)), SHOWN), folder / f"{name}.png")


def _require_room(args: argparse.Namespace) -> None:
    """Refuse names of pictures that exist, before anything is drawn: they are never replaced."""
    sheets = [Path(args.sheet) / f"{name}.png" for name in MEASURED] if args.sheet else []
    for path in [*sheets, *([Path(args.row)] if args.row else [])]:
        if exists(path):
            raise UserError(f"{path} exists; expected a new name; move it away or give another")


def write_row(sheets: dict[str, list[Tensor]], path: Path) -> None:
    """Write one row of pictures: two examples of each adapter, each behind what it began from."""
    cells = [
        way[k].repeat_interleave(2, -1).repeat_interleave(2, -2)
        for name, order in ROW.items()
        if name in sheets
        for k in range(2)
        for way in (sheets[name][place] for place in order)
    ]
    save_picture(make_grid(list(to_uint8(torch.stack(cells))), len(cells)), path)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for and print it; return the exit code."""
    args = parse_args(argv)
    try:
        check_demo(args, n=1, steps=1, batch_size=1)
        args.adapters = find(args.adapters)
        model, _ = load_model(args.config, args.ckpt)
        bench = Bench(model, args)
        _require_room(args)
        names = args.only or [name for name in MEASURED if is_file(bench.file(name))]
        rows = [row for name in names for row in MEASURED[name](bench)]
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    lines = table(rows, args)
    reports.tell(lines, "Adapters that ship", f"adapters-{args.save}" if args.save else None)
    if args.sheet:
        write_sheets(bench.sheets, Path(args.sheet))
    if args.row:
        write_row(bench.sheets, Path(args.row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
