"""How the stand-in calls servers on this machine."""

from __future__ import annotations

import functools
import ssl

import httpx


def new_client(timeout: float) -> httpx.Client:
    """Return a client that uses no proxies: those of the environment do not know this machine.

    Args:
        timeout: Seconds for each step of a request.
    """
    return httpx.Client(trust_env=False, timeout=timeout, verify=_trust())


@functools.cache
def _trust() -> ssl.SSLContext:
    # Reading the system's certificates takes a tenth of a second, and most bots here are http.
    return ssl.create_default_context()
