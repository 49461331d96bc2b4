"""The Japanese benchmark: run whole on a small untrained model, its wordings and its arithmetic."""

from __future__ import annotations

import unicodedata
from types import SimpleNamespace

import pytest
from emoji_font import needs_font
from running import help_imports_torch
from small_demo import write_small_demo

from benchmarks import japanese, reports
from benchmarks.demo_measures import held_out_prompts
from benchmarks.japanese_wordings import KINDS, SPELLINGS, half_width, wordings
from ldm.data.demo.scene_vocabulary import NOUNS
from ldm.translation.translate import Translator

TRANSLATE = Translator()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


@needs_font
def test_the_program_draws_three_ways_counts_words_and_writes_what_it_prints(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(reports, "RESULTS", tmp_path / "results")
    config, ckpt = write_small_demo(tmp_path)
    flags = ["--config", str(config), "--ckpt", str(ckpt), "--outdir", str(tmp_path / "out")]
    assert japanese.main([*flags, "--n", "5", "--steps", "1", "--show", "2", "--save", "x"]) == 0
    printed = capsys.readouterr().out
    saved = (tmp_path / "results" / "japanese-x.md").read_text(encoding="utf-8")
    assert saved == f"# Prompts in Japanese\n\n{printed}"
    drawn = {row[0]: row[1:] for row in map(cells, printed.splitlines()) if len(row) == 8}
    assert list(drawn) == ["prompts", "---", "all", *KINDS]
    assert [drawn[kind][0] for kind in ("all", *KINDS)] == ["5", "1", "1", "1", "1", "1"]
    assert drawn["all"][1] == "0.0 %"  # untrained
    known = {row[0]: row[1:] for row in map(cells, printed.splitlines()) if len(row) == 7}
    assert [known[half][0] for half in ("tended", "held out")] == ["150", "150"]
    verdicts = (tmp_path / "out" / "verdicts.txt").read_text(encoding="utf-8").splitlines()
    assert len(verdicts) == 15 and all(line.startswith("WRONG") for line in verdicts)


@needs_font
def test_every_wording_names_the_things_and_the_background_of_its_scene():
    scenes = held_out_prompts(100, "en", seed=7)
    made = wordings(scenes, seed=3)
    assert [kind for kind, _ in made[:5]] == list(KINDS)
    assert made == wordings(scenes, seed=3) != wordings(scenes, seed=4)
    for scene, (_, prompt) in zip(scenes, made, strict=True):
        english, left_out = TRANSLATE(prompt).english, TRANSLATE(prompt).left_out
        assert left_out == ()
        for word in (*scene.objects, f"{scene.background} background"):
            assert word in english, (prompt, english)


def test_another_spelling_of_a_noun_is_another_and_is_known():
    assert SPELLINGS.keys() == NOUNS.keys()
    for noun, spellings in SPELLINGS.items():
        assert spellings and NOUNS[noun].japanese not in spellings
        assert {TRANSLATE.word(spelling).english for spelling in spellings} == {noun}


def test_half_width_letters_are_the_same_text():
    text = "赤いパンダとヴァイオリン、ハンバーガー"
    half = half_width(text)
    assert unicodedata.normalize("NFKC", half) == text
    assert half.startswith("赤いﾊﾟﾝﾀﾞと")


def test_words_are_counted_without_particles_and_latin_letters():
    found = japanese.coverage(["8kの赤い猫の写真", "ヌヌヌの猫を描いてください", "a cat"])
    assert (found.prompts, found.whole, found.words, found.own) == (3, 2, 5, 4)
    assert found.unknown == ("ヌヌヌ",) and found.known == pytest.approx(4 / 5)


def test_the_prompts_are_300_different_ones_in_japanese():
    prompts = japanese.read_prompts(japanese.PROMPTS)
    assert len(prompts) == len(set(prompts)) == 300
    assert all(map(japanese.has_cjk, prompts))


def seen(noun, background):
    return SimpleNamespace(found=[SimpleNamespace(noun=noun)], background=background)


def test_a_way_may_be_3_points_behind_english_and_no_more():
    scene = SimpleNamespace(objects=("cat",), background="red")
    prompts = [japanese.Prompt(scene, KINDS[k % 5], {}) for k in range(100)]

    def sights(wrong_things, wrong_colours):
        nouns = ["dog"] * wrong_things + ["cat"] * (100 - wrong_things)
        colours = ["blue"] * wrong_colours + ["red"] * (100 - wrong_colours)
        return [seen(*each) for each in zip(nouns, colours, strict=True)]

    lines = japanese.drawing_table(
        prompts,
        {
            japanese.ENGLISH: sights(0, 1),
            japanese.DIRECT: sights(3, 5),
            japanese.TRANSLATED: sights(4, 0),
        },
    )
    *table, _, direct, direct_colour, translated, translated_colour = lines
    assert cells(table[2])[2:] == ["100.0 %", "99.0 %", "97.0 %", "95.0 %", "96.0 %", "100.0 %"]
    assert [cells(line)[1] for line in table[3:]] == ["20"] * 5
    assert direct.endswith("points: reached") and direct_colour.endswith("points: not reached")
    assert translated.endswith(": not reached") and translated_colour.endswith("points: reached")


@pytest.mark.parametrize(
    ("flags", "part"),
    [(["--ckpt", "none.safetensors"], "there is no file"), (["--n", "1"], "--n 1 was given")],
)
def test_what_cannot_work_is_one_line_and_exit_code_2(flags, part, capsys, tmp_path):
    assert japanese.main([*flags, "--outdir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert part in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_help_imports_no_torch():
    assert not help_imports_torch("benchmarks/japanese.py")
