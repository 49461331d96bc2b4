"""What does the bundled model draw from Japanese, directly and translated, and what is understood?

Scenes that training never saw are worded in Japanese (japanese_wordings.py): as training words
them, in other orders, widths and spellings, and politely. Each is drawn as it is typed, and in the
English of ldm.translation; the scene's own English caption is drawn from the same noise beside
them. An oracle that never saw the model (scene_oracle.py) says which things and which background
are in the pictures. Then prompts as people type them (japanese_prompts.txt) are translated, and the
words that the dictionary does not know are counted and named.

Examples:
    python benchmarks/japanese.py
    python benchmarks/japanese.py --parts coverage --show 20
"""

from __future__ import annotations

import argparse
import platform
import re
import sys
import time
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import reports
from benchmarks.demo_flags import add_walk, check_demo, demo_parser
from benchmarks.japanese_wordings import KINDS, wordings
from ldm.errors import UserError
from ldm.translation.letters import has_cjk
from ldm.translation.lexicon import Lexicon, dictionary, own_words
from ldm.translation.politeness import plainly
from ldm.translation.sentence import FOREIGN, PARTICLE, UNKNOWN, tokens_of
from ldm.translation.translate import Translator, default_translator

if TYPE_CHECKING:
    from benchmarks.scene_oracle import Sight
    from ldm.data.demo.scenes import Scene

FOLDER = Path(__file__).resolve().parent
PROMPTS = FOLDER / "japanese_prompts.txt"
TITLE = "Prompts in Japanese"
PROMPT_SEED = 20  # of the held-out scenes of quality_demo.py
WORDING_SEED = 15
GOAL = 0.03  # of the English share, which the others may stay behind
PARTS = ("draw", "coverage")
ENGLISH, DIRECT, TRANSLATED = "English", "Japanese as typed", "Japanese, translated"
SHEET_COLUMNS = 20


@dataclass(frozen=True)
class Prompt:
    """A scene with what is drawn for it.

    Attributes:
        scene: What is to be seen; its caption is the English original.
        kind: How the Japanese is worded, of ``KINDS``.
        texts: Prompts by way.
    """

    scene: Scene
    kind: str
    texts: dict[str, str]


@dataclass(frozen=True)
class Coverage:
    """How much of some prompts the translation knows.

    Attributes:
        prompts: How many.
        whole: Of them, those of which nothing was left out.
        words: Words that carry meaning: no particles, no Latin letters.
        own: Of them, those in the project's own table.
        unknown: Those that are left out.
    """

    prompts: int
    whole: int
    words: int
    own: int
    unknown: tuple[str, ...]

    @property
    def known(self) -> float:
        """The share of the words that is known."""
        return 1 - len(self.unknown) / self.words


def build_parser() -> argparse.ArgumentParser:
    """Make the command line; imports no torch."""
    parser = demo_parser(__doc__)
    add = parser.add_argument
    add("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (default: both)")
    add("--n", type=int, default=200, help="scenes (default: %(default)s)")
    add("--scale", type=float, default=3.0, help="of guidance (default: %(default)s)")
    add_walk(parser, "dpm_solver", 10, "prompt i starts from the noise of seed + i")
    add("--show", type=int, default=0, help="print so many held-out prompts with their English")
    add("--outdir", default="outputs/japanese", help="for sheets and verdicts")
    add("--save", metavar="NAME", help="also write results/japanese-NAME.md")
    return parser


