"""Files appear whole or not at all; of what lies hidden, only what killed runs left is removed."""

from __future__ import annotations

import logging
import os
import re
import time
from pathlib import Path

import pytest

from ldm import atomic
from ldm.atomic import clear, part_beside, replacing

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 999_999_999  # no system counts its processes so far


def name_of(pid: int, *, name: str = "out.bin", host: str | None = None, kind: str = "part") -> str:
    return f".{name}.ldm-{host or atomic._host()}-{pid}-0123abcd-7.{kind}"


def left_behind(folder: Path, name: str, content: bytes = b"half") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def put_aside(folder: Path, name: str) -> None:
    (folder / name / "inner").mkdir(parents=True)
    (folder / name / "inner" / "a").write_text("old")


def test_a_file_appears_with_its_end_and_replaces_the_older_one(tmp_path):
    path = tmp_path / "a" / "out"
    for text in ("first", "second"):
        with replacing(path) as part:
            part.write_text(text)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == text
    assert os.listdir(path.parent) == ["out"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit, ValueError])
def test_a_failure_leaves_the_older_one_and_nothing_else(error, tmp_path):
    (tmp_path / "out").write_text("first")
    with pytest.raises(error), replacing(tmp_path / "out") as part:
        part.write_text("half")
        raise error
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"out": "first"}


