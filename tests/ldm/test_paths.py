"""Looking at a path never raises, says why a wanted one cannot be used, and is done in one place.

A folder that may not be entered is made by refusing `os.stat` below it: the tests may run as root.
"""

from __future__ import annotations

import ast
import errno
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from ldm import paths

ROOT = Path(__file__).resolve().parents[2]
LONG = "x" * 300
LOOKS = (
    *(paths.exists, paths.is_file, paths.is_folder, paths.listing, paths.file_size),
    *(
        paths.modified,
        paths.identity,
        paths.real_path,
        paths.at_home,
        paths.file_fault,
        paths.folder_fault,
    ),
    *(paths.folder_fault, paths.unreachable, paths.writing_fault, paths.file_writing_fault),
    *(paths.beside, paths.remove),
    *(lambda path: paths.other_case(path, "a.txt"), lambda path: paths.matching(str(path))),
)


def refuse_below(monkeypatch, folder: Path, number: int = errno.EACCES) -> None:
    """Make everything below a folder, and listing it, fail with an error number."""

    def refusing(act, *, itself: bool):
        def refused(path=".", *args, **options):
            given = path if isinstance(path, str | os.PathLike) else "."
            below = folder in Path(given).parents or (itself and Path(given) == folder)
            if below:
                raise OSError(number, os.strerror(number), str(path))
            return act(path, *args, **options)

        return refused

    for name, itself in (("stat", False), ("lstat", False), ("listdir", True), ("scandir", True)):
        monkeypatch.setattr(os, name, refusing(getattr(os, name), itself=itself))


@pytest.fixture
def places(tmp_path) -> dict[str, Path]:
    """Paths that cannot be looked at, or hold no file, by what is the matter with them."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "to_itself").symlink_to("to_itself")
    (tmp_path / "one").symlink_to("other")
    (tmp_path / "other").symlink_to("one")
    (tmp_path / "broken").symlink_to("nowhere")
    return {
        "too long for the file system": tmp_path / LONG,
        "too long for the file": tmp_path / LONG / "below.png",
        "too long": tmp_path.joinpath(*["x" * 200] * 30),
        "circle of links": tmp_path / "to_itself",
        "a circle of links": tmp_path / "one" / "below",
        "broken link: its target nowhere": tmp_path / "broken",
        "below the broken link": tmp_path / "broken" / "below",
        "below .*file, which is no folder": tmp_path / "file" / "below",
        "NUL": Path("a\0b"),
        "characters that file names cannot have": Path("a\ud800b"),
        "does not exist": tmp_path / "absent",
        "does not": tmp_path / "absent" / "below",
    }


def test_no_look_at_any_path_raises(places):
    for path in places.values():
        for look in LOOKS:
            look(path)
            look(str(path))


def test_what_cannot_be_looked_at_is_absent(places):
    for path in places.values():
        assert not paths.exists(path) and not paths.is_file(path) and not paths.is_folder(path)
        assert paths.listing(path) == [] and paths.matching(f"{path}*x") == []
        assert paths.file_size(path) == paths.modified(path) == 0
        assert paths.identity(path) is None


def test_the_reason_is_told(places):
    for reason, path in places.items():
        for fault in (paths.file_fault, paths.folder_fault, paths.unreachable):
            assert re.search(reason, fault(path))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "locked may not be entered (no permission)"),
        (errno.EPERM, "locked may not be entered (no permission)"),
        (errno.ESTALE, "cannot be reached (Stale file handle)"),
        (errno.EIO, "cannot be reached (Input/output error)"),
    ],
)
def test_a_folder_that_may_not_be_looked_into_is_named(tmp_path, monkeypatch, number, words):
    locked = tmp_path / "locked"
    locked.mkdir()
    (locked / "file").write_text("x")
    refuse_below(monkeypatch, locked, number)
    for look in LOOKS:
        look(locked / "file")
        look(locked)
    assert not paths.exists(locked / "file") and paths.listing(locked) == []
    assert words in paths.file_fault(locked / "file")
    assert words in paths.writing_fault(locked / "file")
    assert "cannot be listed" in paths.folder_fault(locked)


def test_a_file_for_a_folder_and_the_reverse_are_told_apart(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    assert paths.file_fault(tmp_path) == "is a folder"
    assert paths.folder_fault(file) == "is a file"
    os.mkfifo(tmp_path / "pipe")
    assert paths.file_fault(tmp_path / "pipe") == "is no ordinary file"
    assert "is no ordinary file" in paths.file_writing_fault(tmp_path / "pipe")
    assert "is a folder" in paths.file_writing_fault(tmp_path)
    assert paths.file_fault(file) is None and paths.folder_fault(tmp_path) is None


def test_a_file_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "file").write_text("x")
    monkeypatch.setattr("builtins.open", refuse)
    assert paths.file_fault(tmp_path / "file") == "cannot be read (Permission denied)"


def test_checking_a_place_for_files_leaves_nothing_behind(tmp_path):
    assert paths.writing_fault(tmp_path / "a" / "b") is None
    assert paths.file_writing_fault(tmp_path / "a" / "b.json") is None
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_found_whatever_the_case_of_its_ending(tmp_path):
    (tmp_path / "a.TXT").write_text("")
    assert paths.other_case(tmp_path, "a.txt") == tmp_path / "a.TXT"
    assert paths.other_case(tmp_path, "A.txt") is None
    (tmp_path / "a.txt").write_text("")
    assert paths.other_case(tmp_path, "a.txt") == tmp_path / "a.txt"
    assert [path.name for path in paths.listing(tmp_path, "*.txt")] == ["a.TXT", "a.txt"]


def test_files_beside_a_link_come_before_those_beside_its_target(tmp_path):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    (tmp_path / "there" / "blob").write_text("")
    (tmp_path / "there" / "blob.yaml").write_text("")
    link = tmp_path / "here" / "model.ckpt"
    link.symlink_to(tmp_path / "there" / "blob")
    assert paths.beside(link, "*.yaml") == [tmp_path / "there" / "blob.yaml"]
    (tmp_path / "here" / "model.yaml").write_text("")
    assert paths.beside(link, "*.yaml")[0] == tmp_path / "here" / "model.yaml"


METHODS = {
    *("exists", "is_file", "is_dir", "is_symlink", "is_mount", "stat", "lstat", "iterdir"),
    *("glob", "rglob", "resolve", "samefile", "expanduser", "readlink"),
}
FUNCTIONS = {
    "os": {"listdir", "scandir", "access", "stat", "lstat", "readlink"},
    "os.path": {
        *("exists", "lexists", "isfile", "isdir", "islink", "realpath", "getsize", "getmtime"),
        *("expanduser", "samefile"),
    },
    "glob": {"glob", "iglob"},
    "Path": {"home"},
    "OmegaConf": set(),
}


def bare_looks(source: str) -> list[int]:
    """Return the lines that look at a path by themselves; a module's own ``__file__`` is sure."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner, name = ast.unparse(node.func.value), node.func.attr
        if name in FUNCTIONS.get(owner, METHODS) and "__file__" not in owner:
            lines.append(node.lineno)
    return lines


