"""One run: its batches drawn in order, phase by phase.

    encode (once)  ->  (per batch) walk: text encoding, sampler steps  ->  decode
                   ->  ``PostProcessor``

``Execution`` is the plain way to compute a phase: the whole model is on the device, and errors
reach the caller. ``ldm.pipelines.staging`` has the one for small devices, which retries.

Shape legend: B pictures, C h w latent, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from functools import cached_property, partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ldm.images.io import check_finite
from ldm.models.diffusion.latent_diffusion import LatentSpaceDiffusion
from ldm.models.diffusion.sampler import Sampler
from ldm.pipelines.batches import Batch
from ldm.pipelines.phases import Phase, Result, is_finite, is_not_black, memory_for, way_out
from ldm.pipelines.postprocess import PostProcessor
from ldm.pipelines.progress import Notice, Observer, Picture, Progress, notices_before
from ldm.pipelines.request import Request
from ldm.pipelines.walks import Silenced, make_walk, sampler_for
from ldm.rng import keep_random_state, seed_everything
from ldm.safety.checker import SafetyChecker
from ldm.types import SamplerState

if TYPE_CHECKING:
    from ldm.modules.attention_control.controller import Controller
    from ldm.pipelines.adapting import Attached, Shelves
    from ldm.pipelines.cancelling import Cancel
    from ldm.pipelines.previewing import Glimpses


class Execution:
    """Computes a run's phases on the device where the whole model is.

    Args:
        device: That device.
        half: The element type that autocast computes in; None computes in float32.

    Attributes:
        is_whole: Whether the whole model is there at once.
    """

    is_whole = True

    def __init__(self, device: torch.device, half: torch.dtype | None) -> None:
        self.device = device
        self.half = half

    @property
    def untried(self) -> torch.dtype | None:
        """The half precision that a phase is computed in without another try in float32."""
        return self.half

    def compute(
        self,
        phase: Phase,
        work: Callable[[], Result],
        usable: Callable[[Result], bool],  # noqa: ARG002 - used where a phase can be retried
    ) -> Result:
        """Compute a phase in its precision.

        Args:
            phase: Which one.
            work: Computes it; draws its own random numbers, so that it can be repeated.
            usable: Whether the result can be used.
        """
        with self.precision(phase):
            return work()

    def precision(self, phase: Phase) -> AbstractContextManager:
        """Return the context that a phase is computed in.

        As in the reference, an init image is encoded in float32, whatever the precision.
        """
        if self.half is None or phase == "encode":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.half)


LITTLE = 2**20
"""Pixels of a batch up to which nobody asks whether there is room for it: four of 512x512."""


class Run:
    """One call of ``Pipeline.generate``.

    Args:
        model: What draws; the execution decides which device it is on.
        request: What to draw.
        make_ready: Makes the device ready for a request, until the run ends.
        checker: Blacks out what it flags.
        observer: Called with notices and progress.
        controller: Has charge of the model's attention, after what the run itself needs.
        shelves: Where adapters that were read stay; needed where the request has any.

    Attributes:
        cancel: Ends the run early where it is asked to; None never does.
        glimpses: Shows what is being drawn; None shows nothing.
    """

    cancel: Cancel | None = None
    glimpses: Glimpses | None = None

    def __init__(
        self,
        model: LatentSpaceDiffusion,
        request: Request,
        make_ready: Callable[[Request, Observer], AbstractContextManager[Execution]],
        checker: SafetyChecker,
        observer: Observer,
        controller: Controller | None = None,
        shelves: Shelves | None = None,
    ) -> None:
        self.controller, self.shelves = controller, shelves
        self.model, self.request, self.settings = model, request, request.settings
        self.make_ready, self.checker, self.observer = make_ready, checker, observer
        self.sampler = sampler_for(self.settings, model)
        self.steps_done = self.pictures_done = 0

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        return self.execution.device

    def pictures(self) -> Iterator[Picture]:
        """Draw, yielding each batch's pictures when it is done.

        Raises:
            UserError: memory ran out, or values came out as NaN.
            Cancelled: the run was cancelled; a batch that was under way is lost.
        """
        self.check()
        with self.ready():
            self.begin()
            if self.settings.decode_beside == "auto":
                from ldm.pipelines.overlapping import can_overlap, overlapped

                if can_overlap(self):
                    with closing(overlapped(self)) as batches:
                        for batch, decode in batches:
                            yield from self._delivered(batch, decode)
                    return
            for batch in self.batches():
                with torch.no_grad(), self.enough_memory(len(batch.prompts)):
                    x = self.execution.compute("walk", partial(self.walk_of, batch), is_finite)
                    self.taken(batch, x)
                yield from self._delivered(batch, partial(self.decode, x))

    def taken(self, batch: Batch, x: Tensor) -> None:
        """Check latents (B, C, h, w) that a batch's steps ended with, and count these."""
        check_finite(x, "the latent of picture", self.way_out)
        self.check()
        self.steps_done += len(batch.prompts) * self.steps

    def decode(self, x: Tensor) -> Tensor:
        """Decode latents (B, C, h, w) to pictures (B, 3, H, W) in [-1, 1]."""
        return self.execution.compute("decode", partial(self.walk.decode, x), is_not_black)

    def _delivered(self, batch: Batch, decode: Callable[[], Tensor]) -> Iterator[Picture]:
        """Yield a batch's pictures, having reported that it is done."""
        with torch.no_grad(), self.enough_memory(len(batch.prompts)):
            decoded = decode()
            check_finite(decoded, advice=self.way_out)
        self.pictures_done += len(batch.kept)
        self._progress(0)
        # Random numbers that the caller draws in between must not affect the next batch.
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            for text in self.walk.findings(decoded):
                self.observer(Notice(text))
            drawn = self.walk.drawn(batch)
            for picture in self.post_processor.pictures(drawn, decoded):
                yield picture
                self.check()

    def batches(self) -> Iterator[Batch]:
        """Yield what is drawn at a time, having drawn the random numbers that come before it."""
        for batch in self.request.batches:
            self.check()
            if not batch.kept:
                self._draw_only(batch)
                continue
            parts = list(batch.parts(self.rows))
            restore = keep_random_state(self.device) if len(parts) > 1 else nullcontext
            for part in parts:
                restore()
                if part.kept:
                    yield part

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Make device and model ready for the run, until the end of the block."""
        make_ready = self.make_ready(self.request, self.observer)
        # A model in training draws with its EMA weights, as in the reference.
        with (
            self.model.ema_scope(),
            make_ready as self.execution,
            self._adapted() as self.adapters,
            self._shortened(),
            self._interruptible(),
        ):
            yield

    def check(self) -> None:
        """Raise ``Cancelled`` if the run is to end."""
        if self.cancel is not None:
            self.cancel.check()

    def look_no_more(self) -> None:
        """Finish what was drawn, whoever asks for an end."""
        self.cancel = self.post_processor.cancel = None

    def _interruptible(self) -> AbstractContextManager:
        """Return the context in which the model looks whether the run is to end."""
        if self.cancel is None:
            return nullcontext()
        from ldm.pipelines.cancelling import interruptible

        beside = () if self.adapters is None else self.adapters.networks
        return interruptible(self.model, self.cancel, *beside)

    def _adapted(self) -> AbstractContextManager[Attached | None]:
        """Return the context in which the run's adapters act, where it has any."""
        if self.request.adapters is None:
            return nullcontext()
        from ldm.pipelines.adapting import attached

        return attached(self.model, self.request, self.shelves, self.observer)

    def _shortened(self) -> AbstractContextManager:
        """Return the context in which the run takes its shortcuts, where it has any."""
        if not self.settings.is_shortened:
            return nullcontext()
        from ldm.pipelines.shortcutting import shortened

        return shortened(self.model, self.settings, self.sampler)

    def way_out(self) -> str:
        """Say what can be done about results that are not finite."""
        return way_out(self.model, self.execution.untried)

    def begin(self) -> None:
        """Give notices, seed, and compute what all batches share."""
        self.walk = make_walk(self.request, self.model, self.device)
        self.walk.cancel = self.cancel
        self.steps = self.walk.steps(self.sampler)
        self.post_processor = PostProcessor.of(
            self.request, self.checker, self.observer, self.device, self.cancel
        )
        drawn = [batch for batch in self.request.batches if batch.kept]
        extra = self.walk.extra_steps(self.sampler)
        self.steps_total = extra + self.steps * sum(len(batch.prompts) for batch in drawn)
        self.pictures_total = sum(len(batch.kept) for batch in drawn)
        self.rows = self._rows_at_once()
        self._give_notices()
        self.post_processor.prepare()
        self._progress(0)
        seed_everything(self.settings.seed)
        with self.enough_memory(1):
            self.execution.compute("encode", self.walk.encode, lambda _: self.walk.is_finite())
            if extra:
                prepare = partial(self.walk.prepare, self.sampler, self._progress)
                self.execution.compute("walk", prepare, lambda _: True)
                self.steps_done += extra

    def _rows_at_once(self) -> int:
        """Return how many rows of a batch are drawn at a time."""
        height, width = self.request.final_size
        if self.request.rows * height * width <= LITTLE:
            return self.request.rows
        from ldm.pipelines.room import check_room

        room = check_room(self.request, self)
        if room.notice:
            self.observer(Notice(room.notice))
        return room.rows

    def _give_notices(self) -> None:
        """Report what the user should know about the run before its first step."""
        batches = [batch for batch in self.request.batches if batch.kept]
        prompts = list(dict.fromkeys(text for batch in batches for text in batch.prompts))
        found = [*notices_before(self.request, self.model, prompts, self.steps)]
        if self.settings.is_shortened:
            from ldm.pipelines.shortcutting import costs

            found += costs(self.settings, self._silent_sampler, self.steps)
        if self.request.choice.knows or not all(map(str.strip, prompts)):
            from ldm.pipelines.known_words import notices_on_words

            found += notices_on_words(self.request)
        for notice in found:
            self.observer(notice)

    def enough_memory(self, rows: int) -> AbstractContextManager:
        """Return the context in which lack of memory for ``rows`` pictures is said in a line."""
        height, width = self.request.final_size
        what = f"pictures of {width}x{height}, {rows} at a time,"
        fewer = (
            "give a smaller --n_samples, or smaller pictures" if rows > 1 else "draw smaller ones"
        )
        return memory_for(what, self.device, fewer)

    def walk_of(self, batch: Batch) -> Tensor:
        """Encode a batch's prompts and take the steps; return its latents (B, C, h, w).

        The steps are taken in one go rather than yielded: a suspended generator would leave
        autocast switched on for its caller.
        """
        rows, noise = len(batch.prompts), self.walk.start_noise.source(batch)
        if self.adapters is not None and self.adapters.turn_to(batch.prompts):
            self.walk.forget_prompts()
        conditioning = self.walk.condition(batch.prompts, batch.negatives)
        x, states = self.walk.begin(self.sampler, noise, rows, **conditioning)
        # A prompt that changes on the way is guided by what knows the step.
        guided = getattr(conditioning.get("guider"), "following", nullcontext)
        with self._controlled(rows), guided():
            drawn, look = self.walk.drawn(batch), self.looking()
            numbers = {row: drawn.places[row].index for row in drawn.kept}
            for taken, state in enumerate(states, start=1):
                x = state.x
                look(state, numbers)
                self._progress(rows * taken)
        return x

    def looking(self) -> Callable[[SamplerState, Mapping[int, int]], None]:
        """Return what is given each state of a walk: it shows it, or ends the run.

        Beside the state it is given the number of each wanted row's picture.
        """
        pace: Callable[[], object] = nullcontext
        if self.cancel is not None:
            from ldm.pipelines.cancelling import pacing

            pace = pacing(self.device)

        def look(state: SamplerState, numbers: Mapping[int, int]) -> None:
            pace()
            self.check()
            if self.glimpses is not None:
                self.glimpses.take(state, numbers)

        return look

    def _controlled(self, rows: int) -> AbstractContextManager:
        """Return the context in which a batch's attention is under control, if anybody wants it."""
        wanted = [each for each in (self.walk.controller(rows), self.controller) if each]
        if not wanted:
            return nullcontext()
        if self.settings.is_shortened:
            from ldm.pipelines.shortcutting import check_control

            check_control(self.settings)
        from ldm.modules.attention_control import Chain, control_attention

        return control_attention(self.model, Chain(*wanted))

    @cached_property
    def _silent_sampler(self) -> Sampler:
        return sampler_for(self.settings, Silenced(self.model))

    def _draw_only(self, batch: Batch) -> None:
        """Consume the random numbers that drawing ``batch`` would consume."""
        if self.walk.start_noise.per_image:
            return
        noise = self.walk.start_noise.source(batch)
        for _ in self.walk.begin(self._silent_sampler, noise, len(batch.prompts), cond=None)[1]:
            self.check()

    def _progress(self, steps: int) -> None:
        """Report how far the run is: ``steps`` into the current batch."""
        done = self.steps_done + steps
        self.observer(Progress(done, self.steps_total, self.pictures_done, self.pictures_total))
