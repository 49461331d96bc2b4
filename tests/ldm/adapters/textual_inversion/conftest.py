"""Models that embeddings are attached to."""

from __future__ import annotations

import pytest
from narrow_models import narrow_config, narrow_model


@pytest.fixture(scope="session")
def v1():
    return narrow_model(narrow_config("v1"))


@pytest.fixture(scope="session")
def v2():
    return narrow_model(narrow_config("v2"))
