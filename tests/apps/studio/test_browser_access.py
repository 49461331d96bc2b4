"""The studio in a real browser, for everybody: other languages, phones, screen readers, dark mode.

Needs what ``test_browser`` needs.
"""

from __future__ import annotations

import pytest
from browsing import NEEDS_CHROMIUM, driver
from studio_page import few_steps, open_anywhere, wait_for_end

pytest.importorskip("gradio", reason="needs gradio: pip install -e '.[web]'")
driver()
pytestmark = NEEDS_CHROMIUM

TABS = ("text", "image", "repaint", "edit", "enlarge", "sweep", "learn", "gallery", "feedback")


def test_it_speaks_the_browsers_language(visit):
    for locale, draw, done in (("ja-JP", "描く", "1 枚"), ("zh-TW", "繪圖", "1 張")):
        page = visit(locale=locale)
        assert page.inner_text("#text-draw") == draw
        few_steps(page, "text")
        page.click("#text-draw")
        wait_for_end(page, "text")
        assert page.inner_text("#text-status").startswith(done)


def test_a_phone_shows_every_tab_without_scrolling_sideways(visit):
    page = visit(390, 844)
    page.click("#text-controls button")
    page.wait_for_selector("#text-control input")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    few_steps(page, "text")
    page.click("#text-draw")
    wait_for_end(page, "text")
    for name in TABS:
        open_anywhere(page, name)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1280)])
def test_nobody_is_shut_out_by_how_the_page_is_made(visit, scheme, width):
    """As axe-core judges it: no serious finding on any tab, with pictures and without."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-core")
    page = visit(width, color_scheme=scheme)
    few_steps(page, "text")
    page.click("#text-draw")
    wait_for_end(page, "text")
    page.click("#text-controls button")
    page.wait_for_selector("#text-control input")
    for name in TABS:
        open_anywhere(page, name)
        page.wait_for_timeout(500)
        found = axe.Axe().run(page).response["violations"]
        serious = [each for each in found if each["impact"] in ("serious", "critical")]
        assert not serious, [(each["id"], each["nodes"][0]["html"][:200]) for each in serious]
