"""Save a run's checkpoints: at intervals, on request, and before it stops."""

from __future__ import annotations

import logging
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, ListConfig, OmegaConf
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import nn

from ldm.atomic import replacing
from ldm.checkpoint.io import identify, torch_file
from ldm.checkpoint.laid_over import NotPlain, plain_content
from ldm.errors import UserError
from ldm.models.hub_training import HubTraining
from ldm.paths import is_file, reason
from ldm.training.exactness import ExactBatches, NonFiniteLoss

logger = logging.getLogger(__name__)

LAST = "last.ckpt"
# torch's words where a file's end does not get to the disk.
_NOT_WRITTEN = re.compile(r"unexpected pos|PytorchStreamWriter|failed writing|write\(\) failed")
CHECKPOINT_HYPER_PARAMETERS = pl.LightningModule.CHECKPOINT_HYPER_PARAMS_KEY
PLAIN = (bool, int, float, complex, str, bytes, type(None))
# What Lightning itself reads of a checkpoint, also to test with it alone.
NEEDED = ("state_dict", "pytorch-lightning_version", "global_step", "epoch")
_EXPECTED = (
    "expected one that this main.py wrote; weights from elsewhere go in model.params.ckpt_path"
)


class Stopped(Exception):
    """Training ended early on request, after its state was saved.

    Attributes:
        exit_code: 0 for the time limit, 128 + the signal's number for a signal.
    """

    def __init__(self, reason: str, exit_code: int):
        super().__init__(reason)
        self.exit_code = exit_code


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write checkpoints to a temporary name, then rename them; read without executing pickles."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Save so that ``path`` holds the old file or the new one, never a part.

        Raises:
            UserError: The disk is full, or the folder may not be written to.
        """
        if storage_options is not None:
            raise TypeError("storage_options are not supported: checkpoints are local files")
        path = Path(path)
        try:
            with replacing(path) as part:
                torch.save(_plain(checkpoint), part)
        except (OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not _NOT_WRITTEN.search(str(error)):
                raise
            raise _not_saved(path, error) from error

    def when_written(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` when the last checkpoint is written: it is."""
        tell()

    def finish(self) -> None:
        """Wait for what is being written: nothing is."""

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load tensors and plain values; refuse anything else in the pickle.

        Raises:
            UserError: The file is not a checkpoint, or holds more than plain values.
        """
        del weights_only  # always on: a run's checkpoint needs nothing more
        del map_location  # tensors are laid over the file; Lightning copies them where they belong
        return _read(path)


def _plain(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint whose hyperparameters hold plain values, for reading asks for no others.

    A hub that calls ``save_hyperparameters`` saves the configuration's own nodes. What is neither
    a node nor plain, such as a class, is saved as its text.
    """
    if CHECKPOINT_HYPER_PARAMETERS not in checkpoint:
        return checkpoint
    return {
        **checkpoint,
        CHECKPOINT_HYPER_PARAMETERS: _plain_value(checkpoint[CHECKPOINT_HYPER_PARAMETERS]),
    }


