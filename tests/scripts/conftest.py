from __future__ import annotations

import pytest
from tiny_model import write_tiny_model


@pytest.fixture(scope="session")
def tiny_ckpt(tmp_path_factory):
    """Path of a tiny checkpoint with its configuration beside it."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))
