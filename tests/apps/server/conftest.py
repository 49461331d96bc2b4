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


@pytest.fixture
def open_to(drawer):
    """Return what serves a service to a client, by the application's arguments."""
    from contextlib import ExitStack

    from starlette.testclient import TestClient

    from apps.server.application import make_application

    with ExitStack() as stack:

        def start(keys=None, *, terms=None, limits=None, **rest) -> TestClient:
            service = Service(lambda: drawer, limits, terms or Terms(max_wait=0.0))
            app = make_application(service, keys, **rest)
            client = TestClient(app, "http://127.0.0.1:7860", raise_server_exceptions=False)
            stack.enter_context(client)
            stack.callback(drawer.gate.set)  # first of all at the end
            assert service.loaded.wait(20.0)
            client.service = service
            return client

        yield start


@pytest.fixture(scope="module")
def flat_served():
    """A client of a server of flat pictures with recipes, and what draws them."""
    from flat_server import asked, flat_service

    service, recorder = flat_service()
    with asked(service) as client:
        yield client, recorder


@pytest.fixture
def client(flat_served):
    return flat_served[0]


@pytest.fixture
def recorder(flat_served):
    return flat_served[1]
