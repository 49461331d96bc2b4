"""docs/extending.md says what is so: every recipe runs, and what it puts in is what then works."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracle import GaussianModel

from ldm.models.diffusion.ddim import DDIMSampler
from ldm.models.diffusion.k_samplers import EulerSampler
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.modules.attention import set_attention_processor
from ldm.modules.attention_processors import sdpa
from ldm.process.guidance import ClassifierFreeGuidance
from ldm.settings import samplers
from ldm.util import get_obj_from_str

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
RECIPES = {
    title: re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for title, text in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
}
TABLES = (samplers.SAMPLERS, samplers.BETA_SCHEDULES)


@pytest.fixture
def cook(tmp_path, monkeypatch):
    """A function that runs a recipe by its title and returns its names."""
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(tmp_path)
    tables, modules = [dict(table) for table in TABLES], set(sys.modules)

    def run(title: str) -> dict[str, Any]:
        torch.manual_seed(0)
        names: dict[str, Any] = {}
        for code in RECIPES[title]:
            file = re.match(r"# (my_\w+\.py)\n", code)
            if file:
                (tmp_path / file[1]).write_text(code, encoding="utf-8")
            else:
                exec(compile(code, title, "exec"), names)
        return names

    yield run
    for table, before in zip(TABLES, tables, strict=True):
        table.clear()
        table.update(before)
    for name in set(sys.modules) - modules:
        if name.startswith("my_"):
            del sys.modules[name]


def test_there_are_seven_recipes_and_each_is_short():
    assert len(RECIPES) == 7
    for title, blocks in RECIPES.items():
        lines = [line for line in "".join(blocks).splitlines() if line.strip(" #")]
        assert 10 <= len(lines) <= 25, f"{title}: {len(lines)} lines"


def test_every_seam_of_the_table_has_its_recipe():
    anchors = re.findall(r"^\| \[.*?\]\(#(.*?)\)", PAGE, re.MULTILINE)
    assert anchors == [title.lower().replace(" ", "-") for title in RECIPES]


def test_the_sampler_draws_by_its_own_rule_and_the_picture_says_so(cook):
    names = cook("A sampler")
    (picture,) = names["pictures"]
    assert "Sampler: Two-step," in picture.parameters
    # On normal data, whose eps and solution are known, the second order has to show.
    model, x, errors = GaussianModel(), torch.randn(1, 1, 4, 4), []
    for name in ("two_step", "ddim"):
        made = make_sampler(name, model)
        made.make_schedule(50)
        (*_, last) = made.walk(x)
        exact = model.flow(x, made.time(49), 0)
        errors.append(float((last.x - exact).abs().max()))
    assert errors[0] < errors[1] / 3


def test_the_attention_processor_sees_every_word_and_leaves_the_result_as_it_was(cook):
    names = cook("Attention")
    maps, model = names["maps"], names["model"]
    sites = sum(name.endswith("attn2") for name, _ in model.named_modules())
    assert len(maps) == 4 * sites > 0
    assert all(torch.allclose(m.sum(-1), torch.ones(m.shape[:2]), atol=1e-5) for m in maps)
    assert {m.shape[1] for m in maps} == {8 * 8, 4 * 4}  # where the demo's attention stands
    set_attention_processor(model.model, sdpa)
    torch.manual_seed(0)
    plain, _ = DDIMSampler(model).sample(4, 1, (4, 16, 16), names["cond"], verbose=False)
    assert torch.allclose(names["x"], plain, atol=1e-3)


def test_the_conditioner_learns_from_the_texts_it_was_given(cook):
    conditioner = cook("A conditioner")["model"].cond_stage_model
    learned = conditioner.byte.weight.grad.abs().sum(dim=1) > 0
    given = {*b"a cat", *"猫".encode(), 0}
    assert {number for number in range(256) if learned[number]} == given


def test_the_schedule_is_the_one_that_the_function_returns(cook):
    names = cook("A noise schedule")
    betas = get_obj_from_str("my_schedule.sigmoid")(1000, 0.00085, 0.02, 0.008)
    assert np.allclose(names["model"].betas.numpy(), betas, rtol=1e-6)
    assert names["signal_at_the_end"] == pytest.approx(np.prod(1 - betas), rel=1e-4)


def test_the_loss_is_the_mean_of_its_own_kind(cook):
    model = cook("A loss")["model"]
    x, noise, t = torch.randn(2, 4, 16, 16), torch.randn(2, 4, 16, 16), torch.tensor([3, 700])
    cond = model.get_learned_conditioning(["a cat", "a dog"])
    with torch.no_grad():
        loss, _ = model.p_losses(x, cond, t, noise)
        out = model.apply_model(model.q_sample(x, t, noise), t, cond)
    a = model.alphas_cumprod[t].sqrt()[:, None, None, None]
    error = out - (a * noise - (1 - a**2).sqrt() * x)  # the demo predicts v
    assert float(loss) == pytest.approx(float(((error**2 + 0.25).sqrt() - 0.5).mean()), rel=1e-5)


def test_the_guider_guides_in_the_middle_alone(cook):
    names = cook("Guidance")
    model, guider = names["model"], names["options"]["guider"]
    out = torch.randn(2, 4, 16, 16)
    plain = ClassifierFreeGuidance(5.0).combine(out, torch.zeros(1))
    assert torch.equal(guider.combine(out, torch.tensor([500.0])), plain)
    assert torch.equal(guider.combine(out, torch.tensor([900.0])), out[1:])
    for other in (ClassifierFreeGuidance(5.0), ClassifierFreeGuidance(1.0)):
        torch.manual_seed(0)
        options = {**names["options"], "guider": other}
        x, _ = EulerSampler(model).sample(6, 1, (4, 16, 16), names["cond"], **options)
        assert (x - names["x"]).abs().max() > 0.1


def test_the_hooks_see_every_step_and_are_gone_after(cook):
    names = cook("Hooks")
    model, features = names["model"], names["features"]
    assert [h.shape for h in features] == [(1, 192, 4, 4)] * 8
    assert [e.shape for e in names["eps"]] == [(1, 4, 16, 16)] * 8
    assert [p.shape for p in names["previews"]] == [(1, 3, 64, 64)] * 2
    assert not torch.equal(*names["previews"])
    model.apply_model(torch.zeros(1, 4, 16, 16), torch.zeros(1), names["cond"])
    assert len(features) == 8
