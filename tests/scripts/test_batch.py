"""The program batch as a user meets it: files, exit codes, resuming, and what it says."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import time
import urllib.request
from pathlib import Path

import pytest
from batch_runs import mixed_rows, pictures_in, records_in, write_csv, write_jsonl
from running import load_program, start_program

from ldm.jobs import samples
from ldm.jobs.engines import local
from ldm.programs import batch as batch_module

SCRIPT = "scripts/batch.py"


@pytest.fixture
def batch(tiny_ckpt, tmp_path, monkeypatch, capsys):
    """Run the program in this process with the tiny model; return exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    program = load_program(SCRIPT)
    base = ["--ckpt", str(tiny_ckpt), "--device", "cpu", "--ddim_steps", "2"]

    def run(*arguments):
        code = program.main([*map(str, arguments), *base])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def jobs(tmp_path):
    path = tmp_path / "jobs.txt"
    path.write_text("a cat\na dog\n富士山\n", encoding="utf-8")
    return path


def error_in(result):
    """Exit code 2, and the one line that says what to do."""
    code, _, err = result
    lines = [line for line in err.splitlines() if line.startswith("batch: ")]
    assert code == 2 and len(lines) == 1 and lines[0].startswith("batch: error: "), err
    return lines[0]


def test_a_run_writes_a_picture_for_each_line_and_says_so(batch, jobs, tmp_path):
    code, out, err = batch(jobs, "--out", "o")
    assert code == 0
    assert list(pictures_in(tmp_path / "o")) == [f"{n:08d}.png" for n in range(3)]
    assert "3 pictures to draw" in out and "Drawn: 3 of 3 pictures" in out and "3/3" in err
    record = json.loads((tmp_path / "o" / "run.json").read_text())
    assert record["jobs"]["pictures"] == 3 and record["settings"]["ddim_steps"] == 2


def test_a_run_goes_on_where_it_stopped(batch, jobs, tmp_path):
    batch(jobs, "--out", "whole")
    jobs.write_text("a cat\n")
    assert batch(jobs, "--out", "o")[0] == 0
    jobs.write_text("a cat\na dog\n富士山\n", encoding="utf-8")
    code, out, _ = batch(jobs, "--out", "o")
    assert code == 0 and "1 of 3 pictures are there already" in out
    assert "the file of jobs has changed" in out and "Drawn: 2 of 2 pictures" in out
    assert pictures_in(tmp_path / "o") == pictures_in(tmp_path / "whole")
    code, out, _ = batch(jobs, "--out", "o")
    assert code == 0 and "All 3 pictures are there" in out


def test_pictures_are_replaced_only_where_that_is_asked(batch, jobs, tmp_path):
    batch(jobs, "--out", "o")
    before = pictures_in(tmp_path / "o")
    assert "--redraw" in error_in(batch(jobs, "--out", "o", "--scale", 2))
    assert pictures_in(tmp_path / "o") == before
    code, out, _ = batch(jobs, "--out", "o", "--scale", 2, "--redraw")
    assert code == 0 and "3 finished pictures are drawn again" in out
    assert not set(pictures_in(tmp_path / "o").values()) & set(before.values())


def test_all_bad_lines_are_listed_before_anything_is_drawn(batch, tmp_path):
    rows = [{"prompt": f"p{n}", "W": 16 if n else 17} for n in range(3)] + [
        {"prompt": "x", "W": "y"}
    ]
    jobs = write_csv(tmp_path / "jobs.csv", rows)
    result = batch(jobs, "--out", "o")
    assert "2 of its lines" in error_in(result) and not (tmp_path / "o").exists()
    assert "line 2: " in result[2] and "line 5: W y was given" in result[2]
    code, out, err = batch(jobs, "--out", "o", "--skip_bad")
    assert code == batch_module.SOME_FAILED and "Drawn: 2 of 2 pictures" in out
    assert "0 pictures and 2 lines could not be drawn" in err
    assert list(pictures_in(tmp_path / "o")) == ["00000001.png", "00000002.png"]
    assert records_in(tmp_path / "o").failed() == [0, 3]


