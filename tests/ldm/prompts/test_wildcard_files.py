"""Lists of wildcards: names of files, what their lines hold, and what is refused before drawing."""

from __future__ import annotations

import os

import pytest

from ldm.errors import UserError
from ldm.prompts import wildcard_files
from ldm.prompts.wildcard_files import Wildcards
from ldm.prompts.wildcards import draw, parse


def folder(tmp_path, files):
    """Write lists, each a text or bytes, and return them."""
    for name, held in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(held if isinstance(held, bytes) else held.encode())
    return Wildcards(tmp_path)


def drawn(lists, text, count=60):
    template = parse(text)
    lists.check(template)
    return {draw(template, lists, seed) for seed in range(count)}


def test_lines_are_choices_without_comments_empty_lines_and_byte_order_mark(tmp_path):
    text = "\ufeff# pets\n\n  cat  \r\n2::dog\n0::fish\n{small|big} fox\n   # not this\n"
    lists = folder(tmp_path, {"pets.txt": text})
    assert drawn(lists, "__pets__") == {"cat", "dog", "small fox", "big fox"}
    assert lists("pets").weights == (1.0, 2.0, 1.0)


def test_names_are_paths_below_the_folder_and_patterns_take_several(tmp_path):
    files = {
        "pets.txt": "cat",
        "pets/small.txt": "mouse\nhamster",
        "pets/big.TXT": "dog\nhamster",
        "pets/notes.md": "no",
        ".hidden/x.txt": "no",
        "pets/.y.txt": "no",
    }
    lists = folder(tmp_path, files)
    assert list(lists.files) == ["pets", "pets/big", "pets/small"]
    assert drawn(lists, "__pets/small__") == {"mouse", "hamster"}
    assert drawn(lists, r"__pets\small__") == {"mouse", "hamster"}
    assert drawn(lists, "__pets/*__") == {"dog", "mouse", "hamster"}
    assert drawn(lists, "__p*__") == {"cat", "dog", "mouse", "hamster"}
    assert len(lists("pets/*").templates) == 3  # a line that two lists have counts once


def test_lists_name_others(tmp_path):
    files = {"scene.txt": "a __pets__ on a {red|__colours__} mat", "pets.txt": "cat"}
    lists = folder(tmp_path, {**files, "colours.txt": "blue"})
    assert drawn(lists, "__scene__") == {"a cat on a red mat", "a cat on a blue mat"}


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("pet", "__pets__"),
        ("PETS", "__pets__"),
        ("smal", "__zoo/small__"),
        ("../pets", "__pets__"),
        ("xyz", "__pets__, __zoo/small__"),
        ("xyz*", "__pets__, __zoo/small__"),
        ("/etc/passwd", "__pets__, __zoo/small__"),
    ],
)
def test_a_list_that_is_not_there_is_told_with_the_nearest(asked, near, tmp_path):
    lists = folder(tmp_path, {"pets.txt": "cat", "zoo/small.txt": "mouse"})
    with pytest.raises(UserError) as raised:
        lists.check(parse(f"a __{asked}__"))
    assert near in str(raised.value) and str(tmp_path) not in str(raised.value)


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        (
            {"a.txt": "x\n__b__", "b.txt": "{y|__a__}"},
            "__a__ → __b__ → __a__ name one another in a circle",
        ),
        ({"a.txt": "__a__"}, "wildcards __a__ → __a__ name one another"),
        ({"a.txt": "x\n__gone__"}, "__gone__"),
        ({"a.txt": "x\n# {\ny {z"}, "a.txt line 3 'y {z'"),
        ({"a.txt": "# nothing\n\n"}, "a.txt holds no choice"),
        ({"a.txt": b"caf\xe9"}, "a.txt is not UTF-8"),
        ({**{f"l{k}.txt": f"__l{k + 1}__" for k in range(30)}, "a.txt": "__l0__"}, "more than 20"),
    ],
)
def test_what_any_seed_might_meet_is_refused_for_all(files, fault, tmp_path):
    lists = folder(tmp_path, files)
    with pytest.raises(UserError) as raised:
        lists.check(parse("b {1000::x|__a__}"))
    assert fault in str(raised.value) and "\n" not in str(raised.value)


def test_a_list_may_be_named_twice_without_being_a_circle(tmp_path):
    lists = folder(tmp_path, {"a.txt": "__c__ __c__ __b__", "b.txt": "__c__", "c.txt": "x"})
    assert drawn(lists, "__a__ __b__") == {"x x x x"}


def test_a_list_that_was_changed_is_read_again(tmp_path):
    assert drawn(folder(tmp_path, {"a.txt": "x"}), "__a__") == {"x"}
    assert drawn(folder(tmp_path, {"a.txt": "longer"}), "__a__") == {"longer"}


def test_a_folder_that_is_none_and_files_that_are_too_much_are_one_line(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="--wildcards .*gone does not exist"):
        Wildcards(tmp_path / "gone")
    lists = folder(tmp_path, {"a.txt": "x\n" * 50, "b.txt": "y"})
    monkeypatch.setattr(wildcard_files, "WILDCARD_BYTES", 20)
    with pytest.raises(UserError, match=r"a\.txt has more than 20 bytes"):
        lists("a")
    monkeypatch.setattr(wildcard_files, "WILDCARD_LISTS", 1)
    with pytest.raises(UserError, match="more than 1 lists"):
        Wildcards(tmp_path)("b")


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_folders_that_lead_into_themselves_end(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("x")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    assert "sub/a" in Wildcards(tmp_path).files
