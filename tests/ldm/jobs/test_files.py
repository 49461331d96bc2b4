"""A file of jobs: numbers, bad lines, and little memory."""

from __future__ import annotations

import tracemalloc

import pytest
from batch_runs import write_csv

from ldm.jobs.files import SHOWN, BadLines, FileState, Lost, read_jobs
from ldm.jobs.job import Job
from ldm.jobs.lines import LineReader
from ldm.jobs.rows import BadLine
from ldm.pipelines.models import find_model
from ldm.settings.generation import Txt2ImgSettings


@pytest.fixture
def reader(tiny_ckpt, tmp_path):
    return LineReader(find_model(Txt2ImgSettings(ckpt=str(tiny_ckpt))), {}, tmp_path)


def test_mending_a_bad_line_changes_no_other_pictures_number_or_seed(reader, tmp_path):
    rows = [{"prompt": "a"}, {"prompt": "b", "W": 17, "n_samples": 3}, {"prompt": "c"}]
    bad = list(read_jobs(write_csv(tmp_path / "a.csv", rows), reader))
    rows[1]["W"] = 16
    good = list(read_jobs(write_csv(tmp_path / "a.csv", rows), reader))
    assert [type(each) for each in bad] == [Job, Lost, Job]
    assert (bad[1].number, bad[1].count, bad[1].bad.line) == (1, 3, 3)
    assert [job.number for job in good] == [0, 1, 2, 3, 4]
    assert (bad[2].number, bad[2].digest) == (good[4].number, good[4].digest)


@pytest.mark.parametrize("header", ["n-iter", "--n_iter", "N_Iter"])
def test_a_bad_line_keeps_its_numbers_however_the_column_is_written(reader, tmp_path, header):
    rows = [{"prompt": "a", "W": 17, header: 3}, {"prompt": "b"}]
    lost, job = read_jobs(write_csv(tmp_path / "a.csv", rows), reader)
    assert (lost.count, job.number) == (3, 3)


def test_a_long_file_is_read_in_little_memory(reader, tmp_path):
    path = write_csv(tmp_path / "a.csv", [{"prompt": f"cat {n}"} for n in range(1000)])
    list(read_jobs(path, reader))  # what is remembered once is there now
    tracemalloc.start()
    count = sum(1 for _ in read_jobs(path, reader))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 1000 and peak < 0.3e6  # all jobs at once take 0.9 MB


def test_a_line_of_many_pictures_is_read_in_little_memory(reader, tmp_path):
    path = write_csv(tmp_path / "a.csv", [{"prompt": "cat", "n_iter": 5000}, {"prompt": "dog"}])
    next(read_jobs(path, reader))
    tracemalloc.start()
    numbers = sum(job.number for job in read_jobs(path, reader))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert numbers == sum(range(5001)) and peak < 0.3e6


def test_the_first_bad_lines_are_listed_and_the_rest_counted():
    bad = BadLines()
    for line in range(1, SHOWN + 6):
        bad.add(BadLine(line, "is wrong"))
    lines = bad.listed().splitlines()
    assert lines[0] == "line 1: is wrong" and len(lines) == SHOWN + 1
    assert lines[-1] == "... and 5 more"


def test_a_file_that_was_written_to_is_not_the_same(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a\n")
    state = FileState.of(path)
    assert state.is_still(path)
    path.write_text("a\nb\n")
    assert not state.is_still(path) and FileState.of(path).sha256 != state.sha256
    path.unlink()
    assert not state.is_still(path)
