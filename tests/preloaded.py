"""Run main.py in processes that are forked from one which has imported Lightning already.

Importing it takes 5 s. A run that forks cannot begin in the tests' own process: copies of a process
whose threads have worked wait forever for threads that they do not have. The fork server of
``multiprocessing`` has imported the modules, done nothing else, and has one thread.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path
from unittest import mock

TESTS = Path(__file__).resolve().parent
MODULES = (
    "main",
    "training_parts",
    "ldm.training.program",
    "ldm.models.diffusion.ddpm",
    "ldm.modules.encoders.modules",
    "torch.utils.tensorboard",
)


def run_main(*arguments: str, cwd: Path) -> tuple[int | None, str]:
    """Run main.py to its end, in ``cwd``; return exit code, None after 120 s, and its output."""
    _start_server()
    console = cwd / "console.txt"
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=_main, args=(list(map(str, arguments)), str(cwd), console))
    process.start()
    process.join(timeout=120)
    code = process.exitcode
    process.kill()
    return code, console.read_text(encoding="utf-8")


def _start_server() -> None:
    """Start the server, if there is none, with one thread.

    Until Python 3.13 its own search path is the environment's, not this process's.
    """
    from multiprocessing import forkserver  # Windows has none

    paths = os.pathsep.join(map(str, (TESTS, TESTS.parent)))
    with mock.patch.dict(os.environ, PYTHONPATH=paths, OMP_NUM_THREADS="1"):
        multiprocessing.get_context("forkserver").set_forkserver_preload(list(MODULES))
        forkserver.ensure_running()


def _main(arguments: list[str], folder: str, console: Path) -> None:
    os.chdir(folder)
    with console.open("w", encoding="utf-8") as file:
        for standard in (1, 2):
            os.dup2(file.fileno(), standard)
    import main

    sys.exit(main.main(arguments))