def test_a_picture_that_fails_is_named_and_tried_again(batch, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    jobs = write_jsonl(
        tmp_path / "a.jsonl", [{"prompt": "a", "init_img": "a.png"}, {"prompt": "b"}]
    )
    code, _, err = batch(jobs, "--out", "o")
    assert code == batch_module.SOME_FAILED
    assert "picture 0: " in err and "a.png" in err and "tries them again" in err
    shutil.copy(tmp_path / "o" / "0000" / "00000001.png", tmp_path / "a.png")
    code, out, _ = batch(jobs, "--out", "o")
    assert code == 0 and "Drawn: 1 of 1 pictures" in out


def test_verify_finds_what_is_missing_or_damaged_and_draws_it_again(batch, jobs, tmp_path):
    batch(jobs, "--out", "o")
    before = pictures_in(tmp_path / "o")
    assert batch("--out", "o", "--verify")[0] == 0
    (tmp_path / "o" / "0000" / "00000000.png").unlink()
    path = tmp_path / "o" / "0000" / "00000002.png"
    path.write_bytes(path.read_bytes()[:-1])
    line = error_in(batch("--out", "o", "--verify"))
    assert "2 of 3 pictures are missing or damaged" in line
    code, out, err = batch(jobs, "--out", "o", "--verify")
    assert code == 0 and "Drawn: 2 of 2 pictures" in out and "picture 0: " in err
    assert pictures_in(tmp_path / "o") == before


def test_verify_removes_no_shard_that_could_not_be_drawn_again(batch, jobs, tmp_path, monkeypatch):
    shards = ("--format", "webdataset", "--out", "o")
    batch(jobs, *shards)
    (shard,) = (tmp_path / "o" / "shards").iterdir()
    whole = shard.read_bytes()
    shard.write_bytes(whole[:1000])
    assert "--redraw" in error_in(batch(jobs, *shards, "--verify", "--scale", 2))
    lines = jobs.read_text(encoding="utf-8")
    jobs.write_text("a cat\n")
    assert "no line of JOBS draws its picture 1" in error_in(batch(jobs, *shards, "--verify"))
    jobs.write_text(lines, encoding="utf-8")
    with monkeypatch.context() as patched:
        patched.setattr(samples, "_tar_sample", out_of_order)
        assert "mend the disk" in error_in(batch(jobs, *shards, "--verify"))
    assert shard.read_bytes() == whole[:1000]
    code, out, _ = batch(jobs, *shards, "--verify")
    assert code == 0 and "Drawn: 3 of 3 pictures" in out and not shard.exists()


def out_of_order(*_):
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_runs_are_merged(batch, jobs, tmp_path):
    batch(jobs, "--out", "whole")
    jobs.write_text("a cat\n")
    batch(jobs, "--out", "a")
    code, out, _ = batch("--out", "b", "--merge", "a", "whole")
    assert code == 0 and "Merged: 3 pictures" in out
    assert pictures_in(tmp_path / "b") == pictures_in(tmp_path / "whole")


def test_a_run_of_another_format_takes_no_other_pictures_in(batch, jobs, tmp_path):
    batch(jobs, "--out", "shards", "--format", "webdataset")
    jobs.write_text("a cat\n")
    batch(jobs, "--out", "a", "--format", "webdataset")
    line = error_in(batch("--out", "shards", "--merge", "a"))
    assert "--format folder was given" in line and not pictures_in(tmp_path / "shards")
    assert batch("--out", "shards", "--format", "webdataset", "--merge", "a")[0] == 0


def test_parts_of_a_file_are_drawn_by_themselves_and_merged(batch, jobs, tmp_path):
    batch(jobs, "--out", "whole")
    lines = jobs.read_text(encoding="utf-8").splitlines()
    for out, first, part in (("a", 0, lines[:2]), ("b", 2, lines[2:])):
        jobs.write_text("\n".join(part), encoding="utf-8")
        assert batch(jobs, "--out", out, "--first", first)[0] == 0
    code, out, _ = batch("--out", "c", "--merge", "a", "b")
    assert code == 0 and "Merged: 3 pictures" in out
    assert pictures_in(tmp_path / "c") == pictures_in(tmp_path / "whole")


def test_shards_are_written_and_resumed(batch, jobs, tmp_path):
    given = ["--out", "o", "--format", "webdataset", "--shard_size", 2]
    code, out, _ = batch(jobs, *given)
    assert code == 0 and "Drawn: 3 of 3 pictures" in out
    assert len(list((tmp_path / "o" / "shards").glob("*.tar"))) == 2
    assert "All 3 pictures are there" in batch(jobs, *given)[1]
    assert "--format folder was given" in error_in(batch(jobs, "--out", "o"))


def telling_of_two(monkeypatch, then):
    """Let the engine draw all pictures, call ``then(manifest part)``, and tell of two."""
    run = local.run

    def silent(plan, observe):
        records = list(run(plan, observe))
        (part,) = Path(plan.settings.out, "manifest").glob("*.jsonl")
        then(part)
        yield from records[:2]

    monkeypatch.setattr(local, "run", silent)


def test_pictures_that_no_worker_tells_of_are_no_success(batch, jobs, monkeypatch):
    telling_of_two(
        monkeypatch,
        lambda part: part.write_bytes(b"".join(part.read_bytes().splitlines(keepends=True)[:2])),
    )
    code, out, err = batch(jobs, "--out", "o")
    assert code == batch_module.SOME_FAILED and "Drawn: 2 of 3 pictures" in out
    assert "1 pictures have no record although all workers have ended" in err


def test_pictures_that_another_run_recorded_meanwhile_are_there(batch, jobs, monkeypatch):
    telling_of_two(monkeypatch, lambda part: None)
    code, out, err = batch(jobs, "--out", "o")
    assert code == 0 and "Drawn: 2 of 3 pictures" in out and "no record" not in err
    assert "1 more pictures were recorded by another run meanwhile." in out


def test_counters_are_served_while_the_run_lasts(batch, jobs, monkeypatch):
    seen, progress = [], batch_module.BatchProgram.progress

    def look(program):
        progress(program)
        port = re.search(r"127.0.0.1:(\d+)", seen[0])[1]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            seen.append(answer.read().decode())

    say = batch_module.Console.say
    monkeypatch.setattr(
        batch_module.Console, "say", lambda console, text: (seen.append(text), say(console, text))
    )
    monkeypatch.setattr(batch_module.BatchProgram, "progress", look)
    assert batch(jobs, "--out", "o", "--metrics_port", 0)[0] == 0
    assert "ldm_batch_pictures_total 3" in seen[-2] or "ldm_batch_pictures_total 3" in seen[-3]


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ([], "--out was not given"),
        (["--out", "o"], "JOBS was not given"),
        (["no.txt", "--out", "o"], "does not exist"),
        (["jobs.txt", "--out", "jobs.txt"], "jobs.txt"),
        (["jobs.txt", "--out", "o", "--workers", "0"], "--workers 0"),
        (["jobs.txt", "--out", "o", "--ray_address", "x"], "--engine ray"),
        (["jobs.txt", "--out", "o", "--merge", "a"], "--merge"),
        (["jobs.txt", "--out", "ftp://x/y"], "ftp"),
        (["--out", "o", "--verify"], "no finished pictures"),
        (["jobs.txt", "--out", "o", "--from-file", "x"], "--from-file"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(batch, jobs, tmp_path, arguments, hint):
    before = sorted(tmp_path.iterdir())
    assert hint in error_in(batch(*arguments))
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_that_may_not_be_written_to_is_one_line(batch, jobs, tmp_path, monkeypatch):
    import errno
    import tempfile

    def read_only(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    assert "Read-only file system" in error_in(batch(jobs, "--out", "o"))


def running(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return list(map(int, file.read().split()))


def wait_for(condition, process=None):
    end = time.monotonic() + 100
    while not (found := condition()):
        assert time.monotonic() < end and (process is None or process.poll() is None)
        time.sleep(0.02)
    return found


def test_two_processes_draw_the_pictures_of_one(batch, tmp_path):
    jobs = write_csv(tmp_path / "jobs.csv", mixed_rows(6))
    assert batch(jobs, "--out", "two", "--workers", 2, "--batch_size", 2)[0] == 0
    assert batch(jobs, "--out", "one", "--batch_size", 5)[0] == 0
    assert pictures_in(tmp_path / "one") == pictures_in(tmp_path / "two")
    assert {record.worker for record in records_in(tmp_path / "two").values()} <= {
        *("worker-0", "worker-1")
    }


@pytest.fixture
def painting(tiny_ckpt, tmp_path):
    """Start the program with workers that paint, and wait until four pictures are there."""
    prompts = [*map(str, range(4)), *(f"wait {tmp_path / 'go'}" for _ in range(4))]
    jobs = tmp_path / "jobs.txt"
    jobs.write_text("\n".join(prompts))
    given = ["--ckpt", tiny_ckpt, "--device", "cpu", "--workers", "2", "--batch_size", "1"]

    def start():
        run = start_program("tests/painting_batch.py", jobs, "--out", "o", *given, cwd=tmp_path)
        wait_for(lambda: len(records_in(tmp_path / "o")) >= 4, run)
        return run, children_of(run.pid)

    return start


needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs /proc")


@needs_proc
def test_killed_at_any_moment_a_run_is_finished_by_the_next_one(painting, tmp_path):
    run, workers = painting()
    run.kill()
    run.communicate()
    wait_for(lambda: not any(map(running, workers)))  # they end by themselves
    assert len(pictures_in(tmp_path / "o")) == 4
    (tmp_path / "go").touch()
    run, _ = painting()
    out, err = run.communicate(timeout=100)
    assert run.returncode == 0, err
    assert "4 of 8 pictures are there already" in out and "Drawn: 4 of 4 pictures" in out
    assert len(pictures_in(tmp_path / "o")) == len(records_in(tmp_path / "o")) == 8


@needs_proc
def test_ctrl_c_ends_a_run_and_its_workers(painting):
    run, workers = painting()
    for pid in (*workers, run.pid):  # as a terminal does: to all of them
        os.kill(pid, signal.SIGINT)
    _, err = run.communicate(timeout=100)
    # The last one may be durable and not yet told.
    assert run.returncode == 130 and re.search(r"batch: stopped: \d pictures were drawn", err)
    assert "Traceback" not in err
    wait_for(lambda: not any(map(running, workers)))