def check(options: argparse.Namespace) -> None:
    """Refuse what cannot work, before any model is loaded.

    Raises:
        UserError: A count that is too small, or a missing file.
    """
    check_demo(options, n=2, steps=1, batch_size=1, show=0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    options = build_parser().parse_args(argv)
    try:
        check(options)
        lines = list(describe(argv, options))
        if "draw" in options.parts:
            lines += ["", *drawing_lines(options)]
        if "coverage" in options.parts:
            lines += ["", *coverage_lines(options.show)]
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    reports.tell(lines, TITLE, f"japanese-{options.save}" if options.save else None)
    return 0


def describe(argv: Sequence[str] | None, options: argparse.Namespace) -> Iterator[str]:
    """Say what was measured where."""
    from ldm.processor import cores, cpu_name

    given = " ".join(sys.argv[1:] if argv is None else argv)
    yield f"- command: `{f'python benchmarks/japanese.py {given}'.strip()}`"
    yield f"- hardware: {cpu_name()}, {cores()} cores"
    if "draw" in options.parts:
        import torch

        yield f"- versions: Python {platform.python_version()}, torch {torch.__version__}"
        yield (
            f"- {options.n} held-out scenes, half with two objects; {options.sampler}, "
            f"{options.steps} steps, scale {options.scale:g}; prompt i of every way from the noise "
            f"of seed {options.seed} + i"
        )


def make_prompts(count: int, translator: Translator) -> list[Prompt]:
    """Return held-out scenes with their English captions, Japanese wordings and translations."""
    from benchmarks.demo_measures import held_out_prompts

    scenes = held_out_prompts(count, "en", PROMPT_SEED)
    made = []
    for scene, (kind, japanese) in zip(scenes, wordings(scenes, WORDING_SEED), strict=True):
        english = translator(japanese).english
        texts = {ENGLISH: scene.caption, DIRECT: japanese, TRANSLATED: english}
        made.append(Prompt(scene, kind, texts))
    return made


def drawing_lines(options: argparse.Namespace) -> Iterator[str]:
    """Draw all prompts by each way; give the tables of what the oracle saw."""
    from benchmarks.demo_measures import Sampling, draw, look_at
    from benchmarks.quality_demo import save_sheet
    from benchmarks.scene_oracle import SceneOracle
    from ldm.checkpoint.load import load_model

    model, _ = load_model(options.config, options.ckpt)
    sampling = Sampling(
        options.sampler, options.steps, options.batch_size, options.seed, options.spacing
    )
    prompts, oracle = make_prompts(options.n, default_translator()), SceneOracle()
    scenes = [prompt.scene for prompt in prompts]
    outdir = Path(options.outdir)
    outdir.mkdir(parents=True, exist_ok=True)
    sights, start = {}, time.perf_counter()
    for way in (ENGLISH, DIRECT, TRANSLATED):
        texts = [prompt.texts[way] for prompt in prompts]
        pictures = draw(model, texts, options.scale, sampling)
        sights[way] = look_at(oracle, pictures, scenes)
        name = re.sub("[^a-z]+", "-", way.lower())
        save_sheet(pictures, outdir / f"{name}.png", columns=SHEET_COLUMNS)
    (outdir / "verdicts.txt").write_text("\n".join(verdicts(prompts, sights)), encoding="utf-8")
    yield f"{time.perf_counter() - start:.0f} s for {3 * len(prompts)} pictures and their oracle."
    yield from ["", "## Drawn", "", *drawing_table(prompts, sights)]


def shares(pairs: Sequence[tuple[Sight, Scene]]) -> tuple[float, float]:
    """Return the shares of pictures with the right things, and with the right background."""
    from benchmarks.scene_oracle import shows_objects

    things = sum(shows_objects(sight, scene.objects) for sight, scene in pairs)
    colours = sum(sight.background == scene.background for sight, scene in pairs)
    return things / len(pairs), colours / len(pairs)


def drawing_table(prompts: Sequence[Prompt], sights: dict[str, Sequence[Sight]]) -> Iterator[str]:
    """Give the lines of the table, and whether each way is as near to English as it is to be."""
    ways = list(sights)
    yield "| prompts | number | " + " | ".join(f"{w}: things | colour" for w in ways) + " |"
    yield "|---" * (2 + 2 * len(ways)) + "|"
    for kind in ("all", *KINDS):
        chosen = [k for k, prompt in enumerate(prompts) if kind in ("all", prompt.kind)]
        if not chosen:
            continue
        cells = [kind, str(len(chosen))]
        for way in ways:
            pairs = [(sights[way][k], prompts[k].scene) for k in chosen]
            cells += [f"{100 * share:.1f} %" for share in shares(pairs)]
        yield "| " + " | ".join(cells) + " |"
    scenes = [prompt.scene for prompt in prompts]
    of = {way: shares(list(zip(sights[way], scenes, strict=True))) for way in ways}
    yield ""
    for way in (DIRECT, TRANSLATED):
        for name, share, english in zip(("things", "colour"), of[way], of[ENGLISH], strict=True):
            reached = "reached" if english - share <= GOAL + 1e-9 else "not reached"
            yield (
                f"- {way}, {name}: {100 * share:.1f} %, beside {100 * english:.1f} % in English; "
                f"within {100 * GOAL:g} points: {reached}"
            )


def verdicts(prompts: Sequence[Prompt], sights: dict[str, Sequence[Sight]]) -> Iterator[str]:
    """Give a line for each picture: right or wrong, the prompt, what was seen."""
    for way, seen in sights.items():
        for k, (sight, prompt) in enumerate(zip(seen, prompts, strict=True)):
            things, colour = shares([(sight, prompt.scene)])
            found = " + ".join(finding.noun for finding in sight.found)
            yield (
                f"{'right' if things and colour else 'WRONG'} {way} {k:3} {prompt.kind}: "
                f"{prompt.texts[way]} | wanted: {prompt.scene.caption} | "
                f"seen: {found} on {sight.background}"
            )


def read_prompts(path: Path) -> list[str]:
    """Return the prompts of a file, without its remarks."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def coverage(prompts: Sequence[str]) -> Coverage:
    """Count the words of prompts that the translation knows, and name the others."""
    whole = words = own = 0
    lexicon = Lexicon([{}, own_words(), dictionary()])  # no glossary; own words are of rank 1
    unknown: list[str] = []
    for prompt in prompts:
        left_out = []
        for phrase in re.split(r"[、。，,\s]+", unicodedata.normalize("NFKC", prompt)):
            if not has_cjk(phrase):
                continue
            tokens = tokens_of(plainly(phrase), lexicon)
            said = [token for token in tokens if token.kind not in (PARTICLE, FOREIGN)]
            words += len(said)
            own += sum(token.kind != UNKNOWN and token.word.rank == 1 for token in said)
            left_out += [token.text for token in said if token.kind == UNKNOWN]
        whole += not left_out
        unknown += left_out
    return Coverage(len(prompts), whole, words, own, tuple(unknown))


def coverage_lines(show: int) -> Iterator[str]:
    """Give the table of the two halves, what was left out, and some prompts with their English."""
    translator, prompts = default_translator(), read_prompts(PROMPTS)
    halves = {"tended": prompts[0::2], "held out": prompts[1::2]}
    yield from ["## Understood", ""]
    yield "| prompts | number | words | known | of own_words.tsv | nothing left out | left out |"
    yield "|---" * 7 + "|"
    for name, half in halves.items():
        found = coverage(half)
        cells = [name, f"{found.prompts}", f"{found.words}", f"{100 * found.known:.1f} %"]
        cells += [f"{100 * found.own / found.words:.1f} %", f"{found.whole}"]
        yield "| " + " | ".join([*cells, " ".join(found.unknown) or "-"]) + " |"
    if show:
        yield from ["", "| held out | English |", "|---|---|"]
        for prompt in halves["held out"][:show]:
            yield f"| {prompt} | {translator(prompt).english} |"


if __name__ == "__main__":
    sys.exit(main())
