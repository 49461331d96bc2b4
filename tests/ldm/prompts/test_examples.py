"""The examples in the docstrings of prompts and settings show what comes out."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

ROOMS = {"ldm.prompts": 8, "ldm.settings": 8}


@pytest.mark.parametrize("room", ROOMS)
def test_examples_are_so(room):
    package = importlib.import_module(room)
    names = [each.name for each in pkgutil.walk_packages(package.__path__, f"{room}.")]
    found = [doctest.testmod(importlib.import_module(name)) for name in names]
    assert not sum(each.failed for each in found)
    assert sum(each.attempted for each in found) >= ROOMS[room]
