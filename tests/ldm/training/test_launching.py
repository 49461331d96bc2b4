"""Launch files start main.py's training on clusters, and go on with a run that was begun."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from running import load_program

from ldm.errors import UserError
from ldm.training import ray_train
from ldm.training.arguments import parse
from ldm.training.launching import main_arguments, read_launch
from ldm.training.slurm import job_script, told_again

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted((ROOT / "configs/launch").glob("*.yaml"))
PROGRAM = load_program("scripts/launch_training.py")


@pytest.fixture
def file(work):
    """Return what writes a launch file that trains the work's configuration on this machine."""

    def write(kind: str, **entries):
        base = shlex.join(["--base", str(work.folder / "config.yaml")])
        small = {"arguments": base, "accelerator": "cpu", "name": "run"}
        given = {"launcher": kind, "logdir": str(work.folder), **small, **entries}
        path = work.folder / f"{kind}.yaml"
        path.write_text(yaml.safe_dump(given), encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_files_that_ship_can_be_read_and_main_understands_them(path):
    launch = read_launch(path)
    assert launch.launcher == path.stem
    options = parse(main_arguments(launch, ["data.params.batch_size=8"]))
    assert options.train
    assert options.trainer["num_nodes"] * options.trainer["devices"] == launch.processes == 16
    assert all((ROOT / base).is_file() for base in options.base)


def test_a_job_of_slurm_asks_for_what_the_file_says(file, capsys):
    more = {"nodes": 2, "devices": 4, "cpus": 3, "options": ["--partition=a"], "setup": ["true"]}
    path = file("slurm", accelerator="gpu", grace=90, **more)
    assert PROGRAM.main([str(path), "--dry_run", "data.params.batch_size=8"]) == 0
    script = capsys.readouterr().out
    asked = {line.split(" ", 1)[1] for line in script.splitlines() if line.startswith("#SBATCH")}
    assert asked >= {"--nodes=2", "--ntasks-per-node=4", "--cpus-per-task=3", "--gpus-per-node=4"}
    assert asked >= {"--signal=INT@90", "--requeue", "--partition=a", "--job-name=run"}
    assert f"{path} --task data.params.batch_size=8" in script


@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
@pytest.mark.parametrize(("code", "queued"), [(0, False), (0, True), (143, True), (2, False)])
def test_a_job_is_queued_again_only_when_it_saved_and_stopped(file, tmp_path, code, queued):
    """bash runs the script with an srun that ends so, and an scontrol that notes its words."""
    again = "touch .again-7; " if queued else ""
    script = job_script(read_launch(file("slurm")), ["true"])
    called = tmp_path / "called"
    for name, body in (("srun", f"{again}exit {code}"), ("scontrol", f'echo "$@" > {called}')):
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "7"}
    done = subprocess.run(
        ["bash", "-s"], input=script, text=True, env=environment, check=False, cwd=tmp_path
    )
    assert done.returncode == code
    assert not (tmp_path / ".again-7").exists()
    assert called.is_file() is queued
    assert not queued or called.read_text("utf-8").split() == ["requeue", "7"]


@pytest.mark.parametrize(
    ("code", "rank", "told"), [(130, "0", 0), (130, "1", 0), (2, "0", 2), (0, "0", 0)]
)
def test_a_task_that_was_told_to_stop_ends_with_0_and_the_first_one_has_the_job_queued(
    code, rank, told, tmp_path, monkeypatch
):
    """With another code srun would end those that still save."""
    monkeypatch.chdir(tmp_path)
    assert told_again(130) == 130  # no job of SLURM's
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_PROCID", rank)
    assert told_again(code) == told
    assert (tmp_path / ".again-7").exists() is (code == 130 and rank == "0")


