"""Do edits by attention control do what they promise? Asked on scenes that training never saw.

Held-out captions of one object are drawn with the bundled model. Then the noun is swapped by
prompt-to-prompt, the colour word is given other weights, and the noun's map is looked at. An oracle
that never saw the model (scene_oracle.py) says what is in the pictures, and where. Beside the edits
stand pictures of the new prompt from the same noise without control: ours, and diffusers'.

Examples:
    python benchmarks/attention_edit.py
    python benchmarks/attention_edit.py --n 20 --cross 0.6 --self 0.2 --steps 20
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.demo_flags import add_walk, check_demo, demo_parser
from ldm.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmarks.demo_measures import Sampling
    from benchmarks.edit_draws import Drawn, Windows
    from benchmarks.edit_measures import Swap
    from benchmarks.scene_oracle import SceneOracle, Sight

RESULTS = Path(__file__).resolve().parent / "results"
PROMPT_SEED = 20  # the list of quality_demo.py
NOUN_SEED = 14
WEIGHTS = (0.0, 1.0, 3.0)
CROSS_GRID, SELF_GRID = (0.4, 0.6, 0.8, 1.0), (0.0, 0.4, 0.8)
SHEET_COLUMNS = 20
PARTS = ("swap", "weight", "map", "grid")
WAYS = {
    "swap": "prompt-to-prompt",
    "blend": "prompt-to-prompt, LocalBlend",
    "redraw": "redrawn, no control",
    "diffusers": "diffusers, no control",
}


def build_parser() -> argparse.ArgumentParser:
    """Make the command line; imports no torch."""
    parser = demo_parser(__doc__)
    add = parser.add_argument
    add("--n", type=int, default=100, help="prompts (default: %(default)s)")
    add("--n_grid", type=int, default=10, help="of them for the part grid (default: %(default)s)")
    add("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (default: all)")
    add("--cross", type=float, default=0.8, help="share of the steps with the source's word maps")
    add("--self", type=float, default=0.4, help="share with the source's self-attention")
    add("--scale", type=float, default=3.0, help="of guidance (default: %(default)s)")
    add_walk(parser, "dpm_solver", 10, "prompt i starts from the noise of seed + i")
    add("--outdir", default="outputs/attention_edit", help="for sheets and verdicts")
    add("--save", metavar="NAME", help="also write results/attention-edit-NAME.md")
    return parser


def check(options: argparse.Namespace) -> None:
    """Refuse what cannot work, before any model is loaded.

    Raises:
        UserError: A count below 1, a share outside 0..1, no guidance, or a missing file.
    """
    check_demo(options, n=1, n_grid=1, steps=1, batch_size=1)
    for name in ("cross", "self"):
        if not 0 <= getattr(options, name) <= 1:
            given = getattr(options, name)
            raise UserError(f"--{name} {given} was given; expected 0 to 1; correct it")
    if options.scale == 1:
        raise UserError("--scale 1 was given; expected guidance, such as 3; correct it")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    options = build_parser().parse_args(argv)
    try:
        check(options)
        Bench(options, argv).run()
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


class Bench:
    """One run: draws, measures, prints, and writes what was asked for.

    Args:
        options: Checked.
        argv: The command line, for the report.
    """

    def __init__(self, options: argparse.Namespace, argv: Sequence[str] | None) -> None:
        import torch

        from benchmarks.demo_measures import Sampling, held_out_prompts, side_of
        from benchmarks.edit_draws import Windows
        from benchmarks.edit_measures import choose_swaps
        from benchmarks.scene_oracle import SceneOracle
        from ldm.checkpoint.load import load_model

        self.options, self.lines = options, []
        self.command = f"python benchmarks/attention_edit.py {' '.join(argv or sys.argv[1:])}"
        self.model: nn.Module
        self.model, _ = load_model(options.config, options.ckpt, device=torch.device("cpu"))
        self.side = side_of(self.model)
        self.sampling: Sampling = Sampling(
            options.sampler, options.steps, options.batch_size, options.seed, options.spacing
        )
        self.windows: Windows = Windows(options.cross, options.self)
        # Half of that list has one object, and those come first.
        self.scenes = held_out_prompts(2 * options.n, "en", PROMPT_SEED)[: options.n]
        self.swaps: list[Swap] = choose_swaps(self.scenes, NOUN_SEED)
        self.oracle: SceneOracle = SceneOracle()
        self.outdir = Path(options.outdir)
        self.outdir.mkdir(parents=True, exist_ok=True)

    def run(self) -> None:
        """Measure everything; what is done is printed at once."""
        self.say("# Edits by attention control on the bundled model", "", *self.head(), "")
        if {*self.options.parts} != {"grid"}:
            self.judge(self.draw())
        if "grid" in self.options.parts:
            self.grid_section()
        if self.options.save:
            RESULTS.mkdir(exist_ok=True)
            path = RESULTS / f"attention-edit-{self.options.save}.md"
            path.write_text("\n".join(self.lines) + "\n", encoding="utf-8")

    def judge(self, drawn: Drawn) -> None:
        """Report each part that was drawn, and keep its pictures."""
        parts, sights = self.options.parts, {}
        if {"swap", "map"} & {*parts}:
            sights["source"] = self.look(drawn.pictures["source"])
        if "swap" in parts:
            sights |= {way: self.look(drawn.pictures[way]) for way in WAYS}
            self.swap_section(drawn, sights)
            self.keep_verdicts(sights)
        if "weight" in parts:
            self.weight_section(drawn)
        if "map" in parts:
            self.map_section(drawn, sights["source"])
        self.keep_sheets(drawn)

    def say(self, *lines: str) -> None:
        """Print lines of the report."""
        self.lines += lines
        print("\n".join(lines), flush=True)

    def head(self) -> list[str]:
        """Say what is measured, and on what."""
        from benchmarks.edit_measures import concentric_iou, mean
        from benchmarks.sampling import describe_machine
        from ldm.modules.attention_control.alignment import is_swap
        from ldm.modules.attention_control.words import read_prompt

        options, tokenizer = self.options, self.model.cond_stage_model.tokenizer
        pairs = [(swap.scene.caption, swap.caption) for swap in self.swaps]
        replaced = sum(is_swap(*(read_prompt(tokenizer, text) for text in p)) for p in pairs)
        bound = mean(concentric_iou(swap.scene.objects[0], swap.noun) for swap in self.swaps)
        return [
            f"- command: `{self.command.strip()}`",
            *describe_machine("cpu"),
            f"- {len(pairs)} held-out English captions of one object that name the background, "
            f"pictures of {self.side}x{self.side}; {options.sampler}, {options.steps} steps, scale "
            f"{options.scale:g}; prompt i from the noise of seed {options.seed} + i",
            f"- the new noun is a seeded choice of the other 71, with its article; {replaced} "
            f"captions keep their number of words and are edited by Replace, "
            f"{len(pairs) - replaced} by Refine",
            f"- windows: cross {self.windows.cross:g}, self {self.windows.self:g} of the steps",
            f"- glyphs differ in shape: at one size and one centre their boxes have an IoU of "
            f"{bound:.3f} on average, which an edit could not pass but by drawing other sizes",
        ]

    def draw(self) -> Drawn:
        """Draw every picture that is judged but those of the grid."""
        from benchmarks.edit_draws import Column, blend_by, draw_columns, swap_by, weigh_by
        from benchmarks.edit_maps import LOOKS
        from benchmarks.edit_peer import diffusers_twin, draw_by_diffusers
        from ldm.data.demo.scene_vocabulary import COLOURS

        captions = [swap.scene.caption for swap in self.swaps]
        edited = [swap.caption for swap in self.swaps]
        nouns = [(swap.scene.objects[0], swap.noun) for swap in self.swaps]
        words = [COLOURS[scene.background].english for scene in self.scenes]
        columns, parts = {"source": Column(captions)}, self.options.parts
        if "swap" in parts:
            columns["swap"] = Column(edited, [swap_by(self.windows)] * len(edited))
            columns["blend"] = Column(edited, [blend_by(self.windows, pair) for pair in nouns])
            columns["redraw"] = Column(edited)
        for weight in (each for each in WEIGHTS if each != 1 and "weight" in parts):
            makes = [weigh_by(self.windows, word, weight) for word in words]
            columns[f"weight {weight:g}"] = Column(captions, makes)
        looks = LOOKS if "map" in parts else ()
        drawn = draw_columns(self.model, columns, self.options.scale, self.sampling, looks)
        drawn.pictures["weight 1"] = drawn.pictures["source"]  # a factor of one is no edit
        if "swap" in parts:
            pipe = diffusers_twin(self.options.config, self.options.ckpt, self.options.sampler)
            drawn.pictures["diffusers"] = draw_by_diffusers(
                pipe, edited, self.model.image_size, self.options.scale, self.sampling
            )
        return drawn

    def look(self, pictures: Tensor) -> list[Sight]:
        """See one object in each picture."""
        from benchmarks.demo_measures import look_at

        return look_at(self.oracle, pictures, self.scenes[: len(pictures)])

    def swap_section(self, drawn: Drawn, sights: dict[str, list[Sight]]) -> None:
        """Report how the noun's swap went, beside what has no control."""
        from benchmarks.edit_measures import mean, score_swaps
        from benchmarks.edit_tables import percent, swap_table

        source = drawn.pictures["source"], sights["source"]
        pairs = list(zip(sights["source"], self.scenes, strict=True))
        own = mean(sight.found[0].noun == scene.objects[0] for sight, scene in pairs)
        named = mean(sight.background == scene.background for sight, scene in pairs)
        apart = (drawn.pictures["redraw"] - drawn.pictures["diffusers"]).abs().mean() * 127.5
        scores = {
            title: score_swaps(self.swaps, source, (drawn.pictures[name], sights[name]))
            for name, title in WAYS.items()
        }
        self.say("## The noun swapped", "")
        self.say(
            f"Of the sources {percent(own)} show their noun and {percent(named)} their background."
            " Change outside: mean absolute difference from the source outside both boxes, of 255."
            f" Our redraw and diffusers' are {apart:.2f} of 255 apart on average.",
            "",
            *swap_table(scores),
            "",
        )

    def weight_section(self, drawn: Drawn) -> None:
        """Report how the background follows the weight of the colour word."""
        from benchmarks.edit_measures import colour_distances
        from benchmarks.edit_tables import weight_table

        names = [scene.background for scene in self.scenes]
        distances = {
            weight: colour_distances(drawn.pictures[f"weight {weight:g}"], names)
            for weight in WEIGHTS
        }
        self.say("## The colour word reweighted", "")
        self.say("Distance of the border's median from the named colour, in RGB of 0 to 255.", "")
        self.say(*weight_table(distances), "")

    def map_section(self, drawn: Drawn, sights: list[Sight]) -> None:
        """Report how much of the noun's map lies on the thing."""
        from benchmarks.edit_maps import attention_by_token, shares_inside
        from benchmarks.edit_measures import box_cover
        from benchmarks.edit_tables import map_table, reader_table

        tokenizer = self.model.cond_stage_model.tokenizer
        shares = shares_inside(drawn.stores, self.scenes, sights, tokenizer)
        side = self.model.image_size
        uniform = [float(box_cover(s.found[0].box, (side, side)).mean()) for s in sights]
        self.say("## The noun's map", "", *map_table(shares, uniform), "")
        self.say("Where a picture's attention goes, down and up:", "")
        self.say(*reader_table(attention_by_token(drawn.stores, self.scenes, tokenizer)), "")

    def grid_section(self) -> None:
        """Report the trade-off between the windows, and where a colour is read, on few prompts."""
        from benchmarks.edit_draws import Column, Windows, draw_columns, swap_by, weigh_from
        from benchmarks.edit_measures import colour_distances, score_swaps
        from benchmarks.edit_tables import grid_table, weight_table
        from ldm.data.demo.scene_vocabulary import COLOURS

        swaps = self.swaps[: self.options.n_grid]
        captions = [swap.scene.caption for swap in swaps]
        edited = [swap.caption for swap in swaps]
        colours = [swap.scene.background for swap in swaps]
        columns = {"source": Column(captions)}
        grid = list(itertools.product(CROSS_GRID, SELF_GRID))
        for cross, own in grid:
            makes = [swap_by(Windows(cross, own))] * len(swaps)
            columns[f"{cross} {own}"] = Column(edited, makes)
        for weight in (each for each in WEIGHTS if each != 1):
            words = (COLOURS[colour].english for colour in colours)
            makes = [weigh_from(self.windows, word, weight) for word in words]
            columns[f"weight {weight:g}"] = Column(captions, makes)
        drawn = draw_columns(self.model, columns, self.options.scale, self.sampling).pictures
        drawn["weight 1"] = drawn["source"]
        source = drawn["source"], self.look(drawn["source"])
        scores = {}
        for pair in grid:
            pictures = drawn[f"{pair[0]} {pair[1]}"]
            scores[pair] = score_swaps(swaps, source, (pictures, self.look(pictures)))
        distances = {
            weight: colour_distances(drawn[f"weight {weight:g}"], colours) for weight in WEIGHTS
        }
        self.say("## The windows", "")
        self.say(f"New noun drawn, background kept, IoU; the first {len(swaps)} prompts.", "")
        self.say(*grid_table(scores), "")
        self.say("## The colour word and every token after it reweighted", "")
        self.say(f"End and padding included; the first {len(swaps)} prompts.", "")
        self.say(*weight_table(distances), "")

    def keep_sheets(self, drawn: Drawn) -> None:
        """Write sheets with a column for each prompt."""
        import torch

        from benchmarks.quality_demo import save_sheet

        rows = {
            "swaps": ["source", *WAYS],
            "weights": [f"weight {weight:g}" for weight in WEIGHTS],
        }
        for first in range(0, len(self.scenes), SHEET_COLUMNS):
            part = slice(first, first + SHEET_COLUMNS)
            for name, ways in rows.items():
                if not {*ways} <= {*drawn.pictures}:
                    continue
                sheet = torch.cat([drawn.pictures[way][part] for way in ways])
                columns = len(self.scenes[part])
                save_sheet(sheet, self.outdir / f"{name}-{first:03}.png", columns=columns)

    def keep_verdicts(self, sights: dict[str, list[Sight]]) -> None:
        """Write a line for each prompt, and one for each way below it."""
        from benchmarks.edit_measures import iou

        lines = []
        for k, swap in enumerate(self.swaps):
            was = sights["source"][k].found[0]
            lines.append(f"{k:3} {swap.scene.caption} | {swap.caption} | seen: {was.noun}")
            for way in WAYS:
                now = sights[way][k]
                found = now.found[0]
                lines.append(
                    f"    {way}: {found.noun} on {now.background}, "
                    f"IoU {iou(was.box, found.box):.2f}, explained {now.explained:.2f}"
                )
        (self.outdir / "verdicts.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
