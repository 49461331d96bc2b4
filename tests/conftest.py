"""Make the repository importable as it stands, and the tests' own helpers beside it.

Tests write ``from golden.fill import official_state`` and ``from oracle import GaussianModel``.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parent
for folder in (TESTS, TESTS.parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

# The tests' tensors are small: a second thread waits more than it works, and workers of xdist would
# take the cores from each other. Torch reads this on import, programs that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts what it puts in the background with Ctrl-C ignored, which programs inherit; tests
# that press it would then wait in vain.
ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
if ignored and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

MOST_WORKERS = 8  # each holds torch, Lightning and gradio: about 1 GB


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return how many workers ``-n auto`` starts: one for each core that this process may use.

    By itself xdist counts physical cores, which is one on many a virtual machine with two.
    """
    from ldm.processor import cores

    return min(cores(), MOST_WORKERS)


@pytest.fixture(scope="module", autouse=True)
def _no_listener_of_another_module() -> Iterator[None]:
    """Let go of models in training that a module's tests left: their adapters listen to walks."""
    yield
    moments = sys.modules.get("ldm.modules.attention_control.moments")
    if moments is not None and len(moments.LISTENERS):
        gc.collect()


@pytest.fixture(scope="session")
def tiny_ckpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a tiny checkpoint with its configuration beside it. Not to be modified."""
    from tiny_model import write_tiny_model  # imports torch: not before a test asks for it

    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real browser, for modules that need one: ``browsing.NEEDS_CHROMIUM``."""
    from browsing import chromium

    with chromium() as found:
        yield found
