"""The program that draws a model's samples in numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from family_models import write_family_model
from running import load_program
from safetensors.torch import load_file
from tiny_model import write_tiny_model

from ldm.config import load_config


@pytest.fixture(scope="module")
def program():
    return load_program("scripts/sample_diffusion.py")


@pytest.fixture
def model(tmp_path):
    return write_family_model(tmp_path / "church", "unconditional")


@pytest.fixture
def classes(tmp_path):
    return write_family_model(tmp_path / "zoo", "class")


def run(program, *arguments) -> int:
    return program.main([*map(str, arguments), "--device", "cpu"])


def only_run(folder):
    (found,) = folder.glob("samples/*/*")
    return found


def test_samples_an_array_and_the_settings_are_written_where_the_reference_has_them(
    program, model, capsys
):
    assert run(program, "-r", model, "-n", 3, "--batch_size", 2, "-c", 2, "-e", 0) == 0
    folder = only_run(model)
    assert folder.parent.name == "00000000"
    names = [f"sample_{k:06}.png" for k in range(3)]
    assert sorted(p.name for p in (folder / "img").iterdir()) == names
    assert np.load(folder / "numpy" / "3x16x16x3-samples.npz")["arr_0"].shape == (3, 16, 16, 3)
    recorded = load_config(folder / "sampling_config.yaml")
    assert (recorded.n_samples, recorded.custom_steps, recorded.eta) == (3, 2, 0.0)
    shown = capsys.readouterr()
    assert str(folder / "img") in shown.out


def test_classes_are_drawn_in_turn_and_written_with_the_array(program, classes):
    given = ("-r", classes / "model.safetensors", "-n", 4, "-c", 1, "--class_label", "3", "0-1")
    assert run(program, *given, "--scale", 2) == 0
    arrays = np.load(only_run(classes) / "numpy" / "4x16x16x3-samples.npz")
    assert arrays["arr_1"].tolist() == [3, 0, 1, 3]


def test_a_text_model_draws_its_prompt(program, tmp_path):
    ckpt = write_tiny_model(tmp_path)
    out = tmp_path / "out"
    assert run(program, "-r", ckpt, "-n", 1, "-c", 1, "--prompt", "a cat", "-l", out) == 0
    assert (only_run(out / tmp_path.name) / "img" / "sample_000000.png").is_file()


def test_words_that_a_text_model_does_not_know_are_named(program, tmp_path, capsys):
    ckpt = write_tiny_model(tmp_path)
    with open(tmp_path / "config.yaml", "a", encoding="utf-8") as config:
        config.write("\nknows: [a, cat]\n")
    given = ("-r", ckpt, "-n", 1, "-c", 1, "--prompt", "a cat by Monet", "-l", tmp_path / "out")
    assert run(program, *given) == 0
    assert "does not know: by, Monet;" in capsys.readouterr().err


def test_a_trainings_folder_gives_its_last_weights_and_its_step(program, model, tmp_path):
    log = tmp_path / "2026-01-01T00-00-00_run"
    (log / "configs").mkdir(parents=True)
    (log / "checkpoints").mkdir()
    (model / "config.yaml").rename(log / "configs" / "2026-01-01T00-00-00-project.yaml")
    state = load_file(model / "model.safetensors")
    torch.save({"state_dict": state, "global_step": 321}, log / "checkpoints" / "last.ckpt")
    assert run(program, "-r", log, "-n", 1, "-c", 1) == 0
    assert only_run(log).parent.name == "00000321"
    assert run(program, "-r", log / "checkpoints" / "last.ckpt", "-n", 1, "-c", 1) == 0
    assert len(list(log.glob("samples/00000321/*"))) == 2


def test_overrides_change_the_configuration(program, model):
    assert run(program, "-r", model, "-n", 1, "-c", 1, "model.params.image_size=4") == 0
    assert (only_run(model) / "numpy" / "1x8x8x3-samples.npz").is_file()


def test_a_continued_run_ends_as_an_uninterrupted_one(program, classes):
    given = ("-r", classes, "-c", 2, "--class_label", 1, 2)
    assert run(program, *given, "-n", 4) == 0
    whole = only_run(classes)
    assert run(program, *given, "-n", 1) == 0
    (begun,) = set(classes.glob("samples/*/*")) - {whole}
    assert run(program, "--continue", begun, "-n", 4) == 0
    arrays = [np.load(f / "numpy" / "4x16x16x3-samples.npz") for f in (whole, begun)]
    assert [p.name for p in (begun / "numpy").iterdir()] == ["4x16x16x3-samples.npz"]
    # Kernels for another batch size may end one level apart.
    gap = np.abs(arrays[0]["arr_0"].astype(int) - arrays[1]["arr_0"].astype(int))
    assert gap.max() <= 1
    assert arrays[0]["arr_1"].tolist() == arrays[1]["arr_1"].tolist()


def test_the_watermark_is_off_unless_asked_for_and_a_run_keeps_its_own(program, model, capsys):
    assert run(program, "-r", model, "-n", 1, "-c", 1) == 0
    assert capsys.readouterr().out.count("--watermark off") == 1
    folder = only_run(model)
    config = folder / "sampling_config.yaml"
    assert "watermark: 'off'" in config.read_text()
    # A run of before there was a choice goes on without one.
    config.write_text(config.read_text().replace("watermark: 'off'\n", ""))
    assert run(program, "--continue", folder, "-n", 2) == 0
    assert run(program, "--continue", folder, "-n", 3, "--watermark", "gentle") == 2
    assert "--watermark was given with --continue" in capsys.readouterr().err


def test_ctrl_c_keeps_what_is_finished_as_pictures_and_as_array(
    program, model, monkeypatch, capsys
):
    from ldm.pipelines.samples import SampleRun

    draw = SampleRun._draw

    def interrupted(self, numbers, done, total):
        if done == 2:
            raise KeyboardInterrupt
        return draw(self, numbers, done, total)

    monkeypatch.setattr(SampleRun, "_draw", interrupted)
    assert run(program, "-r", model, "-n", 6, "--batch_size", 2, "-c", 1) == 130
    folder = only_run(model)
    assert [p.name for p in (folder / "numpy").iterdir()] == ["2x16x16x3-samples.npz"]
    assert "stopped" in capsys.readouterr().err
    monkeypatch.undo()
    assert run(program, "--continue", folder) == 0
    assert np.load(folder / "numpy" / "6x16x16x3-samples.npz")["arr_0"].shape[0] == 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "add --resume"),
        (["-r", "nowhere"], "nothing is there"),
        (["-r", "{model}", "-n", "many"], "--n_samples"),
        (["-r", "{model}", "--sampler", "dim"], "--sampler"),
        (["-r", "{model}", "--class_label", "1"], "has no classes"),
        (["-r", "{model}", "--steps", "3"], "unknown argument '--steps'"),
        (["-r", "{model}", "model.params.chanels=3"], "no parameter 'chanels'; did you mean"),
        (["-r", "{model}", "--classifier", "{model}"], "add --class_label"),
        (["-r", "{model}", "--classifier", "{model}", "--class_label", "1"], "expected a Noisy"),
        (["--continue", "{model}"], "sampling_config.yaml is not there"),
        (["--continue", "{model}", "-c", "3"], "--custom_steps was given with --continue"),
        (["-r", "{model}", "--device", "abacus"], "--device abacus"),
    ],
)
def test_a_users_error_is_one_line_and_exit_code_2(program, model, capsys, arguments, words):
    before = sorted(model.rglob("*"))
    assert program.main([text.format(model=model) for text in arguments]) == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert shown.err.count("\n") == 1 and shown.out == ""
    assert sorted(model.rglob("*")) == before
