"""Decoding beside drawing: a CUDA device decodes a batch while the next one takes its steps.

    walk 1 | walk 2   | walk 3   |
           | decode 1 | decode 2 | decode 3         on a stream of its own

Decoding fills what the steps of few pictures leave idle, and the time in which the host finishes
and saves pictures. Pictures, their order and their seeds are those of the plain way; those of a
batch come when the next one has taken its steps, or has failed to.

Shapes: B pictures, C h w latent, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.models.diffusion.latent_diffusion import LatentSpaceDiffusion
from ldm.offload.budget import free_memory, measure
from ldm.pipelines.batches import Batch
from ldm.pipelines.grouping import SHARED_WALKS
from ldm.pipelines.phases import is_finite
from ldm.pipelines.progress import Notice, Observer
from ldm.pipelines.request import Request
from ldm.pipelines.room import GIB, MARGIN, held_by_picture
from ldm.pipelines.walks import TextWalk
from ldm.settings.generation import GenerationSettings

if TYPE_CHECKING:
    from ldm.modules.attention_control.controller import Controller

Item = TypeVar("Item")


class Run(Protocol):
    """What is drawn, such as a ``ldm.pipelines.run.Run`` that has begun."""

    model: LatentSpaceDiffusion
    request: Request
    settings: GenerationSettings
    execution: Any
    walk: TextWalk
    controller: Controller | None
    observer: Observer
    device: torch.device

    def batches(self) -> Iterator[Batch]:
        """Yield what is drawn at a time."""

    def walk_of(self, batch: Batch) -> Tensor:
        """Take a batch's steps; return its latents (B, C, h, w)."""

    def taken(self, batch: Batch, x: Tensor) -> None:
        """Check latents that a batch's steps ended with."""

    def decode(self, x: Tensor) -> Tensor:
        """Decode latents to pictures (B, 3, H, W)."""

    def enough_memory(self, rows: int) -> AbstractContextManager:
        """Return the context in which lack of memory is said in a line."""

    def look_no_more(self) -> None:
        """Finish what was drawn, whoever asks for an end."""


class Beside:
    """Works on a stream of its own, beside the device's current one, until the block ends.

    Args:
        device: A CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, *_: object) -> None:
        # What comes next may write to the weights that the work reads, or give them back.
        torch.cuda.current_stream(self.device).wait_stream(self._stream)

    def start(self, work: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], Tensor]:
        """Start work on a tensor, behind what the current stream is to do by now.

        Returns:
            What returns its result, for the stream that is current then; the host does not wait.
        """
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        # Else the memory could be given to the next walk while it is read here.
        x.record_stream(self._stream)
        with torch.cuda.stream(self._stream):
            out = work(x)
            done = self._stream.record_event()

        def result() -> Tensor:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(done)
            out.record_stream(current)
            return out

        return result


def one_behind(
    started: Iterator[Item], on_failure: Callable[[], object] = lambda: None
) -> Iterator[Item]:
    """Yield each item when the next one has been started, or could not be.

    Args:
        started: Starts an item whenever it is asked for one.
        on_failure: Called where that fails, before the last item is yielded and the error raised.
    """
    waiting: list[Item] = []
    failure: BaseException | None = None
    while failure is None:
        try:
            item = next(started)
        except StopIteration:
            break
        except BaseException as error:  # also Ctrl-C: what was drawn before is not lost by it
            failure = error
            on_failure()
        else:
            yield from waiting
            waiting[:] = [item]
    yield from waiting
    if failure is not None:
        raise failure


def overlapped(run: Run) -> Iterator[tuple[Batch, Callable[[], Tensor]]]:
    """Draw a run's batches; yield each, and what returns it decoded, when the next has its steps.

    A run that fails or is cancelled first yields the batch whose steps were done before.
    """
    with Beside(run.device) as beside:

        def start() -> Iterator[tuple[Batch, Callable[[], Tensor]]]:
            for batch in run.batches():
                with torch.no_grad(), run.enough_memory(len(batch.prompts)):
                    x = run.execution.compute("walk", partial(run.walk_of, batch), is_finite)
                    run.taken(batch, x)
                    decoded = beside.start(run.decode, x)
                yield batch, decoded

        with closing(start()) as started:
            yield from one_behind(started, run.look_no_more)


def can_overlap(run: Run) -> bool:
    """Check that a run's batches can be decoded beside each other's steps; say why not.

    A model whose parts take turns and another device are told of with all choices that they leave
    without effect, see ``ldm.pipelines.speed``.
    """
    if run.device.type != "cuda" or not run.execution.is_whole:
        return False
    why = _obstacle(run) or _lack_of_memory(run)
    if why:
        run.observer(Notice(f"--decode_beside has no effect: {why}", warning=True))
    return not why


def _obstacle(run: Run) -> str:
    """Say what of a run goes batch by batch; empty if nothing does."""
    walk = type(run.walk)
    if sum(bool(batch.kept) for batch in run.request.batches) < 2:
        return "there is one batch"
    if f"{walk.__module__}.{walk.__qualname__}" not in SHARED_WALKS:
        return "what is drawn here is finished batch by batch"
    if run.controller is not None:
        return "the model's attention is followed batch by batch"
    if run.settings.restore_faces is not None:
        return "faces are redrawn batch by batch, with random numbers of their own"
    return ""


def _lack_of_memory(run: Run) -> str:
    """Say that there is no memory for steps and a decoding at once; empty if there is."""
    free = free_memory(run.device)
    try:
        sizes = measure(run.model)
    except UserError:
        return "nobody can tell how much memory this UNet takes"
    needed = (
        MARGIN * run.request.rows * sum(held_by_picture(run.request, run.execution.half, sizes))
    )
    if free is None or needed <= free:
        return ""
    return (
        f"steps and decoding take about {needed / GIB:.1f} GiB of memory at once, and "
        f"{free / GIB:.1f} GiB are free"
    )
