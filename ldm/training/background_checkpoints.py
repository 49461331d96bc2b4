"""Write checkpoints in the background, from a copy, while training goes on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from torch import Tensor

from ldm.training.checkpoints import AtomicCheckpointIO


class BackgroundCheckpointIO(AtomicCheckpointIO):
    """Copy what is to be saved into the host's memory, and let a thread write it.

    One checkpoint is written at a time: saving another one, reading or removing one, and the end of
    training, however it comes, wait for it. If it fails, that is where its error is raised. Files
    are the same as without this, and appear whole or not at all.
    """

    def __init__(self) -> None:
        super().__init__()
        self._thread: ThreadPoolExecutor | None = None
        self._pending: Future[None] | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Copy a checkpoint and begin to write it.

        Raises:
            UserError: The one before could not be written.
        """
        self.finish()
        held = host_copy(checkpoint)
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending = self._thread.submit(super().save_checkpoint, held, path, storage_options)

    def when_written(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` once the last checkpoint has its name; never, if it fails."""
        if self._pending is not None:
            self._pending.add_done_callback(lambda done: done.exception() or tell())

    def finish(self) -> None:
        """Wait for what is being written.

        Raises:
            UserError: It cannot be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read one, after what is being written."""
        self.finish()
        return super().load_checkpoint(*args, **kwargs)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove one, after what is being written: it may be that one."""
        self.finish()
        super().remove_checkpoint(path)

    def teardown(self) -> None:
        """Wait, as training ends, and end the thread.

        Raises:
            UserError: The last checkpoint cannot be written.
        """
        try:
            self.finish()
        finally:
            if self._thread is not None:
                self._thread.shutdown()
                self._thread = None


def host_copy(value: Any, copies: dict[Any, Tensor] | None = None) -> Any:
    """Copy nested dicts, lists and tuples, and their tensors into the host's memory.

    Tensors that are one in memory, such as tied weights, stay one. Anything else is taken as it is.
    """
    copies = {} if copies is None else copies
    if isinstance(value, Tensor):
        place = (value.device, value.data_ptr(), value.dtype, value.shape, value.stride())
        if place not in copies:
            # Without elements there is no address, and nothing that could change.
            copies[place] = value.detach().to("cpu", copy=True)
        return copies[place]
    if isinstance(value, dict):
        held = copy.copy(value)  # keeps its kind, and what torch hangs on a state dict
        for key, item in value.items():
            held[key] = host_copy(item, copies)
        return held
    if type(value) in (list, tuple):
        return type(value)(host_copy(item, copies) for item in value)
    return value
