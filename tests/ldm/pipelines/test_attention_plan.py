"""The size of what will be written is known, and too much is refused with what would be less."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from attention_walks import sites_of_v1, walk

from ldm.budgets import ATTENTION_MAPS
from ldm.errors import UserError
from ldm.modules.attention_control.words import read_prompt
from ldm.modules.encoders.tokenizer import CLIPTokenizer
from ldm.pipelines.attention_maps import MapWriter
from ldm.pipelines.attention_plan import MapPlan

MAP_VALUES = (5 * (64**2 + 32**2 + 16**2) + 8**2) * 77  # of a picture at 512 pixels


def plan(**fields) -> MapPlan:
    cross = [site for site in sites_of_v1() if site.kind == "cross"]
    sites = tuple(replace(s, side=(64 // s.rate, 64 // s.rate)) for s in cross)
    return MapPlan(sites=sites, **{"steps": 50, **fields})


def test_stable_diffusions_maps_at_512_pixels_take_what_their_numbers_take():
    numbers = 16 * 50 * 128
    assert plan().files == 800
    assert plan().bytes == MAP_VALUES * 4 * 50 + numbers
    assert plan(half=True).bytes == MAP_VALUES * 2 * 50 + numbers
    assert plan(n_samples=3, prompts=2, batches=4).bytes == 8 * (MAP_VALUES * 600 + numbers)
    assert plan(every=7).bytes == 8 * (MAP_VALUES * 4 + 16 * 128)


@pytest.mark.parametrize("every, half", [(1, False), (2, False), (3, True)])
def test_the_plan_is_the_size_of_the_files_to_the_byte(tmp_path, every, half):
    prompts = [read_prompt(CLIPTokenizer(), text) for text in ("a cat", "a dog")]
    writer = MapWriter(tmp_path / "m", prompts, every=every, half=half)
    walk(writer, sites_of_v1(), (16, 24), rows=4, steps=4)
    cross = [site for site in sites_of_v1() if site.kind == "cross"]
    sites = tuple(replace(s, side=(16 // s.rate, 24 // s.rate)) for s in cross)
    planned = MapPlan(sites=sites, steps=4, n_samples=2, prompts=2, every=every, half=half)
    files = list((tmp_path / "m").rglob("*.npy"))
    assert len(files) == planned.files
    assert sum(path.stat().st_size for path in files) == planned.bytes


def test_too_much_is_refused_with_flags_that_are_enough(tmp_path):
    too_much = plan(n_samples=6, prompts=2)
    assert too_much.bytes > 2 * ATTENTION_MAPS
    with pytest.raises(UserError, match=r"take 4\.98 GB; expected at most 2\.00 GB") as caught:
        too_much.check(tmp_path / "m")
    message = str(caught.value)
    assert "--every 3 (1.69 GB)" in message and "--every 2 --half (1.24 GB)" in message
    assert not re.search(r"give --half|or --half", message)  # 2.49 GB: not enough
    for every, half in ((3, False), (2, True)):
        replace(too_much, every=every, half=half).check(tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_half_alone_is_offered_where_it_is_enough(tmp_path):
    with pytest.raises(UserError, match=r"give --half \(1\.66 GB\) or --every 2 \(1\.66 GB\)"):
        plan(n_samples=8).check(tmp_path)
    with pytest.raises(UserError, match=r"give --every 2 --half"):
        plan(n_samples=12, half=True).check(tmp_path)


def test_where_no_flag_is_enough_fewer_pictures_are_advised(tmp_path):
    with pytest.raises(UserError, match="--every 50 --half still makes .* draw fewer"):
        plan(n_samples=1000).check(tmp_path)


def test_a_disk_without_room_is_refused_before_drawing(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10**8))
    with pytest.raises(UserError, match=r"needs 0\.42 GB and 0\.10 GB are free there"):
        plan().check(tmp_path / "deep" / "er")
    plan(every=10).check(tmp_path / "deep" / "er")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--save_attn_dir"):
        plan().check(tmp_path / "file" / "m")


def test_the_sentence_names_place_files_and_size(tmp_path):
    assert plan().sentence("m") == "attention maps of every step go to m: 800 files, 0.42 GB"
    assert "one step in 5 go to m: 160 files, 83.0 MB" in plan(every=5).sentence("m")


def test_a_plan_of_a_model_has_its_cross_attention_at_the_sides_of_the_size(pipeline):
    sites = MapPlan.of(pipeline.model, (9, 12), steps=1).sites
    assert {(site.kind, site.side) for site in sites} == {("cross", (5, 6))}


def test_an_impossible_every_is_refused(pipeline):
    with pytest.raises(UserError, match="--every 0"):
        MapPlan.of(pipeline.model, (8, 8), steps=1, every=0)
