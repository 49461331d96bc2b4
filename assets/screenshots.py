"""Take the screenshots of README and docs anew: run it after a change of the pages; commit them.

    python assets/screenshots.py

Needs gradio, the package playwright and Chromium. Everything is drawn by the bundled model.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
PATIENCE = 120_000  # milliseconds
SEED = "7"
STUDIO = ("-m", "apps.studio")
TXT2IMG = (str(ROOT / "optimizedSD/txt2img_gradio.py"),)


@contextmanager
def served(program: tuple[str, ...]) -> Iterator[str]:
    """Serve a page; yield its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="screenshots-") as folder:
        process = subprocess.Popen(
            [sys.executable, *program, "--port", str(port), "--outdir", "out"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        try:
            address = f"http://127.0.0.1:{port}/"
            assert any(address in line for line in iter(process.stdout.readline, ""))
            yield address
        finally:
            process.terminate()
            process.wait(60)


def drawn(page: Page, tab: str, **fields: str) -> None:
    """Fill fields of a tab of the studio, draw, and wait for the end."""
    for name, value in fields.items():
        page.fill(f"#{tab}-{name} :is(textarea, input) >> nth=0", value)
    page.click(f"#{tab}-draw")
    page.wait_for_selector(f"#{tab}-draw", state="hidden")
    page.wait_for_selector(f"#{tab}-draw", state="visible")
    page.wait_for_function("[...document.images].every((each) => each.complete)")


def text(page: Page) -> None:
    """Draw four pictures from words."""
    drawn(page, "text", prompt="a photo of a panda on a red background", seed=SEED, n_samples="4")


def edit(page: Page) -> None:
    """Edit a picture by its words."""
    page.click("#tab-edit-button")
    drawn(page, "edit", seed=SEED)
    page.wait_for_selector("#maps img")


def txt2img(page: Page) -> None:
    """Draw two pictures on the page of one tab."""
    page.fill("#seed textarea, #seed input", SEED)
    page.click("#draw")
    page.wait_for_selector("#draw", state="hidden")
    page.wait_for_selector("#draw", state="visible")
    page.wait_for_function("[...document.images].every((each) => each.complete)")


# The picture's name, its page, what is done there, its size, further arguments of the browser.
SHOTS: tuple[tuple[str, tuple[str, ...], Callable[[Page], None], tuple[int, int], dict], ...] = (
    ("studio-text", STUDIO, text, (1280, 1000), {}),
    ("studio-edit", STUDIO, edit, (1280, 1000), {}),
    ("studio-phone", STUDIO, text, (390, 844), {"locale": "ja-JP"}),
    ("page-txt2img", TXT2IMG, txt2img, (1280, 1000), {}),
)


def shot(browser: Any, address: str, name: str, act: Callable, size: tuple[int, int], more: dict):
    """Take one screenshot."""
    viewport = {"width": size[0], "height": size[1]}
    context = browser.new_context(viewport=viewport, **{"locale": "en-US", **more})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    page.wait_for_selector("button.primary")
    act(page)
    page.mouse.move(0, 0)
    page.evaluate("window.scrollTo(0, 0)")
    page.screenshot(path=FOLDER / f"{name}.png", full_page=size[0] > 400)
    context.close()


def main() -> None:
    """Take all of them."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))))
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for program in dict.fromkeys(each[1] for each in SHOTS):
            with served(program) as address:
                for name, its, *rest in SHOTS:
                    if its == program:
                        shot(browser, address, name, *rest)
        browser.close()


if __name__ == "__main__":
    main()
