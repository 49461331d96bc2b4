"""A sweep as a page asks for it: checked, counted and timed before it starts, drawn cell by cell.

    plan(base, ("scale: 1-5 [3]", "", ""), choice, limits) -> Planned: 3 pictures, 60 steps
    SweepRun(planned, folder).draw(pipeline) -> states with the sheet so far

Files are written where ``scripts/sweep.py`` writes them, and are the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apps.server.pace import Pace
from apps.server.service import cost_of
from ldm.errors import UserError
from ldm.legible import quoted
from ldm.pipelines.progress import Observer, log_events
from ldm.programs.output import OutputFolder
from ldm.settings.generation import GenerationSettings
from ldm.settings.option import Option
from ldm.sweeps.axes import Axis, read_axis, sweepable
from ldm.sweeps.drawing import TOGETHER, Asked, draw_sweep, requests_of
from ldm.sweeps.plan import Cell, Sweep, plan_sweep
from optimizedSD.web.drawing import preview
from optimizedSD.web.fields import is_on_pages
from optimizedSD.web.limits import Limits
from optimizedSD.web.state import SavedPicture

if TYPE_CHECKING:  # these import torch, which a plan can do without
    from PIL import Image

    from ldm.pipelines.models import ModelChoice
    from ldm.pipelines.pipeline import Pipeline
    from ldm.pipelines.progress import Picture
    from ldm.sweeps.results import Results
    from optimizedSD.web.worker import Desk

MOST = 100  # pictures of a sweep: it holds the line for everybody else meanwhile
FOLDER = "sweeps"
SMALL = 640  # pixels of the longer side of a sheet that is being filled


@dataclass(frozen=True, eq=False)
class Planned:
    """A sweep that can be drawn.

    Attributes:
        sweep: What varies.
        asked: A request for each cell.
        together: How many pictures are drawn at a time.
    """

    sweep: Sweep
    asked: Sequence[Asked]
    together: int = TOGETHER

    @property
    def pictures(self) -> int:
        """How many pictures it draws."""
        return sum(each.request.pictures for each in self.asked)

    @property
    def steps(self) -> int:
        """How many sampling steps that takes, summed over the pictures."""
        return sum(each.request.pictures * each.request.settings.ddim_steps for each in self.asked)

    @property
    def cost(self) -> float:
        """Millions of pixels times steps, which is what time goes with."""
        return sum(each.request.pictures * cost_of(each.request) for each in self.asked)

    def seconds(self, pace: Pace) -> int | None:
        """Return about how long it takes; None while nothing has been measured."""
        return pace.seconds(self.cost) if pace.known else None


def axes_offered(schema: type[GenerationSettings]) -> dict[str, Option]:
    """Return the settings that a visitor may vary, by name: those that pages have controls for."""
    return {name: each for name, each in sweepable(schema).items() if is_on_pages(each)}


def read_axes(texts: Sequence[str], schema: type[GenerationSettings]) -> list[Axis | None]:
    """Read what was typed as axes; an empty text is none.

    Raises:
        UserError: There is no axis, or one of a setting that is not for visitors.
    """
    if not any(text.strip() for text in texts):
        raise UserError(
            "nothing varies yet; expected a setting and its values for X, Y or Z, such as "
            '"scale: 2-21 [7]"; fill one in'
        )
    axes = [read_axis(text, schema) if text.strip() else None for text in texts]
    offered = axes_offered(schema)
    for axis in axes:
        if axis is not None and axis.name not in offered:
            raise UserError(
                f"{quoted(axis.name)} cannot vary on this page, as it names files; expected one "
                "of the page's settings, such as scale, seed or sampler; scripts/sweep.py varies "
                "all of them"
            )
    return axes


def plan(
    base: GenerationSettings,
    texts: Sequence[str],
    choice: ModelChoice,
    limits: Limits,
    *,
    image: Image.Image | None = None,
    named: Mapping[str, Any] | None = None,
) -> Planned:
    """Lay out a sweep, and check each picture of it, before anything is drawn.

    Args:
        base: What all pictures have in common.
        texts: The axes as they were typed: X, Y and Z.
        choice: The model that is loaded.
        limits: What one picture may ask for.
        image: What pictures start from, if they start from one.
        named: Further settings of all of them.

    Raises:
        UserError: An axis cannot be read, a combination cannot be drawn, or they are too many.
    """
    axes = read_axes(texts, type(base))
    # Only pictures with seeds of their own share a batch, and are the same when drawn alone.
    common = replace(base, n_iter=1, n_samples=1, seed_mode="per-image", **(named or {}))
    sweep = plan_sweep(common, axes)
    if len(sweep.cells) > MOST:
        raise UserError(
            f"{' times '.join(str(len(axis)) for axis in axes if axis)} values were given, "
            f"{len(sweep.cells)} pictures; expected at most {MOST} on this page; give fewer, or "
            "use scripts/sweep.py"
        )
    asked = requests_of(sweep, choice, image=image)
    rows = TOGETHER
    for each in asked:
        height, width = each.request.size
        try:
            limits.check(each.request.settings)
            limits.check_size(each.request.settings, width, height)
        except UserError as error:
            raise sweep.fault_at(each.cell.place, error) from error
        rows = min(rows, limits.rows(width, height))
    return Planned(sweep, asked, rows)


class SweepRun:
    """A sweep while it is drawn: its pictures in their files, the sheet and the table so far.

    Args:
        planned: What ``plan`` returned.
        outdir: The studio's folder of pictures.

    Attributes:
        results: The sheet and the table; None until it has begun.
        saved: The pictures' files, in the order in which they were drawn.
        written: The sheet's file and the table's, once it is over.
    """

    def __init__(self, planned: Planned, outdir: str | Path) -> None:
        self.planned, self.folder = planned, Path(outdir) / FOLDER
        self.results: Results | None = None
        self.saved: list[SavedPicture] = []
        self.written: list[Path] = []

    def check(self) -> None:
        """Check that files can be written.

        Raises:
            UserError: They cannot.
        """
        OutputFolder(self.folder).check()

    def draw(
        self, pipeline: Pipeline, observer: Observer = log_events, **watched: Any
    ) -> Iterator[SavedPicture]:
        """Draw it; yield each picture when it is written: its pixels are not kept.

        What is drawn when the iterator is closed, or when something fails, has its sheet and its
        table nevertheless.

        Args:
            pipeline: The loaded model, which the plan was made for.
            observer: Called with each ``Notice`` and ``Progress`` of the whole sweep.
            **watched: As for ``draw_sweep``.

        Raises:
            UserError: A picture cannot be drawn or written.
        """
        from ldm.sweeps.results import Results

        planned, output = self.planned, OutputFolder(self.folder)
        self.results = Results(planned.sweep, planned.asked)
        watched |= {"observer": observer, "together": planned.together}
        drawn = draw_sweep(planned.asked, lambda _: pipeline, **watched)
        try:
            with closing(drawn):
                for cell, pictures in drawn:
                    for picture in pictures:
                        output.take(picture)
                        path = output.saved[-1]
                        self.results.note(cell, picture, path.name)
                        self.saved.append(_saved(picture, path, self.planned.sweep, cell))
                    self.results.show(cell, pictures)
                    yield self.saved[-1]
        finally:
            if self.saved:
                settings = planned.asked[0].request.settings
                kind, mark = settings.format, settings.watermark
                self.written = self.results.write(self.folder, kind, mark)


def _saved(picture: Picture, path: Path, sweep: Sweep, cell: Cell) -> SavedPicture:
    x, y, z = cell.place
    columns, rows, _ = sweep.shape
    return SavedPicture(path, picture.seed, picture.parameters, ((z * rows + y) * columns + x, 0))


@dataclass(frozen=True)
class Sweeping:
    """A job: a sweep is drawn.

    Attributes:
        planned: What ``plan`` returned.
        outdir: The studio's folder.
        pace: Learns how long it took.
        language: The visitor's.
        pictures: Whether single pictures are shown too, not the sheet alone.
    """

    planned: Planned
    outdir: Path
    pace: Pace
    language: str = "en"
    pictures: bool = True

    @property
    def seed(self) -> int:
        """That of its first picture."""
        return self.planned.asked[0].request.settings.seed

    def do(self, desk: Desk) -> None:
        """Draw it, showing the sheet as it fills; raises UserError for what cannot be drawn."""
        if any(each.request.choice is not desk.pipeline.choice for each in self.planned.asked):
            raise UserError(
                "another model was loaded while this waited; expected the one that it was planned "
                "for; press Draw again"
            )
        from ldm.pipelines.cancelling import Cancel  # imports torch, as does the other
        from ldm.pipelines.room import check_room

        costliest = max((each.request for each in self.planned.asked), key=cost_of)
        check_room(costliest, desk.pipeline, seconds=desk.limits.seconds)
        run, began = SweepRun(self.planned, self.outdir), time.monotonic()
        run.check()
        cancel = Cancel(desk.stop)
        try:
            with closing(run.draw(desk.pipeline, desk.observe, cancel=cancel)) as drawn:
                for _ in drawn:
                    saved = sorted(run.saved, key=lambda each: each.place)
                    shown = replace(desk.state, pictures=tuple(saved if self.pictures else ()))
                    desk.show(shown.seen(_small(run)))
            self.pace.measure(self.planned.cost, time.monotonic() - began)
        finally:
            if run.written:
                desk.took(run.written[0], seed=self.seed)


def _small(run: SweepRun) -> str:
    """Return the sheet as far as it is filled, as a ``data:`` address that is small."""
    from PIL import Image

    sheet = Image.fromarray(run.results.sheet.pixels)
    sheet.thumbnail((SMALL, SMALL))
    return preview(np.asarray(sheet)[None])
