"""Tables in the cache folder: kept, read again, and never in the way."""

from __future__ import annotations

import pytest

from ldm.keeping import cache_file, keep, kept


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_table_comes_back_beside_others(home):
    keep("ones", {"a": [1, "é"]})
    keep("twos", {"b": 2})
    assert (kept("ones"), kept("twos"), kept("threes")) == ({"a": [1, "é"]}, {"b": 2}, {})
    assert home in cache_file("ones").parents


@pytest.mark.parametrize("text", [b"", b"[]", b"3", b"{", b"\xff\xfe", b"[" * 9999])
def test_a_file_that_is_no_table_is_an_empty_one(text):
    cache_file("ones").parent.mkdir(parents=True)
    cache_file("ones").write_bytes(text)
    assert kept("ones") == {}
    keep("ones", {"a": 1})
    assert kept("ones") == {"a": 1}


def test_a_home_that_cannot_be_written_stops_nothing(home):
    home.write_text("a file where the folder should be")
    keep("ones", {"a": 1})
    assert kept("ones") == {}
