"""A loader that loses its workers ends a program in one line that says how to do without them."""

from __future__ import annotations

import io
import os
import signal

import pytest
from torch.utils.data import DataLoader, Dataset

from ldm.programs.console import Console, exit_codes

SAID_BY_LIBRARIES = [
    RuntimeError("unable to write to file </torch_12_34_0>: No space left on device (28)"),
    RuntimeError("unable to open shared memory object </torch_12_34> in read-write mode"),
    RuntimeError(
        "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback:\n  File x\n"
        "RuntimeError: unable to allocate shared memory(shm) for file </torch_1_2>: No space (28)\n"
    ),
    RuntimeError(
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that "
        "dataloader's workers are out of shared memory. Please try to raise your limit."
    ),
    RuntimeError("received 0 items of ancdata"),
    OSError("Caught OSError in DataLoader worker process 1.\nOSError: Too many open files"),
    RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"),
    RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
]


class Deadly(Dataset):
    """Items that end the process which reads them."""

    def __init__(self, end):
        self.end = end

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return self.end()


def die_of(number):
    return lambda: os.kill(os.getpid(), number)


def said(act, program="main.py"):
    err = io.StringIO()
    with exit_codes(Console(program, None, err)) as ending:
        act()
    return ending.code, err.getvalue()


def fail(error):
    raise error


@pytest.mark.parametrize("error", SAID_BY_LIBRARIES, ids=lambda error: str(error)[-30:])
@pytest.mark.parametrize(
    ("program", "setting"),
    [("main.py", "data.params.num_workers=0"), ("precompute_latents", "--num_workers 0")],
)
def test_lost_workers_are_one_line_that_names_the_setting_of_this_program(error, program, setting):
    code, text = said(lambda: fail(error), program)
    assert code == 2 and text.count("\n") == 1
    assert text.startswith(f"{program}: error: the data loader") and f"give {setting}" in text
    assert "Traceback" not in text and "RuntimeError" not in text


@pytest.mark.parametrize(
    "end", [die_of(signal.SIGBUS), die_of(signal.SIGKILL), lambda: os._exit(3)]
)
def test_torch_still_says_so_in_these_words(end):
    code, text = said(lambda: list(DataLoader(Deadly(end), num_workers=1)))
    assert code == 2 and "give data.params.num_workers=0" in text


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        RuntimeError("CUDA error: out of memory"),
        OSError("Too many open files"),
        ValueError("Bus error"),
    ],
)
def test_other_errors_keep_their_traceback(error):
    with pytest.raises(type(error)) as caught:
        said(lambda: fail(error))
    assert caught.value is error
