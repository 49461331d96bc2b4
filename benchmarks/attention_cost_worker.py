"""One side of attention_cost.py: takes steps with a UNet in one checkout, as it is told.

Reads a line of JSON for each turn from standard input and writes one with what it measured. It
runs in a process of its own, since two checkouts have packages of one name. Older checkouts know
only the ways ``none`` and ``eager``: imports of attention control stay inside their functions.

Shapes: two pictures, a source and a target, under their prompts alone: x (2, 4, h, w).
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.memory_tracker import MemoryTracker
from benchmarks.sampling import CONFIG, random_weights, width
from ldm.checkpoint.load import load_model
from ldm.config import build, load_config
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.modules.attention_processors import eager, sdpa, set_attention_processor
from ldm.pipelines.models import DEMO_CHECKPOINT, DEMO_CONFIG, find
from ldm.process.schedules import diffusion_coefficients, make_beta_schedule

SCHEDULE_STEPS = 50
PROMPTS = "a photo of a cat on a red background", "a photo of a dog on a red background"


@dataclass(frozen=True)
class Turn:
    """What one turn measured: seconds of each step, or the most bytes beyond the weights."""

    seconds: tuple[float, ...] = ()
    peak: int = 0


def make_unet(name: str) -> nn.Module:
    """Return the bundled model's UNet, or one of v1's size with random weights."""
    if name == "bundled":
        return load_model(find(DEMO_CONFIG), find(DEMO_CHECKPOINT))[0].model.diffusion_model
    with torch.device("meta"):
        unet = build(load_config(CONFIG), "model.params.unet_config")
    unet.load_state_dict(random_weights(unet), assign=True)
    return unet.eval().requires_grad_(False)


class Worker:
    """Takes DDIM steps with a UNet in several ways.

    Args:
        unet: In evaluation mode.
        side: Of the latents.
    """

    def __init__(self, unet: nn.Module, side: int) -> None:
        self.unet = unet
        cumprod = diffusion_coefficients(make_beta_schedule("linear", 1000, 0.00085, 0.012))
        self.model = SimpleNamespace(
            num_timesteps=1000,
            alphas_cumprod=torch.tensor(cumprod["alphas_cumprod"], dtype=torch.float32),
            parameterization="eps",
            device=torch.device("cpu"),
            diffusion_model=unet,
            apply_model=lambda x, t, cond: unet(x, t, context=cond),
        )
        generator = torch.Generator().manual_seed(1)
        self.x = torch.randn(1, 4, side, side, generator=generator).repeat(2, 1, 1, 1)
        self.context = torch.randn(2, 77, width(unet), generator=generator)
        self.sampler = DDIMSampler(self.model)
        self.sampler.make_schedule(SCHEDULE_STEPS, verbose=False)

    def turn(self, way: str, steps: int, clock: Callable[[], float]) -> Turn:
        """Take the first steps of a walk and time each, after one that is not timed.

        While the other checkout had its turn, this one's weights left the processor's caches.
        """
        seconds = []
        with self._way(way), contextlib.closing(self._walk()) as walk:
            next(walk)
            for _ in range(steps):
                begin = clock()
                next(walk)
                seconds.append(clock() - begin)
        return Turn(seconds=tuple(seconds))

    def weigh(self, way: str, steps: int) -> Turn:
        """Count the bytes that live at once during such a turn."""
        with MemoryTracker() as tracker, tracker.phase("steps") as phase:
            self.turn(way, steps, time.perf_counter)
        return Turn(peak=phase.peak["cpu"])

    def _walk(self) -> Iterator[Tensor]:
        for state in self.sampler.walk(self.x, self.context):
            yield state.x

    def _way(self, way: str) -> AbstractContextManager:
        if way == "none":
            return contextlib.nullcontext()
        return self._eager() if way == "eager" else self._controlled(way)

    @contextlib.contextmanager
    def _eager(self) -> Iterator[None]:
        set_attention_processor(self.unet, eager)
        try:
            yield
        finally:
            set_attention_processor(self.unet, sdpa)

    def _controlled(self, way: str) -> AbstractContextManager:
        from ldm.modules.attention_control import control_attention

        return control_attention(self.model, make_controller(way))


def make_controller(way: str) -> Any:
    """Return an ``AttentionStore`` or an edit, with the defaults that users get."""
    from ldm.modules.attention_control import AttentionStore, Auto, read_prompt
    from ldm.modules.encoders.tokenizer import CLIPTokenizer

    if way == "store":
        return AttentionStore()
    tokenizer = CLIPTokenizer()
    source, target = (read_prompt(tokenizer, text) for text in PROMPTS)
    return Auto(source, [target])


def main() -> None:
    """Obey until standard input ends."""
    name, side, clock = sys.argv[1], int(sys.argv[2]), getattr(time, sys.argv[3])
    worker = Worker(make_unet(name), side)
    for line in sys.stdin:
        order = json.loads(line)
        if order["weigh"]:
            done = worker.weigh(order["way"], order["steps"])
        else:
            done = worker.turn(order["way"], order["steps"], clock)
        print(json.dumps({"seconds": done.seconds, "peak": done.peak}), flush=True)


if __name__ == "__main__":
    main()
