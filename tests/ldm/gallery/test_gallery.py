"""The gallery finds pictures by their recipes, redraws them, and never leaves its folders."""

from __future__ import annotations

import os

import numpy as np
import pytest
from drawing import text_settings
from PIL import Image

from ldm.errors import UserError
from ldm.gallery.bin import BIN, Bin
from ldm.gallery.index import Gallery
from ldm.images.io import save_picture
from ldm.pipelines.pipeline import Pipeline

PIXELS = np.full((8, 8, 3), 90, np.uint8)


def recipe(prompt, seed, sampler="DDIM"):
    return f"{prompt}\nNegative prompt: fog\nSteps: 5, Sampler: {sampler}, Seed: {seed}, Size: 8x8"


@pytest.fixture
def outputs(tmp_path):
    """A folder of three pictures with recipes, the later one newer, and one without."""
    folder = tmp_path / "outputs"
    for k, (prompt, sampler) in enumerate(
        [("a red cat", "DDIM"), ("a dog", "PLMS"), ("猫 cat", "DDIM")]
    ):
        path = save_picture(
            PIXELS, folder / "samples" / f"{k}.png", metadata=recipe(prompt, k, sampler)
        )
        os.utime(path, (1000 + k, 1000 + k))
    Image.fromarray(PIXELS).save(folder / "plain.png")
    os.utime(folder / "plain.png", (999, 999))
    return folder


def names(found):
    return [shown.path.name for shown in found[0]]


def test_the_newest_comes_first_page_by_page(outputs):
    gallery = Gallery([outputs])
    assert names(gallery.find()) == ["2.png", "1.png", "0.png", "plain.png"]
    assert names(gallery.find(start=1, count=2)) == ["1.png", "0.png"]
    assert gallery.find(start=1, count=2)[1] == 4


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("cat", ["2.png", "0.png"]),
        ("CAT red", ["0.png"]),
        ("cat -red", ["2.png"]),
        ('"red cat"', ["0.png"]),
        ('"cat red"', []),
        ("猫", ["2.png"]),
        ("sampler:plms", ["1.png"]),
        ("seed:2", ["2.png"]),
        ("negative:fog -dog", ["2.png", "0.png"]),
        ("prompt:fog", []),
        ("plain", ["plain.png"]),
        ("-fog", ["plain.png"]),
        ("nothing-of-the-kind", []),
        ('""', ["2.png", "1.png", "0.png", "plain.png"]),
    ],
)
def test_words_are_looked_for_in_the_recipe_and_the_name(outputs, words, expected):
    assert names(Gallery([outputs]).find(words)) == expected


def test_what_changes_on_disk_is_seen(outputs):
    gallery = Gallery([outputs])
    assert names(gallery.find("bird")) == []
    path = outputs / "plain.png"
    path.unlink()
    save_picture(PIXELS, path, metadata=recipe("a bird", 9))
    assert names(gallery.find("bird")) == ["plain.png"]


