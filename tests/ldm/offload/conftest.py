from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from offload_parts import CPU, make_tiny, use
from torch import Tensor

from ldm.checkpoint.load import _NoInitialisation
from ldm.config import build, load_config
from ldm.models.diffusion.ddpm import LatentDiffusion
from ldm.offload.movers import Mover
from ldm.offload.plan import PlanSettings, StagePlan

V1 = Path(__file__).resolve().parents[3] / "configs" / "stable-diffusion" / "v1-inference.yaml"


@pytest.fixture(scope="session")
def tiny() -> LatentDiffusion:
    return make_tiny()


@pytest.fixture(scope="session")
def expected(tiny) -> dict[str, Tensor]:
    """What the model gives without a plan."""
    return use(tiny)


@pytest.fixture
def attach() -> Iterator[Callable[..., StagePlan]]:
    """Attach plans that are detached when the test is over."""
    plans = []

    def attach_plan(model: LatentDiffusion, mover: Mover | None = None, **settings) -> StagePlan:
        plans.append(StagePlan(model, PlanSettings(**settings), CPU, mover=mover))
        return plans[-1].attach()

    yield attach_plan
    for plan in plans:
        plan.detach()


@pytest.fixture(scope="session")
def v1() -> LatentDiffusion:
    """Stable Diffusion v1 in half precision, without memory for its weights."""
    with torch.device("meta"), _NoInitialisation():
        return build(load_config(V1)).half().eval()
