"""What ends a run, in words where its user can mend it: data that do not fit, a full disk."""

from __future__ import annotations

import errno
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from ldm.errors import UserError
from ldm.paths import is_file, real_path, reason, writing_fault
from ldm.training.assembly import one_line
from ldm.training.checkpoints import LAST, Stopped
from ldm.training.data import own_words
from ldm.training.first_batches import FirstBatches
from ldm.training.settings import Run

# Errors of writing that name no file.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def check_writable(place: Run) -> None:
    """Check that a run's folder can be made or written to, before models and data are built.

    Raises:
        UserError: It cannot.
    """
    for folder in (place.logdir, place.ckptdir, place.cfgdir):
        if fault := writing_fault(folder):
            raise UserError(
                f"run folder {str(folder)!r} {fault}; expected a folder that can be written to; "
                "give another --logdir or --name, or change its permissions"
            )


@contextmanager
def endings_in_words(trainer: pl.Trainer, place: Run) -> Iterator[None]:
    """Run or test inside the block; other processes end with it.

    Raises:
        Stopped: A signal or the time limit came first.
        UserError: Settings do not go together, data and model do not fit, or the run's folder
            cannot be written to.
    """
    try:
        yield
    except MisconfigurationException as error:
        raise UserError(f"Lightning refuses the settings: {one_line(error)}") from error
    except Stopped:  # all processes stop at the same step, each by itself
        raise
    except BaseException as error:
        _end_other_processes(trainer)
        told = _told(error, trainer, place)
        if told is None or told is error:
            raise
        raise told from error


def _told(error: BaseException, trainer: pl.Trainer, place: Run) -> UserError | None:
    if isinstance(error, UserError):
        words = own_words(error)
        return error if words == str(error) else UserError(words)
    if isinstance(error, OSError) and _is_of_writing(error, place):
        return _unwritable(error, place)
    if "loaded state dict" in str(error):  # torch's words for another optimizer's state
        return UserError(
            f"the checkpoint's optimizer is not this configuration's ({one_line(error)}); resume "
            "with the run's own configuration, or begin a new run with the checkpoint as "
            "model.params.ckpt_path"
        )
    first = next((c for c in trainer.callbacks if isinstance(c, FirstBatches)), None)
    return first and first.misfit(error)


def _is_of_writing(error: OSError, place: Run) -> bool:
    if error.errno in FULL:
        return True
    if not isinstance(error.filename, str):
        return False
    return real_path(error.filename).is_relative_to(real_path(place.logdir))


def _unwritable(error: OSError, place: Run) -> UserError:
    saved = place.ckptdir / LAST
    left = f"{saved} is whole" if is_file(saved) else "nothing is saved yet"
    again = f"--resume {place.logdir} --train" if is_file(saved) else "the same command"
    return UserError(
        f"{str(error.filename or place.logdir)!r} cannot be written ({reason(error)}); {left}; "
        f"expected room and permission in the run's folder; see to that and go on with {again}"
    )


def _end_other_processes(trainer: pl.Trainer) -> None:
    """End the processes that this one started: they would wait for it in the next reduction."""
    kill = getattr(trainer.strategy.launcher, "kill", None)
    if kill is not None:
        # Theirs would answer SIGTERM at the end of a step, to which they never come.
        kill(getattr(signal, "SIGKILL", signal.SIGTERM))
