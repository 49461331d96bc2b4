"""Several requests of one picture each, drawn as one batch.

    requests -> groups (``group_of``) -> begin each as its own run -> walks of one form, joined
             -> decode -> ``Drawn``: finish it in any thread -> the picture of the lone request

On a processor a picture's bytes are those of the request drawn alone, whatever it is drawn with:
the model is called for several pictures only where that is known to change no bit
(``ldm.pipelines.alike``), and everything else is computed row by row or number by number. On other
devices batches are computed at once; see docs/scale.md.

Shapes: B pictures, C h w latent, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.images.io import check_finite
from ldm.pipelines.alike import alike
from ldm.pipelines.grouping import arithmetic_of, can_share, group_of, texts_of
from ldm.pipelines.joined import Joined, Taken
from ldm.pipelines.phases import is_finite, is_not_black, lacked_memory
from ldm.pipelines.pipeline import Pipeline
from ldm.pipelines.progress import Notice, Observer, Picture, Progress, log_events
from ldm.pipelines.request import Request
from ldm.pipelines.run import Run
from ldm.pipelines.text_cache import TextCache
from ldm.types import SamplerState

if TYPE_CHECKING:
    from ldm.pipelines.cancelling import Cancel
    from ldm.pipelines.previewing import Glimpse

__all__ = ["Drawn", "TextCache", "decode_together", "draw_together", "group_of"]


class Drawn(NamedTuple):
    """A picture whose part of the work on the device is done.

    Attributes:
        index: Which request's.
        finish: Makes the picture: safety check, watermark, parameters. It may be called in another
            thread, while the next batch is drawn. Raises UserError where the request could not be
            drawn; it then says why, and no other picture suffers.
    """

    index: int
    finish: Callable[[], Picture]


def draw_together(
    pipeline: Pipeline,
    requests: Sequence[Request],
    *,
    observer: Observer = log_events,
    cache: TextCache | None = None,
    **watched: Any,
) -> Iterator[tuple[int, Picture]]:
    """Draw requests of one picture each; yield each picture with its request's index.

    Args:
        pipeline: What draws.
        requests: What it ``prepare``d. Those of one group are one batch; others are drawn after
            one another.
        observer: Called with each different notice once, and with the progress of each batch.
        cache: Texts that were encoded before; one for each pipeline.
        **watched: ``cancel``, ``preview`` and ``every``, as for ``Pipeline.generate``; the numbers
            of a ``Glimpse`` are the requests' indices.

    Raises:
        UserError: A request cannot be drawn; all others have been yielded before.
        Cancelled: The token said so.
        ValueError: A request is of several pictures.
    """
    failed: UserError | None = None
    for drawn in decode_together(pipeline, requests, observer=observer, cache=cache, **watched):
        try:
            picture = drawn.finish()
        except UserError as error:
            failed = failed or error
        else:
            yield drawn.index, picture
    if failed is not None:
        raise failed


def decode_together(
    pipeline: Pipeline,
    requests: Sequence[Request],
    *,
    observer: Observer = log_events,
    cache: TextCache | None = None,
    cancel: Cancel | None = None,
    preview: Callable[[Glimpse], None] | None = None,
    every: float = 0.5,
) -> Iterator[Drawn]:
    """Do the device's part of ``draw_together``, whose arguments these are.

    Raises:
        UserError: Memory ran out (see ``ldm.pipelines.phases.lacked_memory``), or what a group has
            in common cannot be drawn. What is wrong with one request is raised by its ``finish``.
        ValueError: A request is of several pictures.
    """
    groups: dict[Hashable, dict[int, Request]] = {}
    for index, request in enumerate(requests):
        if request.pictures != 1:
            raise ValueError(f"request {index} is of {request.pictures} pictures; expected one")
        groups.setdefault(group_of(request), {})[index] = request
    told, cache = _once(observer), TextCache() if cache is None else cache
    glimpses = pipeline.glimpses(preview, every, told)
    for group in groups.values():
        if pipeline.staged is None and all(map(can_share, group.values())):
            drawn = _Group(pipeline, group, told, cache, cancel)
            drawn.lead.glimpses = glimpses
            yield from drawn.drawn()
        else:
            for index, request in group.items():
                run = pipeline.run(request, told, cancel=cancel)
                run.glimpses = glimpses and glimpses.numbered(index)
                yield Drawn(index, _alone(run))


def _alone(run: Run) -> Callable[[], Picture]:
    """Draw a request by itself, here and now; ``finish`` may be called in any thread."""
    try:
        picture = next(run.pictures())
    except UserError as error:
        return _failure(error)
    return lambda: picture


def _once(observer: Observer) -> Observer:
    """Return an observer that passes each notice on once."""
    told: set[Notice] = set()

    def tell(event: Notice | Progress) -> None:
        if event in told:
            return
        if isinstance(event, Notice):
            told.add(event)
        observer(event)

    return tell


class _Group:
    """Requests of one group, each with a run of its own, on a model that the first makes ready."""

    def __init__(
        self,
        pipeline: Pipeline,
        requests: Mapping[int, Request],
        observer: Observer,
        cache: TextCache,
        cancel: Cancel | None,
    ) -> None:
        self.pipeline, self.observer, self.cache = pipeline, observer, cache
        self.runs: dict[int, Run] = {}
        for index, request in requests.items():
            self.runs[index] = pipeline.run(request, self._tell, cancel=cancel)
        self.lead = next(iter(self.runs.values()))
        self.exact = pipeline.device.type == "cpu"
        self._total = self._done = self._pictures = 0  # steps, steps, pictures

    def _tell(self, event: Notice | Progress) -> None:
        if isinstance(event, Notice):
            self.observer(event)

    def drawn(self) -> Iterator[Drawn]:
        with self.lead.ready(), self._alike():
            begun: dict[int, Taken] = {}
            for index, run in self.runs.items():
                try:
                    begun[index] = self._begin(run)
                except UserError as error:
                    yield Drawn(index, _failure(error))
            self._total = sum(self.runs[index].steps for index in begun)
            for walks in _by_form(begun):
                for index, x in self._walk(walks).items():
                    drawn = Drawn(index, self._decoded(self.runs[index], x))
                    self._pictures += 1
                    self._progress(0)
                    yield drawn

    def _alike(self) -> AbstractContextManager:
        if not self.exact:
            return nullcontext()
        known = self.pipeline.alike.setdefault(arithmetic_of(self.lead.request), {})
        return alike(self.pipeline.model, known)

    def _begin(self, run: Run) -> Taken:
        """Begin a run as it begins alone; return its walk, of which no step is taken."""
        lead = self.lead
        run.execution, run.adapters, run.sampler = lead.execution, lead.adapters, lead.sampler
        run.begin()
        model, texts = self.pipeline.model, texts_of(run.request)
        run.walk.remember = lambda key, make: self.cache.get(model, (texts, key), make)
        batch = run.request.batches[0]

        def begin() -> Taken:
            taken = Taken(lead.sampler)
            noise = run.walk.start_noise.source(batch)
            conditioning = run.walk.condition(batch.prompts, batch.negatives)
            taken.begin(run.walk.begin, noise=noise, rows=1, **conditioning)
            return taken

        with torch.no_grad(), run.enough_memory(1):
            return run.execution.compute("walk", begin, lambda _: True)

    def _walk(self, walks: Mapping[int, Taken]) -> dict[int, Tensor]:
        """Take the steps of walks of one form; return the latents (1, C, h, w) of each."""
        lead, count, steps = self.lead, len(walks), self.runs[next(iter(walks))].steps
        numbers, look = dict(enumerate(walks)), lead.looking()

        def tick(state: SamplerState) -> None:
            look(state, numbers)
            self._progress((state.i + 1) * count)

        def work() -> list[Tensor]:
            return Joined(list(walks.values())).latents(lead.sampler, tick)

        with torch.no_grad(), lead.enough_memory(count):
            found = lead.execution.compute("walk", work, lambda each: all(map(is_finite, each)))
        self._done += count * steps
        return dict(zip(walks, found, strict=True))

    def _progress(self, taken: int) -> None:
        """Report how far the group is: ``taken`` steps into the present walk."""
        done = self._done + taken
        self.observer(Progress(done, self._total, self._pictures, len(self.runs)))

    def _decoded(self, run: Run, x: Tensor) -> Callable[[], Picture]:
        """Decode latents (1, C, h, w); return what makes the picture."""
        try:
            with torch.no_grad(), run.enough_memory(1):
                check_finite(x, "the latent of picture", run.way_out)
                run.check()
                decode = partial(run.walk.decode, x)
                decoded = run.execution.compute("decode", decode, is_not_black)
                check_finite(decoded, advice=run.way_out)
        except UserError as error:
            return _failure(error)
        return partial(_finish, run, decoded)


def _by_form(begun: Mapping[int, Taken]) -> Iterable[dict[int, Taken]]:
    forms: dict[Hashable, dict[int, Taken]] = {}
    for index, taken in begun.items():
        forms.setdefault(taken.form, {})[index] = taken
    return forms.values()


def _failure(error: UserError) -> Callable[[], Picture]:
    """Return what raises an error that concerns one request; raise one that concerns all."""
    if lacked_memory(error):
        raise error

    def fail() -> Picture:
        raise error

    return fail


def _finish(run: Run, decoded: Tensor) -> Picture:
    batch = run.walk.drawn(run.request.batches[0])
    return next(run.post_processor.pictures(batch, decoded))