def test_a_run_is_found_by_its_whole_name_as_it_is_written(file, tmp_path):
    logs = tmp_path / "logs"
    for name in ("2026-01-01T00-00-00_sd.V2", "2026-01-02T00-00-00_cat_sd.V2"):
        (logs / name / "checkpoints").mkdir(parents=True)
        (logs / name / "checkpoints" / "last.ckpt").touch()
    found = main_arguments(read_launch(file("slurm", name="sd.V2", logdir=str(logs))))
    assert found[:2] == ["--resume", str(logs / "2026-01-01T00-00-00_sd.V2")]
    assert main_arguments(read_launch(file("slurm", name="v2", logdir=str(logs))))[0] == "--name"
    with pytest.raises(UserError, match="has --postfix among its arguments"):
        read_launch(file("slurm", arguments="--base a.yaml --postfix x"))


def test_a_task_begins_the_run_and_another_one_goes_on_with_it(file, work, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    path = file("slurm")
    assert PROGRAM.main([str(path), "--task", "lightning.trainer.max_steps=2"]) == 0
    assert work.checkpoint("run")["global_step"] == 2
    (work.folder / "2999_run").mkdir()  # was begun, and has saved nothing
    (begun,) = work.folder.glob("*T*_run")
    assert main_arguments(read_launch(path))[:2] == ["--resume", str(begun)]
    (work.folder / "2999_run").rmdir()
    assert PROGRAM.main([str(path), "--task", "lightning.trainer.max_steps=3"]) == 0
    assert work.checkpoint("run")["global_step"] == 3


def test_where_there_is_no_slurm_or_no_ray_one_line_says_so(file, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert PROGRAM.main([str(file("slurm"))]) == 2
    assert "sbatch is not here; expected a machine of a SLURM cluster" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ray", None)
    assert PROGRAM.main([str(file("ray"))]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "Ray Train is not installed" in line
    assert '".[ray]"' in line


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"launcher": "mpi"}, "launcher is 'mpi'; expected slurm or ray"),
        ({"nodes": 0}, "nodes is 0; expected a whole number, 1 or more"),
        ({"grace": -1}, "grace is -1; expected a whole number, 0 or more"),
        ({"setup": "module load"}, "setup is 'module load'; expected a list of texts"),
        ({"name": " "}, "name is ' '; expected a text"),
        ({"gpus": 2}, "unknown entry 'gpus'"),
        ({"retries": 3}, "'retries', which launcher ray has and slurm has not"),
        ({"arguments": "--base a.yaml --devices=2"}, "--devices=2 among its arguments"),
    ],
)
def test_a_mistake_in_a_launch_file_is_named(file, entries, words):
    with pytest.raises(UserError, match=words):
        read_launch(file("slurm", **entries))


@pytest.mark.parametrize("kind", ["slurm", "ray"])
def test_what_main_would_refuse_is_refused_before_machines_are_asked_for(file, capsys, kind):
    path = file(kind)
    assert PROGRAM.main([str(path), "lightning.trainer.max_step=3"]) == 2
    assert "max_step" in capsys.readouterr().err
    path = file(kind, arguments="--base nowhere.yaml")
    assert PROGRAM.main([str(path), "--dry_run"]) == 2
    assert "nowhere.yaml" in capsys.readouterr().err


def test_an_error_of_the_user_s_in_one_of_ray_s_processes_is_one_line(file, capsys, monkeypatch):
    """A cluster of two processes stands in for Ray's, and fails as Ray's does."""
    said = f"{ray_train.SAID}the loss is nan at step 4; resume"

    class Failed(RuntimeError):
        worker_failures = {1: RuntimeError(f"trace\nRuntimeError: {said}\n")}

    def fit():
        raise Failed("Training failed")

    stand_in = SimpleNamespace(train=SimpleNamespace(TrainingFailedError=Failed), shutdown=list)
    monkeypatch.setattr(ray_train, "_ray", lambda: stand_in)
    monkeypatch.setattr(ray_train, "_connect", lambda *_: None)
    monkeypatch.setattr(ray_train, "_trainer", lambda *_: SimpleNamespace(fit=fit))
    assert PROGRAM.main([str(file("ray"))]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.endswith("the loss is nan at step 4; resume")


def test_an_entry_that_is_missing_is_named(tmp_path):
    path = tmp_path / "launch.yaml"
    path.write_text("launcher: ray\narguments: ''\n", encoding="utf-8")
    with pytest.raises(UserError, match="lacks 'name'"):
        read_launch(path)
