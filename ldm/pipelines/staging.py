"""Runs on small devices: the model stays on the host, and a plan moves its stages to the device.

    what the user asked (Staging) + size and rows of the run + free memory
        -> plan (ldm.offload) -> run -> out of memory?          retry that phase, tighter plan
                                     -> NaN, black in float16?  retry that phase in float32

Every run chooses its own plan. Between runs, and after an error or Ctrl-C, no part of the model is
on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from ldm.errors import UserError
from ldm.models.diffusion.latent_diffusion import LatentSpaceDiffusion
from ldm.offload.budget import choose, describe, estimate, free_memory, measure, tighter
from ldm.offload.plan import StagePlan
from ldm.offload.stages import Ledger
from ldm.pipelines.phases import Phase, Result, half_of, is_refusal
from ldm.pipelines.progress import Notice, Observer
from ldm.pipelines.request import Request
from ldm.pipelines.run import Execution
from ldm.rng import keep_random_state
from ldm.settings.low_memory import SmallDevice

GIB = 2**30  # bytes

_DOING = {
    "encode": "encoding the init image",
    "walk": "sampling a batch",
    "decode": "decoding a batch",
}
_UNUSABLE = {
    "encode": "the init image's latent came out as NaN",
    "walk": "latents came out as NaN",
    "decode": "a picture came out black or as NaN",
}


@dataclass(frozen=True)
class Staging:
    """What a user asks of a run on a small device.

    Attributes:
        vram_budget: GiB of the device's memory to stay within; None is all that is free.
        turbo: Keep the whole UNet on the device while sampling.
        unet_bs: Rows that the UNet computes at a time, at most; None is as many as fit. A CPU
            computes all at once: fewer would save nothing and change the pictures' last bits.
        precision: Weights are kept in the half precision that it stands for on the device.
    """

    vram_budget: float | None = None
    turbo: bool = False
    unet_bs: int | None = 1
    precision: str = "autocast"

    @classmethod
    def of(cls, settings: SmallDevice) -> Staging:
        """Return what the settings ask for."""
        return cls(settings.vram_budget, settings.turbo, settings.unet_bs, settings.precision)

    def needless(self) -> Notice:
        """Say that a processor has the model where it computes, so that nothing takes turns."""
        asked = {
            f"--vram_budget {self.vram_budget}": self.vram_budget is not None,
            "--turbo": self.turbo,
            f"--unet_bs {self.unet_bs}": self.unet_bs not in (None, 1),
        }
        idle = [flag for flag, given in asked.items() if given]
        said = f"; without effect: {', '.join(idle)}" if idle else ""
        text = f"On a processor the model is where it computes: no part of it is swapped{said}."
        return Notice(text, warning=bool(idle))


class StagedModel:
    """A model that is kept on the host between its runs.

    Args:
        model: In evaluation mode, on the CPU, in float32; its linear and convolution layers are
            converted if the precision is half. Norms and embeddings stay float32 for autocast.
        staging: What the user asked for.
        device: Where it computes.

    Attributes:
        ledger: What moved to the device and off it, over all runs.
        dtype: Element type of the weights.
    """

    def __init__(self, model: LatentSpaceDiffusion, staging: Staging, device: torch.device) -> None:
        self.model, self.staging, self.device = model, staging, device
        self.dtype = half_of(device, staging.precision) or torch.float32
        self.ledger = Ledger()
        self._widened: set[str] = set()
        for name in ("denoiser", "autoencoder"):
            self._convert(name, self.dtype)

    @contextmanager
    def run(self, request: Request, observer: Observer) -> Iterator[StagedRun]:
        """Run the model on the device for one request, its stages taking turns.

        Raises:
            UserError: no plan fits the memory, or the weights were loaded for another precision.
        """
        asked, held = request.settings.precision, self.staging.precision
        if half_of(self.device, asked) != half_of(self.device, held):
            raise UserError(
                f"--precision {asked} was given; the weights were loaded for {held}; load them "
                f'again with Staging(precision="{asked}")'
            )
        run = StagedRun(self, request, observer)
        run.plan.attach()
        try:
            yield run
        finally:
            run.plan.detach()

    def is_half(self, phase: Phase) -> bool:
        """Return whether a phase's weights are in half precision."""
        return self.dtype != torch.float32 and _weights_of(phase) not in self._widened

    def widen(self, phase: Phase) -> None:
        """Keep a phase's weights in float32 from now on."""
        self._widened.add(_weights_of(phase))
        self._convert(_weights_of(phase), torch.float32)

    def narrow(self, phase: Phase) -> None:
        """Undo ``widen``; this is lossless, as every value came from half precision."""
        self._widened.discard(_weights_of(phase))
        self._convert(_weights_of(phase), self.dtype)

    @property
    def itemsize(self) -> int:
        """Bytes per number in computation, the largest over the phases."""
        return torch.float32.itemsize if self._widened else self.dtype.itemsize

    def _convert(self, name: str, dtype: torch.dtype) -> None:
        model = self.model
        weights = {
            "denoiser": (model.model, model.cond_stage_model),
            "autoencoder": (model.first_stage_model,),
        }
        for whole in weights[name]:
            for module in whole.modules() if whole is not None else ():
                if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
                    module.to(dtype)


