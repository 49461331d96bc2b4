"""The narrow hub that attention is controlled in, and what it draws without control."""

from __future__ import annotations

import pytest
from controlled import draw, narrow_hub


@pytest.fixture(scope="module")
def hub():
    return narrow_hub(attention_resolutions=[2, 1])


@pytest.fixture(scope="module")
def plain(hub):
    """A function that draws without control, once for the same arguments."""
    drawn: dict = {}

    def draw_plainly(sampler="ddim", **options):
        key = (sampler, *sorted(options.items()))
        if key not in drawn:
            drawn[key] = draw(hub, sampler, **options)
        return drawn[key]

    return draw_plainly
