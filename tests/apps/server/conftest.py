"""A service with a stand-in for the model, and its application."""

from __future__ import annotations

import pytest
from flat_drawer import FlatDrawer

from apps.server.service import Service, Terms


@pytest.fixture
def drawer():
    return FlatDrawer()


@pytest.fixture
def serve(drawer):
    """Return what starts a service; they end with the test."""
    started = []

    def start(**terms) -> Service:
        rest = {name: terms.pop(name) for name in ("limits", "kept", "fixed") if name in terms}
        service = Service(lambda: drawer, terms=Terms(**{"max_wait": 0.0, **terms}), **rest)
        service.start()
        assert service.loaded.wait(20.0)
        started.append(service)
        return service

    yield start
    drawer.gate.set()
    for service in started:
        assert service.close(20.0)
