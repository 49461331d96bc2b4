"""Draw a sweep: its cells as requests, those that may share a batch together.

Pictures are those that text-to-image or image-to-image draws with the cell's settings alone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from PIL import Image

from ldm.errors import UserError
from ldm.pipelines.grouping import group_of
from ldm.pipelines.models import ModelChoice, choose_model
from ldm.pipelines.progress import Notice, Observer, Picture, Progress, log_events
from ldm.pipelines.request import Request, prepare
from ldm.sweeps.plan import NAMES, Cell, Sweep

if TYPE_CHECKING:  # it imports torch; what can be checked without is checked before
    from ldm.pipelines.pipeline import Pipeline

_COLUMNS = (
    *("prompt", "negative_prompt", "seed", "sampler", "spacing", "ddim_steps", "scale", "strength"),
    *("W", "H", "ckpt"),
)
TOGETHER = 3  # cells of a batch: as many pictures as text-to-image draws at a time


@dataclass(frozen=True, eq=False)
class Asked:
    """A cell and what is asked of the model for it.

    Attributes:
        cell: Its place and settings.
        request: Checked, for the model that it needs.
    """

    cell: Cell
    request: Request

    @property
    def model(self) -> Hashable:
        """What is equal for cells that one loaded model draws."""
        return id(self.request.choice), self.request.settings.use_ema


def requests_of(
    sweep: Sweep, choice: ModelChoice | None = None, *, image: Image.Image | None = None
) -> list[Asked]:
    """Prepare the request of every cell, before anything is loaded.

    Args:
        sweep: What to draw.
        choice: The model of all cells, unless an axis is of models; None finds the settings' own.
        image: What image-to-image starts from; None is the settings' file.

    Raises:
        UserError: A cell cannot be drawn; its values are named.
    """
    varied = any(axis is not None and axis.name == "ckpt" for axis in sweep.axes)
    choices: dict[str | None, ModelChoice] = {}
    asked = []
    for cell in sweep.cells:
        settings = cell.settings
        try:
            own = choice
            if varied or choice is None:
                if settings.ckpt not in choices:
                    choices[settings.ckpt] = choose_model(settings)
                own = choices[settings.ckpt]
            asked.append(Asked(cell, prepare(settings, own, image=image)))
        except UserError as error:
            raise sweep.fault_at(cell.place, error) from error
    return asked


def draw_sweep(
    asked: Sequence[Asked],
    load: Callable[[Request], Pipeline],
    *,
    observer: Observer = log_events,
    together: int = TOGETHER,
    **watched: Any,
) -> Iterator[tuple[Cell, list[Picture]]]:
    """Draw cells, yielding each with its pictures when they are done.

    They come model by model, and those of one batch together: not in the order of the sheet.

    Args:
        asked: What ``requests_of`` returned.
        load: Returns a pipeline for a request's model; it is called once for each model, when the
            pictures of the one before it are done.
        observer: Called with each ``Notice`` and ``Progress``; the progress is that of all cells.
        together: How many cells are drawn at a time where they may share a batch.
        **watched: ``cancel``, ``preview`` and ``every``, as for ``Pipeline.generate``.

    Raises:
        UserError: A cell cannot be drawn; others of its batch have been yielded.
        Cancelled: The token said so.
    """
    overall = _Overall(asked, observer)
    for own in _sorted(asked, lambda each: each.model):
        pipeline = load(own[0].request)
        prepared = [_for(pipeline, each) for each in own]
        alone = [each for each in prepared if each.request.pictures != 1]
        for each in alone:
            overall.begin([each])
            yield each.cell, list(pipeline.generate(each.request, observer=overall, **watched))
        single = [each for each in prepared if each.request.pictures == 1]
        for group in _sorted(single, lambda each: group_of(each.request)):
            for part in _parts(group, together):
                overall.begin(part)
                yield from _drawn_together(pipeline, part, observer=overall, **watched)
        del pipeline  # its memory is the next one's


def _drawn_together(
    pipeline: Pipeline, part: Sequence[Asked], **watched: Any
) -> Iterator[tuple[Cell, list[Picture]]]:
    from ldm.pipelines.together import draw_together

    requests = [each.request for each in part]
    for index, picture in draw_together(pipeline, requests, **watched):
        yield part[index].cell, [picture]


def _for(pipeline: Pipeline, asked: Asked) -> Asked:
    """Return a cell's request for a pipeline, whose choice may be another object for that file."""
    if asked.request.choice is pipeline.choice:
        return asked
    return replace(asked, request=replace(asked.request, choice=pipeline.choice))


def _sorted(asked: Sequence[Asked], key: Callable[[Asked], Hashable]) -> Iterator[list[Asked]]:
    """Yield those of one key together, in the order in which the keys first come."""
    groups: dict[Hashable, list[Asked]] = {}
    for each in asked:
        groups.setdefault(key(each), []).append(each)
    yield from groups.values()


def _parts(group: Sequence[Asked], most: int) -> Iterator[list[Asked]]:
    left = iter(group)
    while part := list(islice(left, most)):
        yield part


class _Overall:
    """Passes on what is told of parts of a sweep; progress becomes that of all of it.

    How many steps a walk takes is known when it begins; until then it is as many as asked for.
    """

    def __init__(self, asked: Sequence[Asked], observer: Observer) -> None:
        self._observer = observer
        self._total, self._pictures = _work(asked)
        self._done = self._before = 0  # steps, pictures
        self._part = 0, 0
        self._told: set[Notice] = set()

    def begin(self, part: Sequence[Asked]) -> None:
        """Count the part before as done."""
        self._done, self._before = self._done + self._part[0], self._before + self._part[1]
        self._part = _work(part)

    def __call__(self, event: Notice | Progress) -> None:
        if isinstance(event, Progress):
            steps = round(self._part[0] * event.done / event.total) if event.total else 0
            pictures = self._before + event.pictures
            self._observer(Progress(self._done + steps, self._total, pictures, self._pictures))
        elif event not in self._told:  # cells differ in one setting: most notices are of all
            self._told.add(event)
            self._observer(event)


def _work(asked: Sequence[Asked]) -> tuple[int, int]:
    """Return how many steps and pictures cells take, as they were asked for."""
    pictures = [each.request.pictures for each in asked]
    steps = sum(
        n * each.request.settings.ddim_steps for n, each in zip(pictures, asked, strict=True)
    )
    return steps, sum(pictures)


def columns_of(sweep: Sweep) -> list[str]:
    """Return the columns of a sweep's table."""
    axes = [f"{name}: {axis.name}" for name, axis in zip(NAMES, sweep.axes, strict=True) if axis]
    return ["file", *axes, *_COLUMNS]


def row_of(sweep: Sweep, cell: Cell, picture: Picture, file: str = "") -> Mapping[str, object]:
    """Return a picture's row of the table.

    Args:
        sweep: The sweep.
        cell: The picture's.
        picture: The picture.
        file: Where it was written, "" if it was not.
    """
    settings = cell.settings
    common = {name: getattr(settings, name) for name in _COLUMNS if hasattr(settings, name)}
    drawn = {"prompt": picture.prompt, "seed": picture.seed}
    height, width = picture.pixels.shape[:2]
    size = {"W": width, "H": height}
    return {"file": file, **sweep.values_at(cell.place), **common, **drawn, **size}
