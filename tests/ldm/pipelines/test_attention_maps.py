"""Maps of attention in files: names and shapes of the fork, means, panels, nothing replaced."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from attention_walks import LENGTH, probabilities, sites_of_v1, walk
from PIL import Image

from ldm.errors import UserError
from ldm.images import lettering
from ldm.modules.attention_control.moments import Moment
from ldm.modules.attention_control.seam import control_attention
from ldm.modules.attention_control.sites import Site
from ldm.modules.attention_control.words import read_prompt
from ldm.modules.encoders.tokenizer import CLIPTokenizer
from ldm.pipelines.attention_maps import MapWriter
from ldm.pipelines.attention_panels import panel
from ldm.pipelines.attention_plan import planned_bytes
from ldm.settings.generation import Txt2ImgSettings

TOKENIZER = CLIPTokenizer()
SITES = (
    Site("input_blocks.4.1.transformer_blocks.0.attn1", "down", "self", 0, 1),
    Site("input_blocks.4.1.transformer_blocks.0.attn2", "down", "cross", 1, 1),
    Site("middle_block.1.transformer_blocks.0.attn2", "mid", "cross", 2, 2),
    Site("output_blocks.2.1.transformer_blocks.0.attn2", "up", "cross", 3, 1),
)
LATENT = (4, 6)


def prompts(*texts: str):
    return [read_prompt(TOKENIZER, text) for text in texts or ("a cat",)]


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def arrays(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.load(path) for path in sorted((folder / "crossatt").glob("*.npy"))}


def picture(seed: int = 0, size: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def test_at_512_pixels_names_and_shapes_are_those_that_the_forks_viewers_read(tmp_path):
    walk(MapWriter(tmp_path / "m", prompts()), sites_of_v1(), (64, 64), rows=2)
    found = {name: maps.shape for name, maps in arrays(tmp_path / "m").items()}
    blocks = {
        "down": {64: (1, 2), 32: (4, 5), 16: (7, 8)},
        "up": {16: (3, 4, 5), 32: (6, 7, 8), 64: (9, 10, 11)},
    }
    expected = {
        f"{place}_time0981_res{side:03d}_num{number:03d}.npy": (2, side, side, 77)
        for place, sides in blocks.items()
        for side, numbers in sides.items()
        for number in numbers
    }
    assert found == expected | {"middle_time0981_res008.npy": (2, 8, 8, 77)}


def test_a_file_holds_the_mean_over_heads_of_the_conditional_rows(tmp_path):
    walk(MapWriter(tmp_path / "m", prompts()), SITES, LATENT, rows=2)
    maps = arrays(tmp_path / "m")["down_time0981_res004x006_num004.npy"]
    site = replace(SITES[1], side=LATENT)
    wanted = torch.stack([probabilities(site, 0, row).mean(0).view(4, 6, -1) for row in range(2)])
    np.testing.assert_array_equal(maps, wanted.numpy())


def test_every_place_of_a_map_spreads_one_over_the_tokens(tmp_path):
    walk(MapWriter(tmp_path / "m", prompts()), SITES, LATENT, steps=2)
    found = arrays(tmp_path / "m")
    assert len(found) == 6
    for maps in found.values():
        assert maps.dtype == np.float32
        np.testing.assert_allclose(maps.sum(-1), 1.0, atol=1e-5)


def test_the_mean_of_the_files_is_the_mean_that_is_kept(tmp_path):
    walk(MapWriter(tmp_path / "m", prompts()), SITES, LATENT, rows=2, steps=3)
    found = arrays(tmp_path / "m")
    with np.load(tmp_path / "m/maps.npz", allow_pickle=False) as means:
        for name, start in {"res004x006": ("down", "up"), "middle_res002x003": "middle"}.items():
            files = [maps for file, maps in found.items() if file.startswith(start)]
            assert len(files) == (6 if name.startswith("res") else 3)
            np.testing.assert_allclose(means[name], np.mean(files, axis=0), rtol=1e-5)


def test_the_means_come_with_the_tokens_and_the_words_they_belong_to(tmp_path):
    walk(MapWriter(tmp_path / "m", prompts("赤い cat")), SITES, LATENT, steps=2)
    with np.load(tmp_path / "m/maps.npz", allow_pickle=False) as means:
        assert str(means["prompt"]) == "赤い cat" and means["steps"] == 2
        assert means["words"].tolist() == ["赤", "い", "cat"]
        assert means["ids"].shape == means["tokens"].shape == (LENGTH,)
        cat = int(np.flatnonzero(means["tokens"] == "cat")[0])
        assert np.flatnonzero(means["word_tokens"][2]).tolist() == [cat]


@pytest.mark.parametrize("part", [1, 2, 3, 5])
def test_rows_in_parts_give_the_same_files_to_the_byte(tmp_path, part):
    texts = ("a cat", "a dog", "a cow")
    walk(MapWriter(tmp_path / "whole", prompts(*texts)), SITES, LATENT, rows=6, steps=2)
    walk(MapWriter(tmp_path / "parts", prompts(*texts)), SITES, LATENT, rows=6, steps=2, part=part)
    assert contents(tmp_path / "whole") == contents(tmp_path / "parts")


def test_each_prompt_of_a_batch_has_its_rows_in_a_folder_of_its_own(tmp_path):
    walk(MapWriter(tmp_path / "all", prompts("a cat")), SITES, LATENT, rows=6)
    walk(MapWriter(tmp_path / "m", prompts("a cat", "a dog", "a cow")), SITES, LATENT, rows=6)
    whole = arrays(tmp_path / "all")
    for place, name in enumerate(["source", "", "target2"]):
        mine = arrays(tmp_path / "m" / name)
        assert mine.keys() == whole.keys()
        for file, maps in mine.items():
            np.testing.assert_array_equal(maps, whole[file][2 * place : 2 * place + 2])
        with np.load(tmp_path / "m" / name / "maps.npz") as means:
            assert str(means["prompt"]) == ["a cat", "a dog", "a cow"][place]
            assert means["res004x006"].shape == (2, 4, 6, 77)


def test_every_and_half_write_less_and_leave_the_mean_as_it_is(tmp_path):
    walk(MapWriter(tmp_path / "all", prompts()), SITES, LATENT, steps=5)
    walk(MapWriter(tmp_path / "few", prompts(), every=2, half=True), SITES, LATENT, steps=5)
    whole, few = arrays(tmp_path / "all"), arrays(tmp_path / "few")
    assert {name.split("_")[1] for name in few} == {"time0981", "time0941", "time0901"}
    for name, maps in few.items():
        assert maps.dtype == np.float16
        np.testing.assert_array_equal(maps, whole[name].astype(np.float16))
    assert (tmp_path / "all/maps.npz").read_bytes() == (tmp_path / "few/maps.npz").read_bytes()


def test_of_several_calls_in_a_step_the_first_is_written(tmp_path):
    walk(MapWriter(tmp_path / "one", prompts()), SITES, LATENT, steps=2)
    walk(MapWriter(tmp_path / "two", prompts()), SITES, LATENT, steps=2, evaluations=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_what_others_predict_before_a_step_is_not_taken_for_the_step(tmp_path):
    writer = MapWriter(tmp_path / "m", prompts())
    writer.begin(SITES)
    assert not writer.wants(SITES[1], Moment(0, 2, 981))
    writer.before_step(torch.zeros(1, 4, *LATENT), Moment(0, 2, 981), lambda x: x)
    assert writer.wants(SITES[1], Moment(0, 2, 981))
    assert not writer.wants(SITES[0], Moment(0, 2, 981))  # self-attention keeps its kernel
    assert not writer.wants(SITES[1], Moment(0, 2, 981, evaluation=1))


def test_later_batches_have_folders_of_their_own(tmp_path):
    writer = MapWriter(tmp_path / "m", prompts("a cat", "a dog"))
    for _ in range(3):
        walk(writer, SITES, LATENT, rows=2)
        writer.take(picture(), 0)
        writer.take(picture(), 1)
    kept = contents(tmp_path / "m")
    for folder in ("", "batch0001/", "batch0002/"):
        for role in ("", "source/"):
            assert f"{folder}{role}maps.npz" in kept
            assert f"{folder}{role}panel_00000.png" in kept
            assert f"{folder}{role}crossatt/middle_time0981_res002x003.npy" in kept
    assert not any("batch0003" in name for name in kept)


def test_another_try_at_a_batch_replaces_what_the_first_left(tmp_path):
    writer = MapWriter(tmp_path / "m", prompts())
    walk(writer, SITES, LATENT, steps=3, stop_after=2)
    walk(writer, SITES, LATENT, steps=3)
    writer.take(picture(), 0)
    walk(MapWriter(tmp_path / "straight", prompts()), SITES, LATENT, steps=3)
    kept = contents(tmp_path / "m")
    panels = {name for name in kept if name.endswith(".png")}
    assert panels == {"panel_00000.png", "steps_00000.png"}
    rest = {name: data for name, data in kept.items() if name not in panels}
    assert rest == contents(tmp_path / "straight")


def test_maps_of_an_earlier_run_are_left_alone(tmp_path):
    walk(MapWriter(tmp_path / "m", prompts("a dog")), SITES, LATENT)
    before = contents(tmp_path / "m")
    for number in (2, 3):
        writer = MapWriter(tmp_path / "m", prompts())
        assert writer.folder.path == tmp_path / f"m-{number}"
        walk(writer, SITES, LATENT)
        assert f"m-{number}" in writer.finish()
    assert contents(tmp_path / "m") == before
    assert contents(tmp_path / "m-2") == contents(tmp_path / "m-3")


def test_two_runs_that_begin_at_once_do_not_share_a_folder(tmp_path):
    first, second = (MapWriter(tmp_path / "m", prompts(text)) for text in ("a cat", "a dog"))
    walk(first, SITES, LATENT)
    walk(second, SITES, LATENT, rows=2)
    assert arrays(tmp_path / "m")["middle_time0981_res002x003.npy"].shape[0] == 1
    assert arrays(tmp_path / "m-2")["middle_time0981_res002x003.npy"].shape[0] == 2


def test_a_run_that_dies_while_writing_leaves_only_whole_files(tmp_path, monkeypatch):
    save, calls = np.save, []

    def dies(file, *args, **kwargs):
        calls.append(file)
        if len(calls) == 5:
            file.write(b"half")
            raise KeyboardInterrupt
        save(file, *args, **kwargs)

    monkeypatch.setattr(np, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        walk(MapWriter(tmp_path / "m", prompts()), SITES, LATENT, steps=4)
    assert len(contents(tmp_path / "m")) == len(arrays(tmp_path / "m")) == 4


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(UserError, match="No space left on device"):
        walk(MapWriter(tmp_path / "m", prompts()), SITES, LATENT)


def test_a_panel_shows_the_maps_of_its_own_row_and_prompt(tmp_path):
    given = prompts("a cat", "a dog")
    writer = MapWriter(tmp_path / "m", given)
    walk(writer, SITES, LATENT, rows=4)
    for row in range(4):
        writer.take(picture(row), row)
    for row in range(4):
        prompt, sample = divmod(row, 2)
        folder = tmp_path / "m" / ("source" if prompt == 0 else "")
        with np.load(folder / "maps.npz") as means:
            shown = panel(picture(row), means["res004x006"][sample], given[prompt].words())
        with Image.open(folder / f"panel_{sample:05d}.png") as image:
            np.testing.assert_array_equal(np.asarray(image), shown)


def test_prompts_that_do_not_share_a_batch_evenly_are_refused(tmp_path):
    with pytest.raises(UserError, match="batch of 3 pictures for 2 prompts"):
        walk(MapWriter(tmp_path / "m", prompts("a", "b")), SITES, LATENT, rows=3)


def test_prompts_read_with_another_tokenizer_are_refused(tmp_path):
    prompt = prompts()[0]
    short = replace(prompt, ids=prompt.ids[:40], spans=prompt.spans[:40])
    with pytest.raises(UserError, match="77 tokens and the prompts were read as 40"):
        walk(MapWriter(tmp_path / "m", [short]), SITES, LATENT)


def test_a_step_count_below_one_is_refused(tmp_path):
    with pytest.raises(UserError, match="--every 0"):
        MapWriter(tmp_path / "m", prompts(), every=0)


def test_pictures_of_no_batch_are_refused_and_no_walk_is_no_error(tmp_path):
    writer = MapWriter(tmp_path / "m", prompts())
    writer.take(picture(), 0)
    assert "no step was taken" in writer.finish()
    walk(writer, SITES, LATENT)
    with pytest.raises(ValueError, match="row 1 of 1"):
        writer.take(picture(), 1)


def test_a_prompt_without_words_has_maps_and_no_panels(tmp_path):
    writer = MapWriter(tmp_path / "m", prompts("", "!!"))
    walk(writer, SITES, LATENT, rows=2)
    writer.take(picture(), 0)
    writer.take(picture(), 1)
    assert not [name for name in contents(tmp_path / "m") if name.endswith(".png")]
    assert len(arrays(tmp_path / "m/source")) == 3


def test_words_that_no_font_can_write_are_said_once(tmp_path, monkeypatch):
    monkeypatch.setattr(lettering, "_fonts", lambda: iter([lettering._PillowFont(None)]))
    said = []
    writer = MapWriter(tmp_path / "m", prompts("猫 cat"), observer=said.append)
    walk(writer, SITES, LATENT, rows=2)
    writer.take(picture(), 0)
    writer.take(picture(1), 1)
    assert len(said) == 1 and said[0].warning
    assert "'猫'" in said[0].text and "cat" not in said[0].text.split(":")[0]
    assert len(list((tmp_path / "m").glob("panel_*.png"))) == 2


def test_a_run_of_a_model_writes_what_was_announced_and_draws_the_same(tmp_path, pipeline):
    settings = Txt2ImgSettings(prompt="a cat", n_samples=2, n_iter=2, ddim_steps=4, H=16, W=16)
    plain = [each.plain for each in pipeline.generate(settings)]
    writer = MapWriter(tmp_path / "m", prompts("a cat"), every=2)
    said = writer.announce(pipeline.model, (8, 8), steps=4, n_samples=2, batches=2)
    assert "16 files" in said and str(tmp_path / "m") in said
    with control_attention(pipeline.model, writer):
        for each, other in zip(pipeline.generate(settings), plain, strict=True):
            writer.take(each.plain, each.place.row)
            np.testing.assert_array_equal(each.plain, other)
    again = MapWriter(tmp_path / "m", prompts("a cat"))
    said = again.announce(pipeline.model, (8, 8), steps=4, n_samples=2)
    assert f"go to {tmp_path / 'm-2'}" in said and f"{tmp_path / 'm'} holds the maps" in said
    files = list((tmp_path / "m").rglob("*.npy"))
    expected = planned_bytes(pipeline.model, (8, 8), 4, 2, every=2)
    assert sum(path.stat().st_size for path in files) == 2 * expected
    assert "16 files" in writer.finish() and "4 picture(s)" in writer.finish()
    for name in ("panel_00001.png", "batch0001/steps_00000.png"):
        with Image.open(tmp_path / "m" / name) as image:
            image.load()


@pytest.mark.parametrize("sampler", ["plms", "dpm_solver", "heun", "euler_a", "lms"])
def test_samplers_of_every_kind_leave_one_file_a_layer_and_step(tmp_path, pipeline, sampler):
    settings = Txt2ImgSettings(
        prompt="a cat", n_iter=1, n_samples=1, ddim_steps=4, H=16, W=16, sampler=sampler
    )
    writer = MapWriter(tmp_path / "m", prompts("a cat"))
    with control_attention(pipeline.model, writer):
        list(pipeline.generate(settings))
    found = arrays(tmp_path / "m")
    with np.load(tmp_path / "m/maps.npz") as means:
        steps = int(means["steps"])
    assert len(found) == 4 * steps and steps >= 4
