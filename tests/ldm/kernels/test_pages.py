"""Freed memory stays during a run and goes afterwards; a file's pages go, and nothing else does."""

from __future__ import annotations

import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from ldm.kernels import pages
from ldm.kernels.pages import kept_pages, release_file_pages

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's pages")


class Told:
    """Stands in for the C library."""

    def __init__(self):
        self.calls = []

    def mallopt(self, which, value):
        self.calls.append((which, value))

    def malloc_trim(self, left):
        self.calls.append(("trim", left))


def test_thresholds_are_raised_inside_only_even_after_an_error(monkeypatch):
    library = Told()
    monkeypatch.setattr(pages, "_glibc", lambda: library)
    with pytest.raises(KeyError), kept_pages():
        inside = list(library.calls)
        raise KeyError
    assert inside == [(pages.M_MMAP_THRESHOLD, pages.KEPT), (pages.M_TRIM_THRESHOLD, pages.KEPT)]
    after = library.calls[2:]
    assert dict(after)[pages.M_MMAP_THRESHOLD] == pages.USUAL
    assert after[-1] == ("trim", 0)


def test_without_glibc_nothing_happens(monkeypatch):
    asked = []
    monkeypatch.setattr(pages, "_glibc", lambda: asked.append("glibc"))  # and has none
    with kept_pages():
        assert asked == ["glibc"]
    assert asked == ["glibc"]


@on_linux
def test_ordinary_memory_and_changed_files_keep_their_values(tmp_path):
    own = torch.arange(2**16, dtype=torch.float32)
    release_file_pages(own)
    assert torch.equal(own, torch.arange(2**16, dtype=torch.float32))
    save_file({"a": own}, tmp_path / "a.safetensors")
    mapped = load_file(tmp_path / "a.safetensors")["a"]
    mapped[40_000] = -1
    release_file_pages(mapped)
    assert mapped[40_000] == -1
    assert mapped[39_999] == 39_999


@on_linux
def test_pages_of_a_file_are_released_and_read_again(tmp_path, monkeypatch):
    values = torch.arange(2**16, dtype=torch.float32)
    values.numpy().tofile(tmp_path / "a.bin")
    mapped = torch.from_file(str(tmp_path / "a.bin"), shared=False, size=2**16)
    mapped.sum()
    released = []
    monkeypatch.setattr(pages, "release_pages", released.append)
    release_file_pages(mapped)
    assert released == [mapped]
    monkeypatch.undo()
    release_file_pages(mapped)
    assert torch.equal(mapped, values)
