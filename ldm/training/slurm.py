"""A training as a job of SLURM: the script that sbatch takes."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ldm.errors import UserError
from ldm.training.launching import Launch

INTERRUPTED = 130
"""main.py's exit code after SIGINT, when it has saved."""
AGAIN = ".again-{job}"
"""A job's file in the folder that it runs in: the training was told to stop, and has saved."""


def job_script(launch: Launch, command: Sequence[str]) -> str:
    """Return a job's script.

    SLURM sends SIGINT to the processes before the job's time is over; they save, leave a file that
    says so, and the job is queued again, as it is when a machine fails. ``command`` then finds the
    run. An exit code would not do: srun ends all processes when the first one ends with another
    than 0.

    Args:
        launch: How the training is started.
        command: What each process runs.
    """
    options = [
        f"--job-name={launch.name}",
        f"--nodes={launch.nodes}",
        f"--ntasks-per-node={launch.devices}",
        f"--cpus-per-task={launch.cpus}",
        *([f"--gpus-per-node={launch.devices}"] if launch.accelerator == "gpu" else []),
        f"--time={launch.time}",
        f"--signal=INT@{launch.grace}",
        "--requeue",
        "--open-mode=append",
        *launch.options,
    ]
    again = AGAIN.format(job="$SLURM_JOB_ID")
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {option}" for option in options),
            "",
            *launch.setup,
            f"srun --kill-on-bad-exit=1 {shlex.join(command)}",
            "code=$?",
            f'if [ -e "{again}" ]; then',
            f'    rm "{again}"',
            '    scontrol requeue "$SLURM_JOB_ID"',
            "fi",
            'exit "$code"',
            "",
        ]
    )


def told_again(code: int) -> int:
    """Have the job queued again if a process of it was told to stop; return the exit code for srun.

    Args:
        code: main.py's.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if code != INTERRUPTED or job is None:
        return code
    if os.environ.get("SLURM_PROCID", "0") == "0":
        Path(AGAIN.format(job=job)).touch()
    return 0


def submit(script: str, folder: Path) -> str:
    """Hand a job to sbatch; return what it answers.

    Raises:
        UserError: There is no sbatch, or it refuses the job.
    """
    try:
        done = subprocess.run(
            ["sbatch"], input=script, text=True, capture_output=True, cwd=folder, check=False
        )
    except FileNotFoundError as error:
        raise UserError(
            "sbatch is not here; expected a machine of a SLURM cluster; start it there, or give "
            "--dry_run to see the job"
        ) from error
    if done.returncode:
        why = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise UserError(f"sbatch refuses the job ({why}); correct the launch file's entries")
    return " ".join(done.stdout.split())
