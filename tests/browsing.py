"""A real browser for tests of pages, where one is on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
NEEDS_CHROMIUM = pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium: apt-get install chromium"
)
PATIENCE = 60_000  # milliseconds: a busy machine without a GPU


def driver() -> Any:
    """Return playwright's module; where it is missing, skip who asks."""
    return pytest.importorskip(
        "playwright.sync_api", reason="needs a browser's driver: pip install playwright"
    )


@contextmanager
def chromium() -> Iterator[Any]:
    """Start Chromium, and end it."""
    with driver().sync_playwright() as playwright:
        # Root may not have Chromium's sandbox; the pages are our own.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def visiting(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open pages, close them at the end, and fail where one asked another machine for anything.

    What it yields takes a port of this machine, a selector of what is waited for, and what
    playwright's ``new_context`` does.
    """
    contexts, outside = [], []

    def visit(port: int, until: str, width: int = 1280, height: int = 900, **more: Any) -> Any:
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **more))
        page = contexts[-1].new_page()
        page.on("request", lambda r: outside.append(r.url) if is_outside(r.url) else None)
        page.set_default_timeout(PATIENCE)
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_selector(until)
        return page

    yield visit
    for each in contexts:
        each.close()
    assert not outside


def is_outside(url: str) -> bool:
    """Return whether an address is on another machine."""
    return not url.startswith(("http://127.0.0.1:", "data:", "blob:", "about:"))


def drag(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Press the mouse at one place, move it to another, and let go."""
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=8)
    page.mouse.up()
    page.wait_for_timeout(500)
