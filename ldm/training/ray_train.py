"""A training as processes of Ray Train, which begins them again where one is lost."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ldm.errors import UserError
from ldm.training.launching import Launch, main_arguments

SAID = "the training says: "


def train_on_ray(launch: Launch, overrides: Sequence[str]) -> None:
    """Train on a cluster of Ray, or on this machine alone; return when it is done.

    Raises:
        UserError: Ray is not installed, there is no cluster at that address, or a process ended
            with such an error.
    """
    ray = _ray()
    _connect(ray, launch)
    try:
        _trainer(launch, overrides).fit()
    except ray.train.TrainingFailedError as error:
        failures = getattr(error, "worker_failures", {}) or {}
        told = re.search(f"{SAID}(.*)", "\n".join(map(str, [*failures.values(), error])))
        if told is None:  # a fault of the code: its traceback helps
            raise
        raise UserError(told[1].strip()) from error
    finally:
        ray.shutdown()


def _connect(ray: Any, launch: Launch) -> None:
    """Find the cluster, or begin one of this machine alone."""
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    found = {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, paths))}}
    if launch.address is not None:
        try:
            ray.init(address=launch.address, runtime_env=found)
        except ConnectionError as error:
            raise UserError(
                f"no cluster of Ray is found at {launch.address!r} ({error}); begin one with `ray "
                "start --head`, or leave address out to train on this machine alone"
            ) from error
        return
    ray.init(address="local", runtime_env=found, include_dashboard=False)
    wanted = {"CPU": launch.processes * launch.cpus}
    if launch.accelerator == "gpu":
        wanted["GPU"] = launch.processes
    there = ray.cluster_resources()
    short = [name for name, count in wanted.items() if there.get(name, 0) < count]
    if short:
        ray.shutdown()
        raise UserError(
            f"{launch.processes} processes need {wanted[short[0]]} {short[0]}s, and this machine "
            f"has {there.get(short[0], 0):.0f}; give fewer devices or cpus, or a cluster's address"
        )


def _ray() -> Any:
    try:
        import ray
        import ray.train.torch
    except ImportError as error:
        raise UserError(f'Ray Train is not installed ({error}); pip install -e ".[ray]"') from error
    return ray


def _trainer(launch: Launch, overrides: Sequence[str]) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    on_gpus = launch.accelerator == "gpu"
    return TorchTrainer(
        train_here,
        train_loop_config={
            "launch": vars(launch),
            "overrides": list(overrides),
            "folder": os.getcwd(),
        },
        torch_config=TorchConfig(backend="nccl" if on_gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=launch.processes,
            use_gpu=on_gpus,
            resources_per_worker={"CPU": launch.cpus, **({"GPU": 1} if on_gpus else {})},
        ),
        run_config=RunConfig(
            name=launch.name,
            # Ray's own notes; checkpoints are the run's.
            storage_path=str(Path(launch.logdir).absolute() / "ray"),
            failure_config=FailureConfig(max_failures=launch.retries),
        ),
    )


def train_here(config: dict[str, Any]) -> None:
    """Train as one of the processes that Ray has started and named in the environment.

    Args:
        config: ``launch``, the launch file's entries; ``overrides``; ``folder``, the one that
            paths are relative to.

    Raises:
        RuntimeError: The training did not come to its end. Ray sends no errors of other kinds
            whole.
    """
    os.chdir(config["folder"])
    # Lightning takes processes with such a number for torchrun's, which have the same variables.
    os.environ.setdefault("TORCHELASTIC_RUN_ID", config["launch"]["name"])
    os.environ.setdefault("GROUP_RANK", os.environ.get("NODE_RANK", "0"))
    from ldm.training.arguments import parse
    from ldm.training.program import run

    try:
        code = run(parse(main_arguments(Launch(**config["launch"]), config["overrides"])))
    except UserError as error:
        raise RuntimeError(f"{SAID}{error}") from error
    if code:
        raise RuntimeError(f"the training ended with exit code {code}; its state is saved")
