"""The program that measures edits, run whole on a small untrained model."""

from __future__ import annotations

import pytest
import torch
from emoji_font import needs_font
from PIL import Image
from running import help_imports_torch
from small_demo import write_small_demo

from benchmarks import attention_edit, edit_draws, edit_maps
from benchmarks.demo_measures import Sampling, draw
from ldm.checkpoint.load import load_model
from ldm.data.demo.scenes import Scene
from ldm.modules.attention_control.controller import Controller
from ldm.modules.attention_control.moments import Moment, Row
from ldm.modules.attention_control.sites import Site
from ldm.modules.attention_control.words import read_prompt

PROMPTS = ["a cat on a red background", "a large owl, blue background"]
EDITED = ["a dog on a red background", "a large palm tree, blue background"]
SAMPLING = Sampling("dpm_solver", steps=3, batch_size=2, seed=5, spacing="linspace")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_small_demo(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def model(small):
    model = load_model(*small)[0]
    for parameter in model.model.parameters():
        if not parameter.any():  # an untrained block of attention adds nothing
            torch.nn.init.normal_(parameter, std=0.1)
    return model


@needs_font
def test_the_program_reports_every_section_and_keeps_sheets(small, tmp_path, capsys, monkeypatch):
    pytest.importorskip("diffusers")
    monkeypatch.setattr(attention_edit, "RESULTS", tmp_path / "results")
    flags = ["--config", str(small[0]), "--ckpt", str(small[1]), "--outdir", str(tmp_path / "out")]
    few = ["--n", "2", "--n_grid", "1", "--steps", "2", "--save", "check"]
    assert attention_edit.main([*flags, *few]) == 0
    report = (tmp_path / "results" / "attention-edit-check.md").read_text(encoding="utf-8")
    assert report.strip() in capsys.readouterr().out
    for title in ("noun swapped", "colour word reweighted", "noun's map", "windows"):
        assert f" {title}" in report
    for way in attention_edit.WAYS.values():
        assert f"| {way} |" in report
    with Image.open(tmp_path / "out" / "swaps-000.png") as sheet:
        assert sheet.size == (2 * 66 + 2, 5 * 66 + 2)
    verdicts = (tmp_path / "out" / "verdicts.txt").read_text(encoding="utf-8")
    assert verdicts.count("\n") == 2 * 5


def test_pictures_without_control_are_those_of_a_plain_run(model):
    columns = {
        "source": edit_draws.Column(PROMPTS),
        "swap": edit_draws.Column(EDITED, [edit_draws.swap_by(edit_draws.Windows(0.8, 0.4))] * 2),
        "redraw": edit_draws.Column(EDITED),
    }
    drawn = edit_draws.draw_columns(model, columns, 3.0, SAMPLING).pictures
    for name, prompts in (("source", PROMPTS), ("redraw", EDITED)):
        assert torch.equal(drawn[name], draw(model, prompts, 3.0, SAMPLING))
    assert not torch.equal(drawn["swap"], drawn["redraw"])


def test_each_pair_in_a_batch_is_edited_as_if_it_were_alone(model):
    windows = edit_draws.Windows(0.8, 0.4)
    nouns = [("cat", "dog"), ("owl", "palm tree")]

    def drawn(scenes: slice, seed: int) -> dict[str, torch.Tensor]:
        prompts, edited = PROMPTS[scenes], EDITED[scenes]
        columns = {
            "source": edit_draws.Column(prompts),
            "swap": edit_draws.Column(edited, [edit_draws.swap_by(windows)] * len(edited)),
            "blend": edit_draws.Column(
                edited, [edit_draws.blend_by(windows, pair) for pair in nouns[scenes]]
            ),
            "weight": edit_draws.Column(
                prompts, [edit_draws.weigh_by(windows, "background", 3.0)] * len(edited)
            ),
        }
        how = Sampling("dpm_solver", 3, 2, seed, "linspace")
        return edit_draws.draw_columns(model, columns, 3.0, how).pictures

    together = drawn(slice(0, 2), 5)
    for k in range(2):
        alone = drawn(slice(k, k + 1), 5 + k)
        for name, pictures in together.items():
            # Batches of other sizes round differently, by up to 2e-4 of a decoded picture; another
            # pair's edit is a thousand times further away.
            torch.testing.assert_close(pictures[k : k + 1], alone[name], atol=2e-3, rtol=0)


class _Adds(Controller):
    """Adds an amount to what it is given, maps and latents."""

    def __init__(self, amount: float):
        self.amount, self.seen = amount, []

    def __call__(self, probs, site, moment, rows):  # noqa: ARG002
        self.seen += rows
        return probs + self.amount

    def after_step(self, x, moment):  # noqa: ARG002
        return x + self.amount


def test_branches_change_their_own_pictures_and_count_them_from_zero():
    first, second = _Adds(1.0), _Adds(10.0)
    branches = edit_draws.Branches([(first, (0, 2)), (second, (3,))])
    site, moment = Site("attn2", "up", "cross", 0, 2), Moment(0, 2)
    rows = [Row("uncond", 2), Row("cond", 1), Row("cond", 2), Row("cond", 3)]
    probs = torch.zeros(4, 1, 2, 2)
    used = branches(probs, site, moment, rows)
    assert used[:, 0, 0, 0].tolist() == [1, 0, 1, 10]
    assert not probs.any()
    assert first.seen == [Row("uncond", 1), Row("cond", 1)] and second.seen == [Row("cond", 0)]
    assert branches(probs[:1], site, moment, [Row("cond", 1)]) is None
    assert branches.after_step(torch.zeros(4, 1), moment)[:, 0].tolist() == [1, 0, 1, 10]


def test_a_windowed_store_sees_only_its_steps(model):
    columns = {"source": edit_draws.Column(PROMPTS)}
    looks = [(0.0, 0.0), (0.0, 0.7), (0.7, 1.0), (0.0, 1.0)]
    (stores,) = edit_draws.draw_columns(model, columns, 3.0, SAMPLING, looks).stores
    assert not stores[0.0, 0.0].sites
    early, late, whole = (stores[look].aggregate(2) for look in looks[1:])
    assert whole.shape == (2, 8, 8, 77)
    torch.testing.assert_close(whole, (2 * early + late) / 3, atol=1e-6, rtol=0)
    torch.testing.assert_close(whole.sum(-1), torch.ones(2, 8, 8))


def test_the_shares_of_all_kinds_of_tokens_are_the_whole_attention(model):
    scenes = [
        Scene(("cat",), ((0, 0, 1, 1),), "red", (1, 1), None, "medium", "en", PROMPTS[0]),
        Scene(("owl",), ((0, 0, 1, 1),), "blue", (1, 1), None, "large", "en", PROMPTS[1]),
    ]
    columns = {"source": edit_draws.Column(PROMPTS)}
    drawn = edit_draws.draw_columns(model, columns, 3.0, SAMPLING, edit_maps.LOOKS)
    tokenizer = model.cond_stage_model.tokenizer
    shares = edit_maps.attention_by_token(drawn.stores, scenes, tokenizer)
    assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
    assert shares["padding"] > shares["noun"] > 0  # most of the 77 tokens are padding
    maps = edit_maps.all_maps(drawn.stores[0][edit_maps.ALL])
    assert maps.shape == (2, 8, 8, 77)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 8, 8))


def test_a_weight_from_a_word_on_reaches_the_end_of_the_row(model):
    prompt = read_prompt(model.cond_stage_model.tokenizer, PROMPTS[0])
    edit = edit_draws.weigh_from(edit_draws.Windows(0.8, 0.4), "red", 0.5)(prompt, prompt)
    first = prompt.positions("red")[0]
    assert edit.factors[0].tolist() == [1.0] * first + [0.5] * (77 - first)


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--n", "0"], "--n 0"),
        (["--cross", "1.5"], "--cross 1.5"),
        (["--scale", "1"], "--scale 1"),
        (["--ckpt", "none.safetensors"], "there is no file"),
    ],
)
def test_what_cannot_work_is_one_line_and_exit_code_2(flags, part, capsys, tmp_path):
    assert attention_edit.main([*flags, "--outdir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert part in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_help_imports_no_torch():
    assert not help_imports_torch("benchmarks/attention_edit.py")
