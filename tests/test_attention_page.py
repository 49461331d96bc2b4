"""docs/attention.md says what is so: its blocks run in order and make what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from ldm.modules import attention_control
from ldm.modules.attention_control.moments import LISTENERS

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "attention.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """The names of all blocks, which ran one after the other."""
    made: dict[str, Any] = {"listeners": set(map(id, LISTENERS))}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        for number, code in enumerate(BLOCKS):
            exec(compile(code, f"block {number} of the page", "exec"), made)
    return made


def test_the_page_is_short_and_its_own_controller_has_ten_lines_or_so():
    assert len(PAGE.splitlines()) < 250
    (code,) = re.findall(r"class Fade.*?return faded\n", PAGE, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 14


def test_the_page_links_to_headings_and_files_that_are_there():
    headings = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", each.lower()).replace(" ", "-") for each in headings}
    assert set(re.findall(r"\]\(#(.*?)\)", PAGE)) == anchors - {"the-seam"} | {"the-seam"}
    for path in re.findall(r"\]\(([^#)]+)\)", PAGE):
        assert (ROOT / "docs" / path).exists(), path


def test_each_controller_of_the_package_is_on_the_page():
    controllers = {
        name
        for name in attention_control.__all__
        if isinstance(getattr(attention_control, name), type)
        and issubclass(getattr(attention_control, name), attention_control.Controller)
    }
    assert controllers <= set(re.findall(r"\w+", PAGE))


def test_nothing_is_left_behind(names):
    assert set(map(id, LISTENERS)) <= names["listeners"]
    assert all("processor" not in vars(m) for m in names["model"].model.modules())


def test_a_faded_word_changes_the_picture_that_a_plain_controller_leaves(names):
    plain, faded = names["plain"], names["faded"]
    again = names["draw"]([names["prompt"]], names["Controller"]())
    assert torch.equal(plain, again)
    assert (faded - plain).abs().max() > 0.05
    for picture in (plain, faded):
        red, green, blue = picture[0, :, :6, :6].mean((1, 2))
        assert red - max(green, blue) > 1.0


def test_a_loop_of_ones_own_filled_the_store(names):
    maps = names["maps"]
    assert maps.shape == (1, 8, 8, 77)
    assert torch.allclose(maps.sum(-1), torch.ones(1, 8, 8), atol=1e-2)


def test_heat_maps_find_the_upper_thing_above_the_lower(names):
    assert names["tulip"].shape == (16, 16)
    upper, lower = names["heights"]
    assert upper + 2 < lower


def test_excited_and_perturbed_pictures_are_others(names):
    draw, plain = names["draw"], names["Controller"]()
    assert not torch.equal(names["excited"], draw([names["pair"]], plain, steps=4))
    assert not torch.equal(names["perturbed"], names["plain"])


def test_edits_keep_the_source_and_change_the_target(names):
    draw, plain = names["draw"], names["Controller"]()
    texts = names["texts"]
    apart = draw(texts, plain)
    for edited in (names["swapped"], names["both"]):
        assert torch.equal(edited[0], apart[0])
        assert not torch.equal(edited[1], apart[1])
        assert not torch.equal(edited[1], edited[0])
    border = [(names["swapped"][1] - names["swapped"][0])[:, :4].abs().max()]
    assert border[0] < 0.2  # beside the thing the blend leaves the source
    for edited in (names["refined"], names["weighted"]):
        assert torch.isfinite(edited).all() and not torch.equal(edited[0], edited[1])
