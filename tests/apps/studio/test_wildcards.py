"""The studio's wildcards: where they are, and which lists there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.studio.wildcards import SHIPPED, folder_of, lists_in, with_list
from ldm.errors import UserError

ROOT = Path(__file__).resolve().parents[3]


def test_the_folder_is_the_one_given_or_wildcards_here_or_what_ships(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert folder_of(None) == str(ROOT / SHIPPED)
    (tmp_path / "wildcards").mkdir()
    (tmp_path / "mine").mkdir()
    assert folder_of(None) == str(tmp_path / "wildcards")
    assert folder_of("mine") == "mine"
    with pytest.raises(UserError, match="--wildcards gone does not exist"):
        folder_of("gone")


def test_lists_are_named_as_prompts_write_them_while_they_are_there(tmp_path):
    assert lists_in(str(ROOT / SHIPPED)) == ["__animals__", "__colours__"]
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "big.txt").write_text("lion")
    assert lists_in(str(tmp_path)) == ["__zoo/big__"]
    assert lists_in(str(tmp_path / "gone")) == lists_in(None) == []


def test_a_name_goes_to_the_end_of_the_prompt():
    assert with_list("a ", "__zoo__") == "a __zoo__"