def test_a_broken_file_is_shown_without_a_recipe(outputs):
    (outputs / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    assert "broken.png" in names(Gallery([outputs]).find("broken"))


@pytest.mark.parametrize(
    "path",
    [
        "../secret.png",
        "samples/../../secret.png",
        "link.png",
        "linked/secret.png",
        ".hidden.png",
        "notes.txt",
        "missing.png",
        "",
        "samples",
        "/etc/passwd",
        "nul\0.png",
    ],
)
def test_nothing_outside_the_folders_is_ever_shown_or_moved(outputs, tmp_path, path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for place in (tmp_path / "secret.png", elsewhere / "secret.png", outputs / ".hidden.png"):
        save_picture(PIXELS, place, metadata=recipe("secret", 1))
    (outputs / "notes.txt").write_text("secret")
    (outputs / "link.png").symlink_to(tmp_path / "secret.png")
    (outputs / "linked").symlink_to(elsewhere)
    gallery = Gallery([outputs])
    assert names(gallery.find("secret")) == []
    for act in (gallery.show, gallery.redraw, gallery.folder_of, Bin(gallery).throw):
        with pytest.raises(UserError, match="no picture of the gallery"):
            act(str(outputs / path))
    assert (tmp_path / "secret.png").exists() and (elsewhere / "secret.png").exists()


def test_a_picture_is_redrawn_to_the_bit(tiny_ckpt, tmp_path):
    pipeline = Pipeline.load(tiny_ckpt, device="cpu")
    settings = text_settings(seed=5, n_samples=2, n_iter=1)
    second = list(pipeline.generate(settings))[1]
    path = save_picture(second.pixels, tmp_path / "out" / "1.png", metadata=second.parameters)
    request = Gallery([tmp_path / "out"]).redraw(path, ckpt=str(tiny_ckpt))
    again = pipeline.prepare(request.settings, place=request.place)
    (picture,) = pipeline.generate(again)
    assert np.array_equal(picture.pixels, second.pixels)


# --- the bin ---


def test_a_thrown_picture_is_gone_from_the_gallery_and_comes_back_whole(outputs):
    gallery = Gallery([outputs])
    thrown, path = Bin(gallery), outputs / "samples" / "1.png"
    before = path.read_bytes()
    item = thrown.throw(path)
    assert not path.exists() and names(gallery.find("dog")) == []
    assert thrown.thrown() == [item] and item.path.read_bytes() == before
    assert thrown.restore(item.name) == path
    assert path.read_bytes() == before and thrown.thrown() == []
    assert not (outputs / BIN).exists(), "an empty bin is no folder"


def test_two_pictures_of_one_name_lie_side_by_side_in_the_bin(outputs):
    thrown, path = Bin(Gallery([outputs])), outputs / "samples" / "1.png"
    first = thrown.throw(path)
    save_picture(PIXELS, path, metadata=recipe("another", 3))
    second = thrown.throw(path)
    assert {each.name for each in thrown.thrown()} == {first.name, second.name}
    assert thrown.thrown()[0] == second, "the latest first"


def test_restoring_never_replaces_a_picture(outputs):
    thrown, path = Bin(Gallery([outputs])), outputs / "samples" / "1.png"
    item = thrown.throw(path)
    save_picture(PIXELS, path, metadata=recipe("another", 3))
    before = path.read_bytes()
    with pytest.raises(UserError, match="is there already"):
        thrown.restore(item.name)
    assert path.read_bytes() == before and item.path.exists()


def test_a_file_system_without_hard_links_moves_pictures_too(outputs, monkeypatch):
    def refuse(*_args, **_more):
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    thrown, path = Bin(Gallery([outputs])), outputs / "samples" / "1.png"
    item = thrown.throw(path)
    save_picture(PIXELS, path, metadata=recipe("another", 3))
    with pytest.raises(UserError, match="is there already"):
        thrown.restore(item.name)
    path.unlink()
    assert thrown.restore(item.name) == path


@pytest.mark.parametrize("name", ["", "0/1/x.png", "../../secret.png", "0/../secret.png", "x"])
def test_only_what_is_in_the_bin_is_restored(outputs, name):
    with pytest.raises(UserError, match="not in the bin"):
        Bin(Gallery([outputs])).restore(name)


def test_a_bin_that_leads_elsewhere_is_not_used(outputs, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (outputs / BIN).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="a link to elsewhere"):
        Bin(Gallery([outputs])).throw(outputs / "plain.png")
    assert (outputs / "plain.png").exists() and not list((tmp_path / "elsewhere").iterdir())


def test_emptying_deletes_what_is_in_the_bin_and_nothing_else(outputs):
    thrown = Bin(Gallery([outputs]))
    thrown.throw(outputs / "plain.png")
    thrown.throw(outputs / "samples" / "0.png")
    assert thrown.empty() == 2
    assert sorted(path.name for path in outputs.rglob("*")) == ["1.png", "2.png", "samples"]
