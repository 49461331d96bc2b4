"""Start a training on many machines: what its YAML says, and which run it begins or goes on with.

How processes are started is the cluster's: SLURM's, or Ray's. Each of them runs what main.py does.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ldm.errors import UserError
from ldm.paths import is_file, listing
from ldm.settings.option import one_of
from ldm.yaml_files import read_yaml

LAUNCHERS = ("slurm", "ray")
ONLY = {"slurm": ("time", "grace", "options", "setup"), "ray": ("address", "retries")}
OURS = ("--name", "-n", "--logdir", "-l", "--resume", "-r", "--devices", "--num_nodes", "--gpus")
OURS += ("--postfix", "-f")  # it would make the run's folder another name's
_TIME = r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d_"
"""What a run's folder begins with, before its name."""


@dataclass(frozen=True)
class Launch:
    """How a training is started.

    Attributes:
        launcher: ``slurm`` or ``ray``.
        name: The run's name; the newest run of this name is gone on with.
        arguments: main.py's, less those that follow from the others here.
        logdir: Where runs are; all machines see it.
        accelerator: ``gpu`` or ``cpu``.
        nodes: Machines.
        devices: Processes on each of them.
        cpus: Cores of each process.
        time: The longest that a job of SLURM takes.
        grace: Seconds before its end at which the training is told to save and stop.
        options: More options of sbatch.
        setup: Lines of shell before training.
        address: Of Ray's cluster; "auto" finds one, None begins one here.
        retries: How often Ray begins again after it lost a process.
    """

    launcher: str
    name: str
    arguments: str
    logdir: str = "logs"
    accelerator: str = "gpu"
    nodes: int = 1
    devices: int = 1
    cpus: int = 1
    time: str = "24:00:00"
    grace: int = 300
    options: list[str] = field(default_factory=list)
    setup: list[str] = field(default_factory=list)
    address: str | None = None
    retries: int = 0

    @property
    def processes(self) -> int:
        """All processes together."""
        return self.nodes * self.devices


def read_launch(path: Path) -> Launch:
    """Read a YAML file that says how a training is started.

    Raises:
        UserError: It cannot be read, or an entry is missing, unknown or of the wrong kind.
    """
    where = f"launch file {str(path)!r}"
    given: dict[str, Any] = OmegaConf.to_container(read_yaml(path), resolve=True)
    known = {entry.name: entry for entry in fields(Launch)}
    for name in given:
        if name not in known:
            raise UserError(f"{where} has an unknown entry {name!r}; expected {one_of(known)}")
    for name, entry in known.items():
        if entry.default is MISSING and entry.default_factory is MISSING and name not in given:
            raise UserError(f"{where} lacks {name!r}; see those in configs/launch; add it")
    launch = Launch(**given)
    for name in known:
        _check(launch, name, where)
    other = next(each for each in LAUNCHERS if each != launch.launcher)
    if foreign := [name for name in ONLY[other] if name in given]:
        raise UserError(
            f"{where} has {foreign[0]!r}, which launcher {other} has and {launch.launcher} has not;"
            " leave it out"
        )
    if taken := [word for word in shlex.split(launch.arguments) if word.split("=")[0] in OURS]:
        raise UserError(
            f"{where} has {taken[0]} among its arguments; expected it as an entry of its own: "
            "name, logdir, nodes and devices"
        )
    return launch


def _check(launch: Launch, name: str, where: str) -> None:
    value = getattr(launch, name)
    choices = {"launcher": LAUNCHERS, "accelerator": ("gpu", "cpu")}.get(name)
    least = 1 if name in ("nodes", "devices", "cpus") else 0
    if choices:
        fits, expected = value in choices, one_of(choices)
    elif name in ("nodes", "devices", "cpus", "grace", "retries"):
        fits = type(value) is int and value >= least
        expected = f"a whole number, {least} or more"
    elif name in ("options", "setup"):
        fits = isinstance(value, list) and all(isinstance(each, str) for each in value)
        expected = "a list of texts"
    else:
        fits = isinstance(value, str) and (name == "arguments" or bool(value.strip()))
        fits, expected = fits or (name == "address" and value is None), "a text"
    if not fits:
        raise UserError(f"{where}: {name} is {value!r}; expected {expected}; correct it")


def main_arguments(launch: Launch, overrides: Sequence[str] = ()) -> list[str]:
    """Return main.py's arguments: to begin the run, or to go on with the newest one of its name."""
    devices = ["--accelerator", launch.accelerator, "--devices", str(launch.devices)]
    devices += ["--num_nodes", str(launch.nodes)]
    given = shlex.split(launch.arguments)
    of_this_name = re.compile(_TIME + re.escape(launch.name))
    runs = [
        folder
        for folder in listing(launch.logdir)
        if of_this_name.fullmatch(folder.name) and is_file(folder / "checkpoints" / "last.ckpt")
    ]
    if runs:
        run = ["--resume", str(runs[-1])]
    else:
        run = ["--name", launch.name, "--logdir", launch.logdir]
    return [*run, "--train", "true", *given, *devices, *overrides]


def check_arguments(launch: Launch, overrides: Sequence[str]) -> None:
    """Read flags and configurations as main.py will, before machines are asked for.

    Raises:
        UserError: One of them is wrong.
    """
    from ldm.training.arguments import parse
    from ldm.training.settings import find_run, load_run_config

    options = parse(main_arguments(launch, overrides))
    load_run_config(options, find_run(options))
