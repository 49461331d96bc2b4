"""The demo data set: repeatable, held-out combinations kept out, captions that tell the truth."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from emoji_font import needs_font
from torch.utils.data import DataLoader

from ldm.data.demo import glyphs
from ldm.data.demo.scene_captions import english_caption, japanese_caption, with_article
from ldm.data.demo.scene_vocabulary import COLOURS, NOUNS, RELATIONS, SIZES
from ldm.data.demo.scenes import SceneDataset, is_held_out, render
from ldm.errors import UserError


def _first(options):
    return options[0]


def _gap(scene, axis: int) -> float:
    """Free space between the first object and the second along x (0) or y (1)."""
    first, second = scene.boxes
    return second[axis] - first[axis + 2]


@pytest.fixture(scope="module")
def scenes():
    data = SceneDataset(size=64, length=4000, seed=3)
    return [data.scene(k) for k in range(len(data))]


# --- vocabulary and captions: no font needed ---


def test_the_vocabulary_is_as_large_as_promised_and_has_no_repeats():
    assert 64 <= len(NOUNS) <= 72
    assert {"astronaut", "horse", "house", "tree", "rocket"} <= set(NOUNS)
    assert len(COLOURS) >= 8
    for field in ("japanese", "emoji"):
        assert len({getattr(noun, field) for noun in NOUNS.values()}) == len(NOUNS)
    assert len({colour.japanese for colour in COLOURS.values()}) == len(COLOURS)


def test_background_colours_are_far_apart():
    rgb = np.array([colour.rgb for colour in COLOURS.values()], dtype=float)
    distance = np.linalg.norm(rgb[:, None] - rgb[None], axis=-1) + 1e9 * np.eye(len(rgb))
    assert distance.min() > 80


def test_shares_of_sizes_and_relations_add_up_to_one():
    for table in (SIZES, RELATIONS):
        assert sum(entry.share for entry in table.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("phrase", "expected"), [("astronaut", "an astronaut"), ("small owl", "a small owl")]
)
def test_the_article_fits_the_word_after_it(phrase, expected):
    assert with_article(phrase) == expected


def test_the_headline_prompt_is_a_caption():
    kinds = iter(["{a} riding {b}", "a photograph of {x}"])
    caption = english_caption(("astronaut", "horse"), None, "riding", None, lambda _: next(kinds))
    assert caption == "a photograph of an astronaut riding a horse"


def test_captions_name_size_and_background():
    assert (
        english_caption(("owl",), "small", None, "orange", _first)
        == "a photo of a small owl on an orange background"
    )
    assert english_caption(("owl",), "medium", None, None, _first) == "a photo of an owl"


def test_japanese_captions_put_the_background_where_japanese_does():
    assert (
        japanese_caption(("astronaut", "horse"), None, "riding", "blue", _first)
        == "馬に乗っている宇宙飛行士の写真、青い背景"
    )
    last = japanese_caption(("cat",), "large", None, "red", lambda options: options[-1])
    assert last == "赤い背景に大きな猫"


def test_the_headline_combination_is_trained_on_most_backgrounds():
    kept = [c for c in COLOURS if not is_held_out(("astronaut", "horse"), "riding", c)]
    assert len(kept) >= 0.75 * len(COLOURS)


def test_about_one_in_twenty_combinations_is_held_out_and_no_noun_or_colour_loses_most():
    lone = {
        (noun, colour): [is_held_out((noun,), size, colour) for size in SIZES]
        for noun in NOUNS
        for colour in COLOURS
    }
    assert 0.03 < np.mean(list(lone.values())) < 0.07
    for noun in NOUNS:
        assert np.mean([lone[noun, colour] for colour in COLOURS]) < 0.4
    for colour in COLOURS:
        assert np.mean([lone[noun, colour] for noun in NOUNS]) < 0.2


@pytest.mark.parametrize(
    "wrong",
    [
        {"split": "test"},
        {"languages": ("fr",)},
        {"languages": ()},
        {"size": 4},
        {"pair_share": 2},
        {"japanese_share": -0.1},
    ],
)
def test_a_wrong_setting_is_a_user_error(wrong):
    with pytest.raises(UserError, match="expected"):
        SceneDataset(**wrong)


def test_a_missing_font_is_a_user_error_that_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setenv(glyphs.FONT_VARIABLE, str(tmp_path / "none.ttf"))
    with pytest.raises(UserError, match="apt-get install fonts-noto-color-emoji"):
        SceneDataset()
    monkeypatch.delenv(glyphs.FONT_VARIABLE)
    monkeypatch.setattr(glyphs, "_FONT_FOLDERS", (str(tmp_path),))
    with pytest.raises(UserError, match="apt-get install fonts-noto-color-emoji"):
        glyphs.find_font()


def test_a_file_that_is_no_font_is_a_user_error(monkeypatch, tmp_path):
    path = tmp_path / "NotoColorEmoji.ttf"
    path.write_bytes(b"not a font")
    monkeypatch.setenv(glyphs.FONT_VARIABLE, str(path))
    with pytest.raises(UserError, match="cannot be loaded"):
        glyphs.glyph_image.__wrapped__("x")


# --- glyphs ---


@needs_font
def test_each_noun_is_drawn_as_one_glyph_and_no_two_are_alike():
    seen = []
    for noun in NOUNS.values():
        image = glyphs.glyph_image(noun.emoji)
        assert max(image.size) <= 140, f"{noun.english} was drawn as several glyphs"
        small = np.asarray(image.convert("RGBa").resize((30, 30)), dtype=float) / 255
        seen.append(small.ravel())
    pictures = np.stack(seen)
    distance = np.sqrt(((pictures[:, None] - pictures[None]) ** 2).mean(-1))
    assert (distance + np.eye(len(pictures))).min() > 0.1


@needs_font
def test_glyph_edges_keep_the_glyph_colour():
    # A frog is green to its edge: edges mixed with black would be darker than its inside.
    frog = np.asarray(glyphs.glyph_image("🐸"), dtype=float)
    alpha, green = frog[..., 3], frog[..., 1]
    edge, inside = green[(alpha > 20) & (alpha < 160)], green[alpha == 255]
    assert edge.mean() > 0.95 * inside.mean()


@needs_font
def test_resized_glyphs_are_premultiplied_and_cannot_be_changed():
    colour, transparency = glyphs.resized_glyph("🐸", 20, 24)
    assert colour.shape == (20, 24, 3) and transparency.shape == (20, 24, 1)
    assert (colour <= 1 - transparency + 1e-6).all()
    with pytest.raises(ValueError, match="read-only"):
        colour[0] = 1


# --- scenes ---


@needs_font
def test_an_item_is_a_picture_in_range_and_its_caption():
    data = SceneDataset(size=64, length=40)
    for k in range(len(data)):
        item = data[k]
        assert set(item) == {"jpg", "txt"}
        assert item["jpg"].shape == (64, 64, 3) and item["jpg"].dtype == torch.float32
        assert item["jpg"].min() >= -1 and item["jpg"].max() <= 1
        assert item["txt"] == data.scene(k).caption


@needs_font
def test_items_depend_on_seed_split_and_index_alone():
    data = SceneDataset(size=32, length=50, seed=5)
    again = pickle.loads(pickle.dumps(SceneDataset(size=32, length=10_000, seed=5)))
    backwards = [again[k] for k in reversed(range(50))][::-1]
    for k in range(50):
        assert torch.equal(data[k]["jpg"], backwards[k]["jpg"])
        assert data[k]["txt"] == backwards[k]["txt"]
    other_seed = SceneDataset(size=32, length=50, seed=6)
    other_split = SceneDataset(size=32, length=50, seed=5, split="heldout")
    for other in (other_seed, other_split):
        assert sum(data[k]["txt"] == other[k]["txt"] for k in range(50)) < 5


@needs_font
@pytest.mark.parametrize("share", [0.0, 0.8, 1.0])
def test_the_share_of_pairs_is_a_setting(share):
    data = SceneDataset(size=32, length=400, pair_share=share)
    pairs = np.mean([len(data.scene(k).objects) == 2 for k in range(400)])
    assert pairs == share if share in (0, 1) else abs(pairs - share) < 0.07


@needs_font
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_share_of_japanese_captions_is_a_setting(share):
    data = SceneDataset(size=32, length=400, japanese_share=share)
    japanese = np.mean([data.scene(k).language == "ja" for k in range(400)])
    assert japanese == share if share in (0, 1) else abs(japanese - share) < 0.07


@needs_font
def test_items_can_be_collated_into_batches():
    batch = next(iter(DataLoader(SceneDataset(size=32, length=8), batch_size=4)))
    assert batch["jpg"].shape == (4, 32, 32, 3)
    assert len(batch["txt"]) == 4


@needs_font
def test_an_index_outside_the_data_set_is_an_index_error():
    data = SceneDataset(size=32, length=3)
    for k in (-1, 3):
        with pytest.raises(IndexError):
            data[k]
    assert len(list(data)) == 3


@needs_font
@pytest.mark.parametrize("split", ["train", "heldout"])
def test_the_split_decides_which_combinations_occur(split):
    data = SceneDataset(split=split, length=600, seed=1)
    for scene in map(data.scene, range(len(data))):
        arrangement = scene.size or scene.layout
        assert is_held_out(scene.objects, arrangement, scene.background) == (split == "heldout")


@needs_font
def test_shares_are_as_designed(scenes):
    n = len(scenes)
    nouns = Counter(noun for scene in scenes for noun in scene.objects)
    assert set(nouns) == set(NOUNS)
    assert max(nouns.values()) < 2.2 * min(nouns.values())
    assert set(Counter(scene.background for scene in scenes)) == set(COLOURS)
    assert sum(len(scene.objects) == 2 for scene in scenes) / n == pytest.approx(0.55, abs=0.03)
    assert sum(scene.language == "ja" for scene in scenes) / n == pytest.approx(0.25, abs=0.03)
    english = [scene for scene in scenes if scene.language == "en"]
    unnamed = sum(scene.background not in scene.caption for scene in english) / len(english)
    assert unnamed == pytest.approx(0.10, abs=0.02)
    assert {scene.relation for scene in scenes} == {None, *RELATIONS}


@needs_font
def test_english_captions_name_every_object_in_the_order_of_the_picture(scenes):
    for scene in scenes:
        if scene.language != "en" or scene.relation is None:
            continue
        named = [with_article(noun) for noun in scene.objects]
        places = [scene.caption.index(noun) for noun in named]
        swapped = scene.relation in ("right of", "below")
        assert (places[0] > places[1]) == swapped


@needs_font
def test_japanese_captions_use_no_english(scenes):
    for scene in scenes:
        assert scene.caption.isascii() == (scene.language == "en")


@needs_font
def test_one_language_gives_captions_in_that_language_alone():
    for language in ("en", "ja"):
        data = SceneDataset(length=50, languages=(language,))
        assert {data.scene(k).language for k in range(50)} == {language}


@needs_font
def test_objects_stand_as_the_relation_says(scenes):
    for scene in scenes:
        for left, top, right, bottom in scene.boxes:
            assert left >= 0 and top >= 0 and right <= 1 and bottom <= 1
        if scene.layout == "beside":
            assert _gap(scene, axis=0) > 0
        elif scene.layout == "stacked":
            assert _gap(scene, axis=1) > 0
        elif scene.layout == "riding":
            assert -0.15 < _gap(scene, axis=1) < -0.02


@needs_font
def test_sizes_grow_from_small_to_large(scenes):
    extents = {
        size: {
            round(max(s.boxes[0][2] - s.boxes[0][0], s.boxes[0][3] - s.boxes[0][1]), 6)
            for s in scenes
            if s.size == size
        }
        for size in SIZES
    }
    assert all(len(found) == 1 for found in extents.values())
    ordered = [extents[size].pop() for size in ("small", "medium", "large")]
    assert all(b > 1.3 * a for a, b in pairwise(ordered))


@needs_font
def test_the_background_stays_nearest_to_its_named_colour(scenes):
    names = list(COLOURS)
    rgb = np.array([COLOURS[name].rgb for name in names], dtype=np.float32)
    for scene in scenes[:400]:
        picture = (render(scene, 64) + 1) * 127.5
        # The four corners show background alone.
        for corner in (picture[0, 0], picture[0, -1], picture[-1, 0], picture[-1, -1]):
            nearest = names[int(((rgb - corner) ** 2).sum(-1).argmin())]
            assert nearest == scene.background


@needs_font
def test_a_scene_is_the_same_picture_at_every_size(scenes):
    for scene in scenes[:20]:
        large = torch.from_numpy(render(scene, 256)).permute(2, 0, 1)
        small = torch.from_numpy(render(scene, 64)).permute(2, 0, 1)
        shrunk = torch.nn.functional.avg_pool2d(large, 4)
        # A box lands on whole pixels of either grid: half a small pixel apart at most.
        assert (shrunk - small).abs().mean() < 0.08


@needs_font
def test_a_rider_is_drawn_over_its_mount(scenes):
    scene = next(s for s in scenes if s.layout == "riding")
    alone = replace(scene, objects=scene.objects[:1], boxes=scene.boxes[:1])
    _, transparency = glyphs.resized_glyph(
        NOUNS[scene.objects[0]].emoji, *_pixel_shape(scene.boxes[0], 64)
    )
    x, y = round(scene.boxes[0][0] * 64), round(scene.boxes[0][1] * 64)
    height, width = transparency.shape[:2]
    opaque = transparency[..., 0] < 0.01
    both, one = (render(s, 64)[y : y + height, x : x + width][opaque] for s in (scene, alone))
    np.testing.assert_allclose(both, one, atol=0.02)


def _pixel_shape(box, side):
    left, top, right, bottom = (edge * side for edge in box)
    return round(bottom - top), round(right - left)