def test_a_file_takes_no_folders_place(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(IsADirectoryError), replacing(tmp_path / "out") as part:
        part.write_text("whole")
    assert [p.name for p in tmp_path.rglob("*")] == ["out"] and (tmp_path / "out").is_dir()


def test_a_folder_replaces_a_folder_and_its_older_files_are_gone(tmp_path):
    for name in ("first", "second"):
        with replacing(tmp_path / "out") as part:
            part.mkdir()
            (part / name).touch()
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["out", "second"]


def test_the_longest_name_can_be_written(tmp_path):
    for name in ("x" * 255, "ü" * 127):
        with replacing(tmp_path / name) as part:
            part.touch()
        assert (tmp_path / name).exists()


def test_what_a_dead_process_left_is_removed_and_a_line_says_so(tmp_path, caplog):
    left_behind(tmp_path, name_of(NOBODY), bytes(2_000_000))
    put_aside(tmp_path, name_of(NOBODY, name="folder"))
    clear(tmp_path)
    assert os.listdir(tmp_path) == []
    (record,) = caplog.records
    assert record.levelno == logging.WARNING  # which programs show
    said = f"removed from {tmp_path} what killed runs left there, 2.0 MB"
    assert record.getMessage() == said


def test_what_an_earlier_process_of_the_same_number_left_is_removed(tmp_path):
    left_behind(tmp_path, name_of(os.getpid()))
    own = part_beside(tmp_path / "out")
    own.touch()
    clear(tmp_path)
    assert list(tmp_path.iterdir()) == [own]


def test_what_a_killed_child_of_this_process_left_is_removed(tmp_path):
    path = tmp_path / name_of(NOBODY).replace("-0123abcd-", f"-{atomic._RUN}-")
    path.touch()
    clear(tmp_path)
    assert not path.exists()


def test_two_live_runs_leave_each_others_parts_alone(tmp_path):
    other = left_behind(tmp_path, name_of(os.getppid()))
    with replacing(tmp_path / "out.bin") as part:
        part.touch()
        clear(tmp_path)
        assert part.exists() and other.exists()


@pytest.mark.parametrize(("age", "goes"), [(atomic.DAY + 60, True), (60.0, False), (-60.0, False)])
@pytest.mark.parametrize("kind", ["part", "old"])
def test_what_another_machine_left_is_removed_a_day_later(age, goes, kind, tmp_path):
    (tmp_path / "out.bin").touch()
    path = left_behind(tmp_path, name_of(1, host="ffffffff", kind=kind))
    then = time.time() - age
    os.utime(path, (then, then))
    clear(tmp_path)
    assert path.exists() == (not goes)


@pytest.mark.parametrize(
    "name",
    [
        "out.part",
        ".out.part",
        ".out.1234.part",
        ".out.0a1b2c3d.part",
        ".tmpAb3dEf",
        ".out.ldm-0123abcd-12-0123abcd-7.part.txt",
        "out.ldm-0123abcd-999999999-0123abcd-7.part",
        ".ldm-0123abcd-999999999-0123abcd-7.part",
        ".out.ldm-0123abcd-999999999-0123abcd-7.PART",
        ".out.ldm-0123abcd-999999999-0123abcd-7.bak",
        ".out.ldm-0123abcd--999999999-0123abcd-7.part",
        ".out.ldm-0123ABCD-999999999-0123abcd-7.part",
        ".out.ldm-0123abcd-٩٩٩-0123abcd-7.part",
        ".bashrc",
    ],
)
def test_no_other_file_is_ever_removed(name, tmp_path):
    path = left_behind(tmp_path, name.replace("0123abcd-", f"{atomic._host()}-", 1))
    then = time.time() - 10 * atomic.DAY
    os.utime(path, (then, then))
    clear(tmp_path)
    assert path.read_bytes() == b"half"


def test_a_link_of_such_a_name_goes_and_what_it_leads_to_stays(tmp_path):
    put_aside(tmp_path, "mine")
    (tmp_path / name_of(NOBODY)).symlink_to(tmp_path / "mine")
    clear(tmp_path)
    assert os.listdir(tmp_path) == ["mine"]
    assert (tmp_path / "mine" / "inner" / "a").read_text() == "old"


def test_a_folder_that_was_put_aside_comes_back_where_nothing_took_its_place(tmp_path, caplog):
    put_aside(tmp_path, name_of(NOBODY, name="out", kind="old"))
    put_aside(tmp_path, name_of(NOBODY, name="out"))
    clear(tmp_path)
    assert os.listdir(tmp_path) == ["out"]
    assert (tmp_path / "out" / "inner" / "a").read_text() == "old"
    assert f"{tmp_path / 'out'} is back" in caplog.text


def test_a_folder_that_was_put_aside_goes_where_another_took_its_place(tmp_path):
    put_aside(tmp_path, name_of(NOBODY, name="out", kind="old"))
    (tmp_path / "out").mkdir()
    clear(tmp_path)
    assert [p.name for p in tmp_path.rglob("*")] == ["out"]


def test_a_folder_is_cleared_once_and_a_folder_that_is_not_there_is_no_matter(tmp_path):
    clear(tmp_path / "nowhere")
    first = left_behind(tmp_path, name_of(NOBODY))
    part_beside(tmp_path / "out")
    assert not first.exists()
    left = left_behind(tmp_path, name_of(NOBODY))
    part_beside(tmp_path / "out")
    assert left.exists()


def test_nothing_else_in_the_library_makes_hidden_files_or_renames():
    """One module decides what may lie beside a file, so that one module can clear it up."""
    allowed = {"ldm/atomic.py", "ldm/checkpoint/write.py", "ldm/images/io.py"}
    allowed |= {"ldm/checkpoint/download/fetch.py"}  # keeps its part, to go on with
    # A bin that moves pictures, never over others; names of a writer's own parts.
    allowed |= {"ldm/gallery/bin.py", "ldm/jobs/object_store.py", "ldm/jobs/manifest.py"}
    forbidden = re.compile(
        r"os\.(replace|rename|link)\(|\.rename\(|mkstemp|mkdtemp|NamedTemporary|token_hex|\.tmp\b"
    )
    sources = [*ROOT.glob("ldm/**/*.py"), *ROOT.glob("scripts/*.py"), ROOT / "main.py"]
    sources += ROOT.glob("optimizedSD/**/*.py")
    found = [path for path in sources if forbidden.search(path.read_text(encoding="utf-8"))]
    assert {path.relative_to(ROOT).as_posix() for path in found} == allowed