class StagedRun(Execution):
    """One run of a model whose stages take turns; it retries with a tighter plan or in float32.

    Args:
        staged: The model.
        request: What is drawn.
        observer: Called with the plan and every change to it or to the precision.
    """

    is_whole = False

    def __init__(self, staged: StagedModel, request: Request, observer: Observer) -> None:
        super().__init__(staged.device, None if staged.dtype == torch.float32 else staged.dtype)
        self._staged, self._request, self._observer = staged, request, observer
        rows = staged.staging.unet_bs
        if self.device.type == "cpu" and rows not in (None, 1):
            self._warn(f"--unet_bs {rows} has no effect: a CPU computes all rows at once")
        self.plan = self._make_plan()

    def compute(
        self, phase: Phase, work: Callable[[], Result], usable: Callable[[Result], bool]
    ) -> Result:
        """Compute a phase; repeat it in float32 if half precision gave an unusable result."""
        restore = keep_random_state(self.device)
        result = self._within_memory(phase, work, restore)
        if not self._staged.is_half(phase) or usable(result):
            return result
        del result
        self._warn(f"{_UNUSABLE[phase]} in half precision: computed again in float32")
        self._replan(partial(self._staged.widen, phase))
        restore()
        result = self._within_memory(phase, work, restore)
        if not usable(result):  # half precision was not to blame
            self._replan(partial(self._staged.narrow, phase))
        return result

    @property
    def untried(self) -> None:
        """None: what half precision made unusable was computed in float32 too."""

    def _within_memory(
        self, phase: Phase, work: Callable[[], Result], restore: Callable[[], None]
    ) -> Result:
        """Compute a phase; when memory runs out, retry with tighter plans, down to the tightest."""
        tighter_settings = None
        while True:
            try:
                if tighter_settings is not None:
                    self.plan.change(tighter_settings)
                    restore()
                with self.precision(phase):
                    return work()
            except (MemoryError, RuntimeError) as error:
                refused = is_refusal(error)
                step = tighter(self.plan.settings, rows=self._rows) if refused else None
                if step is None:
                    raise
            # Retried only here: in the handler the error still holds the phase's memory.
            tighter_settings, words = step
            self._warn(f"out of memory while {_DOING[phase]}: {words}; starting that again")

    def precision(self, phase: Phase) -> AbstractContextManager:
        """Return the context that a phase is computed in: half-precision weights need autocast."""
        if not self._staged.is_half(phase):
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.half)

    @property
    def _rows(self) -> int:
        """Rows of the UNet's largest batch: plain guidance needs two per picture."""
        return self._request.rows * self._request.rows_per_picture

    def _replan(self, convert: Callable[[], None]) -> None:
        """Convert the weights on the host, and choose a plan that fits them."""
        self.plan.detach()
        convert()
        self.plan = self._make_plan()
        self.plan.attach()

    def _make_plan(self) -> StagePlan:
        """Choose a plan for the run, and report it."""
        staged, staging = self._staged, self._staged.staging
        budget, on_cpu = staging.vram_budget, self.device.type == "cpu"
        available = free_memory(self.device) if budget is None else int(budget * GIB)
        sizes, (height, width) = measure(staged.model), self._request.final_size
        demand = {
            "height": height,
            "width": width,
            "rows": self._rows,
            "itemsize": staged.itemsize,
        }
        settings = choose(
            sizes,
            **demand,
            budget=available,
            turbo=staging.turbo,
            unet_bs=None if on_cpu else staging.unet_bs,
        )
        expected = estimate(sizes, settings, **demand)
        dtype = staged.dtype if staged.is_half("walk") else torch.float32
        words = describe(settings, sizes, estimate=expected, available=available, dtype=dtype)
        self._observer(Notice(words))
        return StagePlan(staged.model, settings, self.device, ledger=staged.ledger)

    def _warn(self, text: str) -> None:
        self._observer(Notice(text, warning=True))


def _weights_of(phase: Phase) -> str:
    return "denoiser" if phase == "walk" else "autoencoder"
