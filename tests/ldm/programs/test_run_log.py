"""The table of runs: a row for each, whatever was there before and whoever writes beside."""

from __future__ import annotations

import csv
import multiprocessing
from dataclasses import replace

import pytest

from ldm.errors import UserError
from ldm.programs.run_log import RunLog, row_of
from ldm.settings.low_memory import LowMemoryTxt2ImgSettings


@pytest.fixture
def log(tmp_path):
    return RunLog("runs.csv", tmp_path / "logs")


def rows_in(log):
    with open(log.path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_rows_come_back_as_they_were_written(log):
    prompts = ["a cat", 'he said "12:30, no",\nand left', "富士山 🐈", "", "1+1=2"]
    for prompt in prompts:
        log.add({"prompt": prompt, "seed": 7, "ckpt": None})
    assert [row["prompt"] for row in rows_in(log)] == prompts
    assert {(row["seed"], row["ckpt"]) for row in rows_in(log)} == {("7", "")}


def test_new_settings_become_columns_and_older_rows_stay(log):
    log.add({"a": 1, "b": "x\ny"})
    log.add({"b": 2, "c": 3})
    log.add({"a": 4})
    assert rows_in(log) == [
        {"a": "1", "b": "x\ny", "c": ""},
        {"a": "", "b": "2", "c": "3"},
        {"a": "4", "b": "", "c": ""},
    ]
    assert sorted(p.name for p in log.path.parent.iterdir()) == [".runs.csv.lock", "runs.csv"]


def test_a_table_of_the_forks_is_continued(log):
    log.path.parent.mkdir()
    log.path.write_bytes(b"prompt,seed\na cat,1\na dog,2")  # no end of line
    log.add({"prompt": "a fox", "seed": 3, "turbo": True})
    assert [row["seed"] for row in rows_in(log)] == ["1", "2", "3"]
    log.path.write_bytes(b"prompt,seed\na cat,1")
    log.add({"prompt": "a fox", "seed": 3})
    assert [row["seed"] for row in rows_in(log)] == ["1", "3"]


def test_an_empty_file_becomes_a_table(log):
    log.path.parent.mkdir()
    log.path.touch()
    log.add({"a": 1})
    assert rows_in(log) == [{"a": "1"}]


def test_a_command_line_that_is_not_utf_8_is_kept(log):
    for value in ("caf\udce9", "plain"):
        log.add({"prompt": value})
        log.add({"prompt": value, value[0]: 1})
    assert log.path.read_bytes().count(b"caf\xe9") == 2


def test_what_a_terminal_or_a_spreadsheet_would_obey_is_written_as_text(log):
    prompts = ["=1+1", "@SUM(A1)", "-2", "\x1b[2Jcat", "a\u202eb", -2]
    for prompt in prompts:
        log.add({"prompt": prompt})
    written = ["'=1+1", "'@SUM(A1)", "'-2", "\\x1b[2Jcat", "a\\u202eb", "-2"]
    assert [row["prompt"] for row in rows_in(log)] == written


def test_a_file_that_is_no_table_is_refused_and_left_alone(log):
    log.path.parent.mkdir()
    log.path.write_text("a\n1,2,3\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"runs\.csv .*more fields than columns"):
        log.add({"b": 1})
    assert log.path.read_text(encoding="utf-8") == "a\n1,2,3\n"
    assert not list(log.path.parent.glob("*.part"))


def test_a_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "logs").write_text("")
    with pytest.raises(UserError, match="cannot be logged"):
        RunLog("runs.csv", tmp_path / "logs").add({"a": 1})


def _write(folder, name):
    for k in range(20):
        RunLog("runs.csv", folder).add({"who": name, "k": k, f"{name}{k // 5}": 1})


def test_processes_that_write_and_extend_at_once_lose_no_row(log):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write, args=(log.path.parent, name)) for name in "xy"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted((row["who"], int(row["k"])) for row in rows_in(log)) == [
        (name, k) for name in "xy" for k in range(20)
    ]


def test_a_runs_row_has_every_setting_and_what_was_used():
    row = row_of(LowMemoryTxt2ImgSettings(prompt="a cat", seed=5), device="cpu")
    assert (row["prompt"], row["seed"], row["device"], row["H"]) == ("a cat", 5, "cpu", None)
    assert list(row)[0] == "time" and {"turbo", "vram_budget", "n_samples", "H"} <= row.keys()


def test_prompts_stand_in_a_row_as_they_were_typed():
    pairs = (("a cat", "猫"), ("blurry", "ぼやけた"))
    settings = replace(
        LowMemoryTxt2ImgSettings(prompt="a cat", negative_prompt="blurry"), originals=pairs
    )
    row = row_of(settings)
    assert (row["prompt"], row["negative_prompt"]) == ("猫", "ぼやけた")