def _plain_value(value: Any) -> Any:
    if isinstance(value, DictConfig | ListConfig):
        value = OmegaConf.to_container(value, resolve=False)
    if isinstance(value, Mapping):
        return {_plain_value(key): _plain_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | range):
        return [_plain_value(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return value if type(value) in PLAIN or isinstance(value, torch.Tensor) else str(value)


def _not_saved(path: Path, error: BaseException) -> UserError:
    """Say why a checkpoint could not be written; torch covers the disk's error with its own."""
    cause: BaseException | None = error
    for _ in range(8):  # a chain of errors may lead back to its beginning
        if cause is None or isinstance(cause, OSError):
            break
        cause = cause.__cause__ or cause.__context__
    why = reason(cause) if isinstance(cause, OSError) else "the disk is probably full"
    left = "what it was is whole" if is_file(path) else "nothing is saved there yet"
    return UserError(
        f"checkpoint {str(path)!r} cannot be written ({why}); {left}; expected room and permission "
        "in the run's folder; see to that, then go on with --resume"
    )


def _read(path: str | Path) -> Any:
    """Read a run's checkpoint.

    Raises:
        UserError: It is empty, cut short, in another format or another program's.
    """
    path = Path(path)
    if identify(path) != "zip":
        raise UserError(f"checkpoint {str(path)!r} is in another format; {_EXPECTED}")
    try:
        return plain_content(torch_file(path))
    except NotPlain as error:
        raise UserError(
            f"checkpoint {str(path)!r} cannot be resumed (it holds {error}); {_EXPECTED}"
        ) from error


def _unlike_ours(content: dict[str, Any]) -> str | None:
    """Say how the content of a file differs from what Lightning saves; None if it does not."""
    absent = [key for key in NEEDED if key not in content]
    if absent:
        return f"has no {', '.join(absent)}"
    state = content["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        return "has no tensors under state_dict"
    return None


def _takes_all_names(model: nn.Module) -> bool:
    """Check whether Lightning loads a model's weights strictly, and all of them by itself.

    A hub may leave out what it makes anew, such as a frozen conditioner.
    """
    hook = getattr(type(model), "on_load_checkpoint", None)
    usual = (None, pl.LightningModule.on_load_checkpoint, HubTraining.on_load_checkpoint)
    return getattr(model, "strict_loading", True) and hook in usual


def check_resumable(path: Path, model: nn.Module, *, training: bool) -> None:
    """Check that a checkpoint continues a model's run, before processes and data are started.

    Args:
        path: The checkpoint; its weights are not read, only their names and shapes.
        model: What is trained or tested.
        training: Whether it is to be trained on, which needs the optimizer's state.

    Raises:
        UserError: It cannot be read, is another model's, or holds only weights.
    """
    checkpoint = _read(path)
    if not isinstance(checkpoint, dict):
        kind = type(checkpoint).__name__
        raise UserError(f"checkpoint {str(path)!r} holds a {kind}; {_EXPECTED}")
    if training and "optimizer_states" not in checkpoint:
        raise UserError(
            "the checkpoint holds weights alone, without the optimizer's state; resume from "
            "last.ckpt, or begin a new run with it as model.params.ckpt_path"
        )
    if fault := _unlike_ours(checkpoint):
        raise UserError(f"checkpoint {str(path)!r} {fault}; {_EXPECTED}")
    offered, wanted = checkpoint["state_dict"], model.state_dict()
    faults = []
    if _takes_all_names(model):
        faults += [f"{name} is missing" for name in wanted if name not in offered]
        faults += [f"{name} is not the model's" for name in offered if name not in wanted]
    faults += [
        f"{name} is {tuple(offered[name].shape)}, not {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in offered and offered[name].shape != value.shape
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise UserError(
            f"the checkpoint does not fit {type(model).__name__}: {', '.join(faults[:3])}{more};"
            " resume with the run's own configuration"
        )


class LastCheckpoint(pl.Callback):
    """Save ``last.ckpt`` at intervals, on SIGUSR1, and before training ends for any reason.

    Requests during a batch are served at its end, when weights, optimizer, EMA and position agree.
    Ctrl-C and SIGTERM save and stop; a second Ctrl-C stops at once.

    Args:
        dirpath: The run's checkpoint folder.
        every_n_train_steps: Optimizer steps between two writes.
        max_time: Seconds after which the run is saved and stopped, or None.
    """

    def __init__(
        self, dirpath: str | Path, every_n_train_steps: int = 1000, max_time: float | None = None
    ):
        if every_n_train_steps < 1:
            raise UserError(f"{every_n_train_steps} steps between checkpoints; expected 1 or more")
        self.path = Path(dirpath) / LAST
        self.every_n_train_steps = every_n_train_steps
        self.max_time = max_time
        self._begun = time.monotonic()
        self._save_asked = False
        self._stop_signal: int | None = None
        self._saved_step = -1
        self._listens = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle signals inside the block and restore the old handlers after it.

        Only a process's main thread can; in another one, as Ray's, nothing asks to save or stop.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        wanted = {"SIGUSR1": self._on_save, "SIGINT": self._on_stop, "SIGTERM": self._on_stop}
        present = {getattr(signal, k): v for k, v in wanted.items() if hasattr(signal, k)}
        old = {number: signal.signal(number, handler) for number, handler in present.items()}
        self._listens = True
        try:
            yield
        finally:
            self._listens = False
            for number, handler in old.items():
                signal.signal(number, handler)

    def _on_save(self, *_: Any) -> None:
        self._save_asked = True

    def _on_stop(self, number: int, _: Any) -> None:
        if self._stop_signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._stop_signal = number

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Start the clock: building the model is not training."""
        self._begun = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Take SIGTERM back from Lightning.

        Its handler talks to the other processes at once, in the middle of whatever they are at, and
        waits for them forever.
        """
        if self._listens:
            signal.signal(signal.SIGTERM, self._on_stop)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save if due or requested, then stop if requested."""
        step = trainer.global_step
        due = step % self.every_n_train_steps == 0 or step == trainer.max_steps
        stop = self._stop_reason(trainer)
        if (due and step > 0 and step != self._saved_step) or self._save_asked or stop:
            ExactBatches.of(trainer).check_loss(trainer)
            self.save(trainer)
        if stop:
            self._end(trainer, stop)

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop during validation too, which may take long."""
        if not trainer.sanity_checking and (stop := self._stop_reason(trainer)):
            self.save(trainer)
            self._end(trainer, stop)

    def _end(self, trainer: pl.Trainer, stop: Stopped) -> NoReturn:
        """Stop, once the checkpoint has its name: whoever started several processes, such as srun,
        may end all of them when the first one has ended.
        """
        io = trainer.strategy.checkpoint_io
        if isinstance(io, AtomicCheckpointIO):
            io.finish()
        trainer.strategy.barrier("stopped")
        raise stop

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Save at the end of a run that was limited by epochs."""
        del pl_module
        if trainer.global_step != self._saved_step and trainer.global_step > 0:
            ExactBatches.of(trainer).check_loss(trainer)
            self.save(trainer)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Save the state of a failing run, unless its weights may be corrupted.

        One of several processes cannot do this: saving waits for the others, and they wait for its
        gradients.
        """
        del pl_module
        done = isinstance(exception, Stopped | NonFiniteLoss | KeyboardInterrupt)
        if not done and trainer.world_size == 1 and trainer.global_step > max(0, self._saved_step):
            self.save(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        """Write ``last.ckpt`` now."""
        if trainer.fast_dev_run:
            return
        trainer.save_checkpoint(self.path)
        self._saved_step, self._save_asked = trainer.global_step, False
        if trainer.is_global_zero:
            tell = partial(logger.info, "step %d: saved %s", trainer.global_step, self.path)
            io = trainer.strategy.checkpoint_io
            io.when_written(tell) if isinstance(io, AtomicCheckpointIO) else tell()

    def _stop_reason(self, trainer: pl.Trainer) -> Stopped | None:
        over = self.max_time is not None and time.monotonic() - self._begun >= self.max_time
        number = self._stop_signal or 0
        # All processes must decide alike, or the others wait forever in the next reduction.
        if trainer.world_size > 1:
            both = trainer.strategy.reduce(
                torch.tensor([number, int(over)], device=trainer.strategy.root_device),
                reduce_op="max",
            )
            number, over = int(both[0]), bool(both[1])
        if number:
            return Stopped(f"stopped by {signal.Signals(number).name}", 128 + number)
        return Stopped(f"--max_time of {self.max_time:.0f} s reached", 0) if over else None
