"""What tests do on the studio's page in a browser."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def open_tab(page, name):
    page.click(f"#tab-{name}-button")
    page.wait_for_selector(f"#{name}-draw")


def open_anywhere(page, name):
    """Open a tab whose button may have no room in the row."""
    if page.is_visible(f"#tab-{name}-button"):
        page.click(f"#tab-{name}-button")
    else:
        page.click(".overflow-menu > button >> visible=true")
        page.click(f".overflow-dropdown button:text-is('{name.title()}')")
    page.wait_for_selector(f"#tab-{name}", state="visible")


def few_steps(page, tab, steps=4, pictures=1):
    page.fill(f"#{tab}-ddim_steps input[type=number]", str(steps))
    page.fill(f"#{tab}-n_samples input[type=number]", str(pictures))


def wait_for_end(page, tab):
    page.wait_for_selector(f"#{tab}-draw", state="hidden")
    page.wait_for_selector(f"#{tab}-draw", state="visible")
    refused = page.query_selector(f"#{tab}-status [role=alert]")
    assert not refused, refused.inner_text()


def newest(page, tab):
    """Return the pixels of the newest picture that a tab shows."""
    source = page.get_attribute(f"#{tab}-gallery img", "src")
    held = io.BytesIO(page.request.get(source).body())
    return np.asarray(Image.open(held).convert("RGB"))


def draw_one(page, prompt="a photo of a cat on a blue background", seed="7"):
    few_steps(page, "text")
    page.fill("#text-prompt textarea", prompt)
    page.fill("#text-seed textarea, #text-seed input", seed)
    page.click("#text-draw")
    wait_for_end(page, "text")
