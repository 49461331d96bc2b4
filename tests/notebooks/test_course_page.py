"""docs/course.md says what is so: its example runs, and it names what there is."""

from __future__ import annotations

import re

import pytest
import torch
from running import ROOT

from ldm.models.diffusion.ddim import DDIMSampler
from ldm.models.diffusion.ddpm import LatentDiffusion

PAGE = (ROOT / "docs" / "course.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_example_draws_a_cat_on_red_and_guesses_it_back(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # it saves its picture
    names: dict = {}
    exec(compile(EXAMPLE, "course.md", "exec"), names)
    red, green, blue = names["picture"].getpixel((1, 1))
    assert red > 180 and green < 90 and blue < 90
    error = (names["guess"] - names["x0"]).square().mean()
    assert error < 0.5 * (names["x"] - names["x0"]).square().mean()
    assert torch.isfinite(names["eps"]).all()


@pytest.mark.parametrize("call", re.findall(r"^\| `(model|sampler)\.(\w+)", PAGE, re.MULTILINE))
def test_the_names_of_the_table_exist(call):
    owner, name = call
    assert callable(getattr({"model": LatentDiffusion, "sampler": DDIMSampler}[owner], name))
