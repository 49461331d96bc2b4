"""Where words look is watched beside an edit, kept small, and drawn over the picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attention_walks import sites_of_v1
from PIL import Image

from ldm.modules.attention_control.moments import Moment
from ldm.modules.attention_control.store import AttentionStore
from ldm.modules.attention_control.words import read_prompt
from ldm.settings.swap import LowMemorySwapSettings
from optimizedSD.web.word_maps import TILE, Looks, WordMaps, heat_maps

PROMPTS = ("a photo of a cat", "a photo of a big dog")
SETTINGS = LowMemorySwapSettings(
    sprompt=PROMPTS[0], prompt=PROMPTS[1], is_swap=True, ddim_steps=3, n_samples=2, n_iter=2, seed=7
)


def watcher_for(pipeline, pictures=2):
    tokenizer = pipeline.model.cond_stage_model.tokenizer
    return WordMaps([read_prompt(tokenizer, text) for text in PROMPTS], pictures)


@pytest.fixture(scope="module")
def watched(pipeline):
    """The pictures of a run, each with its looks, and those of a run that nobody watched."""
    watcher = watcher_for(pipeline)
    drawn = [(p, watcher.looks(p)) for p in pipeline.generate(SETTINGS, controller=watcher)]
    return drawn, list(pipeline.generate(SETTINGS))


def test_watching_changes_no_picture(watched):
    drawn, alone = watched
    assert len(drawn) == len(alone) == 8
    for (picture, _), other in zip(drawn, alone, strict=True):
        assert np.array_equal(picture.pixels, other.pixels)


def test_each_picture_has_a_map_for_each_word_of_its_own_prompt(watched):
    for picture, looks in watched[0]:
        assert list(looks.words) == PROMPTS[picture.number].split()
        assert looks.maps.shape == (len(looks.words), 4, 4)
        assert (looks.maps.max(axis=(1, 2)) == 255).all()


def test_maps_are_of_the_picture_itself_and_not_of_another(watched, pipeline):
    """Each is what a run of that picture alone gives."""
    for picture, looks in watched[0]:
        if picture.number == 0:
            watcher = watcher_for(pipeline, 1)
            alone = LowMemorySwapSettings(
                sprompt=PROMPTS[0],
                prompt=PROMPTS[1],
                is_swap=True,
                ddim_steps=3,
                seed=picture.seed,
            )
            found = {
                p.number: watcher.looks(p) for p in pipeline.generate(alone, controller=watcher)
            }
            assert np.abs(found[0].maps.astype(int) - looks.maps).max() <= 1
    for number in (0, 1):
        maps = [looks.maps.tobytes() for picture, looks in watched[0] if picture.number == number]
        assert len(set(maps)) == len(maps) == 4


def test_a_map_is_the_mean_of_the_maps_that_the_layers_of_one_size_used(watched, pipeline):
    store = AttentionStore(("cross",), least_rate=1, dtype=torch.float32)
    pictures = pipeline.generate(SETTINGS, controller=store)
    picture = next(each for each in pictures if each.number == 1)
    prompt = read_prompt(pipeline.model.cond_stage_model.tokenizer, PROMPTS[1])
    mean = store.aggregate(2)[2 + picture.place.row]
    pictures.close()
    (looks,) = [
        looks for p, looks in watched[0] if (p.number, p.place.index) == (1, picture.place.index)
    ]
    for word, found in zip(looks.words, looks.maps, strict=True):
        if looks.words.count(word) == 1:
            expected = mean[..., list(prompt.positions(word))].mean(-1)
            assert np.abs(found / 255 - (expected / expected.max()).numpy()).max() < 0.01


def test_layers_of_other_sizes_keep_their_fused_kernel():
    """Of Stable Diffusion's those of 16x16 are watched, as published; mid has 8x8."""
    watcher = WordMaps((), 1)
    watcher.begin(sites_of_v1())
    wanted = [site for site in sites_of_v1() if watcher.wants(site, Moment(0, 50))]
    assert {(site.kind, site.rate) for site in wanted} == {("cross", 4)}
    assert {site.place for site in wanted} == {"down", "up"}


def test_heads_are_not_kept_apart(pipeline):
    watcher = watcher_for(pipeline)
    next(pipeline.generate(SETTINGS, controller=watcher))
    assert all(watcher.mean(path).shape[1] == 1 for path in watcher.sites)


def test_a_picture_that_nobody_watched_has_no_maps(pipeline):
    picture = next(pipeline.generate(SETTINGS))
    assert watcher_for(pipeline).looks(picture) is None


def test_heat_is_laid_over_the_picture_where_the_word_looks(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("RGB", (32, 16), "white").save(path)
    maps = np.zeros((2, 4, 8), np.uint8)
    maps[0, :, :4], maps[1, :, 4:] = 255, 255
    (left, cat), (right, dog) = heat_maps(path, Looks(("cat", "犬"), maps))
    assert (cat, dog) == ("cat", "犬")
    assert left.size == right.size == (TILE, TILE // 2)
    bright = np.asarray(left.convert("L"), dtype=float)
    assert bright[:, : TILE // 4].min() > bright[:, -TILE // 4 :].max()
    assert np.array_equal(np.asarray(left)[:, ::-1], np.asarray(right))
