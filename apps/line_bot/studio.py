"""A process that draws, and the bot's side of it.

The web server must answer within a fraction of a second whatever a model does, so torch lives in
another process: of lower priority, with a core less than there are, without secrets. It is told
what to draw through a pipe and ends when the bot's end of that closes, however the bot ended. If it
is killed itself, the job is drawn anew by the next one.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from apps.line_bot.jobs import Job, Queue, Task
from apps.line_bot.logs import start_logging
from apps.line_bot.photos import Line, fetched
from apps.line_bot.settings import SECRET_NAMES, BotSettings
from apps.line_bot.worker import BadPhoto, Died, NotNow, Unwanted
from ldm.errors import UserError, in_words
from ldm.processor import cores

logger = logging.getLogger(__name__)
NICENESS = 10  # of 19: the web server, LINE's calls and the database come first
LOOK = 0.1  # seconds between looks whether a job is still wanted
LONGEST_STEP = 120.0  # seconds until a process that does not hear that it should stop is ended
Load = Callable[[BotSettings, str], Any]
"""Loads a model onto a device; returns what draws, as ``drawing.Drawer`` does."""
Kind = Literal["done", "unwanted", "user", "photo", "disk", "fault"]


@dataclass(frozen=True)
class Order:
    """What a process is told to draw.

    Attributes:
        task: What.
        folder: An empty one.
        source: The picture that it starts from; None is a text alone.
    """

    task: Task
    folder: Path
    source: Path | None = None


@dataclass(frozen=True)
class Answer:
    """What became of an order, or of loading the model: the kind, and an error's words."""

    kind: Kind
    text: str = ""
    errno: int = 0

    def check(self) -> None:
        """Raise the error that it tells of, if it does."""
        if self.kind == "unwanted":
            raise Unwanted
        if self.kind == "user":
            raise UserError(self.text) from (OSError(self.errno, "") if self.errno else None)
        if self.kind == "photo":
            raise BadPhoto(self.text)
        if self.kind == "disk":
            raise OSError(self.errno, self.text)
        if self.kind == "fault":
            raise RuntimeError(self.text)


def open_studio(settings: BotSettings, device: str, queue: Queue, line: Line) -> Studio:
    """Start a process that draws, and wait until it has loaded the model.

    Raises:
        UserError: no such device, or the checkpoint lacks weights.
    """
    studio = Studio(settings, device, queue, line)
    with contextlib.suppress(Died):  # the first job will start another one
        studio.start()
    return studio


@dataclass
class Studio:
    """The bot's side of a process that draws.

    Attributes:
        settings: The operator's.
        device: Where the model computes.
        queue: Knows where jobs' pictures are.
        line: Where users' photos are.
        load: Loads the model, in the process that draws; a function of a module. None loads the
            settings' own.
    """

    settings: BotSettings
    device: str
    queue: Queue
    line: Line
    load: Load | None = None
    _process: Any = None
    _pipe: Any = None

    def start(self) -> None:
        """Start the process and wait until it can draw.

        Raises:
            UserError: no such device, or the checkpoint lacks weights.
            Died: it was killed meanwhile.
        """
        # Not by fork: threads of this process hold locks, and CUDA does not outlive a fork.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        level = logging.getLogger().getEffectiveLevel()
        self._process = context.Process(
            target=run, args=(theirs, self.load or load_model, self.settings, self.device, level),
            name=f"drawing on {self.device}", daemon=True,
        )  # fmt: skip
        self._process.start()
        theirs.close()
        self._heard().check()

    def __call__(self, job: Job, folder: Path, check: Callable[[], None]) -> None:
        """Let a job be drawn; see ``worker.Draw``."""
        source = self._source(job.task)
        self._started()
        try:
            self._pipe.send(Order(job.task, folder, source))
            while not self._pipe.poll(LOOK):
                self._look(check)
        except (OSError, EOFError):
            raise self._died() from None
        self._heard().check()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._pipe.close()
            self._process.terminate()
            self._process.join()
            self._process = None

    def _source(self, task: Task) -> Path | None:
        if task.kind == "text":
            return None
        if task.kind == "photo":
            return fetched(self.queue.base.folder, self.line, task.photo)
        path = self.queue.folder(task.source) / "0.png"
        if not path.is_file():
            raise UserError(
                f"the picture of job {task.source} is not kept any more; draw a new one"
            )
        return path

    def _started(self) -> None:
        """Start another process where the last one has ended."""
        if self._process is not None and self._process.is_alive():
            return
        try:
            self.start()
        except (UserError, Died, RuntimeError) as error:
            raise NotNow(f"the model cannot be loaded: {error}") from error

    def _look(self, check: Callable[[], None]) -> None:
        """Stop the process if its drawing is not wanted, and leave no answer in the pipe."""
        try:
            check()
        except BaseException:
            self._pipe.send(None)
            if self._pipe.poll(LONGEST_STEP):
                self._heard()
            else:
                logger.warning("the process that draws did not stop, and is ended")
                self.close()
            raise

    def _heard(self) -> Answer:
        try:
            return self._pipe.recv()
        except (OSError, EOFError):
            raise self._died() from None

    def _died(self) -> Died:
        self._process.join(1.0)
        code = self._process.exitcode
        self.close()
        return Died(f"the process that draws has ended (exit code {code})")


def run(pipe: Connection, load: Load, settings: BotSettings, device: str, level: int) -> None:
    """Load a model and draw what the pipe orders until its other end closes.

    Args:
        pipe: Takes ``Order`` and None (stop), gives an ``Answer`` for the model and for each order.
        load: Returns what draws.
        settings: The operator's.
        device: Where the model computes.
        level: Of logging.
    """
    _settle(level)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        draw: Any = None

        def loaded() -> None:
            nonlocal draw
            draw = load(settings, device)

        told = _told(loaded)
        pipe.send(told)
        while told.kind == "done":
            order = pipe.recv()
            if order is not None:  # a stop that crossed the end of what it was about
                pipe.send(_told(lambda order=order: _drawn(pipe, draw, order)))


def load_model(settings: BotSettings, device: str) -> Any:
    """Load the bot's model in this process; see ``drawing.Drawer``."""
    import torch

    from apps.line_bot.drawing import load_drawer
    from apps.line_bot.model import model_for

    torch.set_num_threads(max(1, min(torch.get_num_threads(), cores() - 1)))
    return load_drawer(settings, model_for(settings), device)


def _settle(level: int) -> None:
    """Step behind the bot, and forget what only the bot needs to know."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the bot's, and that ends this
    for name in SECRET_NAMES:
        os.environ.pop(name.upper(), None)
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    start_logging(sys.stderr, level)


def _drawn(pipe: Connection, draw: Any, order: Order) -> None:
    def check() -> None:
        if pipe.poll():
            pipe.recv()
            raise Unwanted

    draw(order.task, order.folder, check, order.source)


def _told(act: Callable[[], None]) -> Answer:
    """Do something, and put into words what became of it."""
    try:
        act()
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the bot is gone
        raise
    except Unwanted:
        return Answer("unwanted")
    except BadPhoto as error:
        return Answer("photo", str(error))
    except UserError as error:
        return Answer("user", str(error), getattr(error.__cause__, "errno", None) or 0)
    except OSError as error:
        return Answer("disk", error.strerror or str(error), error.errno or 0)
    except Exception as error:
        logger.exception("a drawing failed")
        return Answer("fault", in_words(error))
    return Answer("done")
