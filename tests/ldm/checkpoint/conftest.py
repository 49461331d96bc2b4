"""Stand-ins that checkpoint tests share."""

from __future__ import annotations

import sys
import types

import pytest


@pytest.fixture
def model_checkpoint(monkeypatch):
    """A class that pickles as Lightning's ModelCheckpoint, whatever is installed."""
    path = "pytorch_lightning.callbacks.model_checkpoint"
    parts = path.split(".")
    for i in range(len(parts)):
        name = ".".join(parts[: i + 1])
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    cls = type("ModelCheckpoint", (), {"__module__": path})
    sys.modules[path].ModelCheckpoint = cls
    return cls
