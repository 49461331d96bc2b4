"""Start a training on many machines: by SLURM or by Ray Train, as a YAML file says.

Every process runs what main.py does. A run of the file's name that has a checkpoint is gone on
with, so a job that is started again, by hand, by SLURM or by Ray, loses nothing but the steps since
then. configs/launch has a file for each, with what every entry does.

Example:
    python scripts/launch_training.py configs/launch/slurm.yaml --dry_run
    python scripts/launch_training.py configs/launch/ray.yaml data.params.batch_size=8
"""

from __future__ import annotations

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # see ldm/programs/interrupts.py

from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.programs.console import Console, exit_codes
from ldm.programs.start import leave, read_flags
from ldm.settings.launch import LaunchSettings

if TYPE_CHECKING:
    from ldm.training.launching import Launch


def launch(console: Console, settings: LaunchSettings) -> int:
    """Start the training, show how, or take part in it; return the exit code."""
    from ldm.training.launching import check_arguments, main_arguments, read_launch

    said = read_launch(settings.file)
    if settings.task:
        # One of a machine's processes speaks for it.
        os.environ.setdefault("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0"))
        from ldm.training.arguments import parse
        from ldm.training.program import run
        from ldm.training.slurm import told_again

        return told_again(run(parse(main_arguments(said, settings.overrides))))
    check_arguments(said, settings.overrides)
    if said.launcher == "slurm":
        return _slurm(console, settings, said)
    if settings.dry_run:
        arguments = " ".join(main_arguments(said, settings.overrides))
        console.say(f"{said.processes} processes on {said.nodes} machines: main.py {arguments}")
        return 0
    from ldm.training.ray_train import train_on_ray

    train_on_ray(said, settings.overrides)
    return 0


def _slurm(console: Console, settings: LaunchSettings, said: Launch) -> int:
    from ldm.training.slurm import job_script, submit

    here = [sys.executable, os.path.abspath(__file__), os.path.abspath(settings.file), "--task"]
    script = job_script(said, [*here, *settings.overrides])
    console.say(script if settings.dry_run else submit(script, Path.cwd()))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the program and return its exit code; a task's is main.py's."""
    console = Console(LaunchSettings.program, sys.stdout, sys.stderr)
    left = "what was started before goes on"
    with exit_codes(console, lambda: left, takes_warnings=False) as ending:
        settings = LaunchSettings(**read_flags(LaunchSettings, __doc__, argv))
        settings.validate()
        ending.code = launch(console, settings)
    return ending.code


if __name__ == "__main__":
    leave(main())