def test_the_search_for_bare_looks_finds_each_way_of_looking():
    guilty = [
        *("path.exists()", "(a / b).is_file()", "folder.glob('*')", "p.stat().st_size"),
        *("os.listdir(x)", "os.path.isfile(x)", "glob.glob(x)", "Path.home()", "x.resolve()"),
    ]
    innocent = [
        *("exists(path)", "Path(__file__).resolve()", "OmegaConf.resolve(c)", "os.path.join(a, b)"),
        "glob.escape(x)",
    ]
    assert all(bare_looks(text) for text in guilty)
    assert not any(bare_looks(text) for text in innocent)


def test_every_look_at_a_path_goes_through_ldm_paths():
    files = [*(ROOT / "ldm").rglob("*.py"), *(ROOT / "scripts").glob("*.py"), ROOT / "main.py"]
    files += (ROOT / "optimizedSD").rglob("*.py")
    # The second looks at what it made itself, below a folder that it lists. The third must see
    # links too, which lead nowhere: it moves pictures, and never over anything.
    own = {ROOT / "ldm/paths.py", ROOT / "ldm/atomic.py", ROOT / "ldm/gallery/bin.py"}
    found = {
        str(path.relative_to(ROOT)): lines
        for path in files
        if path not in own and (lines := bare_looks(path.read_text("utf-8")))
    }
    assert found == {}


def test_room_is_looked_for_where_a_folder_would_be_made(tmp_path, monkeypatch):
    asked = []

    def usage(path):
        asked.append(path)
        return SimpleNamespace(free=2 * 10**9)

    monkeypatch.setattr("shutil.disk_usage", usage)
    assert paths.room_fault(tmp_path / "no" / "where", 2 * 10**9) is None
    fault = paths.room_fault(tmp_path, 3 * 10**9)
    assert fault == "needs 3.00 GB and 2.00 GB are free there"
    assert asked == [tmp_path, tmp_path]
    assert not list(tmp_path.iterdir())
