"""From clicks to a training step: opinions kept, counted, exported, and trained on."""

from __future__ import annotations

import csv
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from quick_training import QUICK

import main
from ldm.data.captions import CaptionedFolder
from ldm.errors import UserError
from ldm.feedback.export import good_ones, write_csv, write_folder
from ldm.feedback.store import LONGEST_NOTE, FeedbackStore
from ldm.images.io import save_picture

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def store(tmp_path):
    return FeedbackStore(tmp_path / "kept" / "feedback.sqlite")


@pytest.fixture
def picture(tmp_path):
    """Save a picture of a prompt; return its path."""

    def saver(name, prompt="a cat <lora:ink:0.5> on a mat", side=64):
        pixels = np.full((side, side, 3), sum(map(ord, name)) % 256, np.uint8)
        text = (
            f"{prompt}\nSteps: 5, Sampler: DDIM, Seed: 3, Size: {side}x{side}" if prompt else None
        )
        return save_picture(pixels, tmp_path / "outputs" / f"{name}.png", metadata=text)

    return saver


def test_a_click_is_kept_with_the_pictures_recipe(store, picture):
    path = picture("a")
    assert store.opinions() == [] and store.of(path) is None
    assert not store.path.parent.exists(), "asking makes no file"
    store.give(path, person="Ada", stars=5, note="ふわふわ, =1+1")
    (kept,) = FeedbackStore(store.path).opinions()
    assert (kept.person, kept.stars, kept.thumb, kept.note) == ("Ada", 5, 0, "ふわふわ, =1+1")
    assert kept.prompt == "a cat <lora:ink:0.5> on a mat" and '"Seed": "3"' in kept.recipe
    assert store.of(path, "Ada") == kept and store.of(path) is None


def test_what_is_no_picture_gets_no_opinion(store, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UserError, match="text.png"):
        store.give(tmp_path / "text.png", thumb=1)
    assert not store.path.exists()


def test_a_later_click_changes_what_it_is_about_and_nothing_else(store, picture):
    path = picture("a")
    store.give(path, thumb=1, stars=4, note="good")
    store.give(path, stars=2)
    kept = store.give(path, note="")
    assert (kept.thumb, kept.stars, kept.note) == (1, 2, "")
    assert store.give(path, stars=0, thumb=0).stars is None
    assert len(store.opinions()) == 1


def test_an_opinion_follows_a_picture_that_is_moved(store, picture):
    path = picture("a")
    store.give(path, thumb=1)
    assert store.of(path.rename(path.with_name("other.png"))).thumb == 1


def test_many_people_click_at_once_and_nothing_is_lost(store, picture):
    paths = [picture(f"p{'x' * k}") for k in range(3)]
    clicks = [(path, f"person {k}") for k in range(8) for path in paths]

    def click(each):
        FeedbackStore(store.path).give(each[0], person=each[1], thumb=1)
        return FeedbackStore(store.path).give(each[0], person=each[1], stars=5)

    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(click, clicks))) == 24
    assert [(each.thumb, each.stars) for each in store.opinions()] == [(1, 5)] * 24
    store.give(paths[0], person="person 0", thumb=1)  # nobody else is at work
    with sqlite3.connect(store.path) as file:
        assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    file.close()


@pytest.mark.parametrize(
    "given",
    [
        {"thumb": 2},
        {"stars": 6},
        {"stars": -1},
        {"note": "x" * (LONGEST_NOTE + 1)},
        {"person": "x" * 999},
    ],
)
def test_what_is_out_of_range_is_one_line_and_keeps_nothing(store, picture, given):
    with pytest.raises(UserError, match="expected"):
        store.give(picture("a"), **given)
    assert store.opinions() == []


def test_a_file_that_is_no_store_is_left_as_it_is(store, picture, tmp_path):
    store.path.parent.mkdir()
    store.path.write_bytes(b"not a database, whatever its name says" * 50)
    for act in (store.opinions, lambda: store.give(picture("a"), thumb=1)):
        with pytest.raises(UserError, match="SQLite file of ours"):
            act()
    assert store.path.read_bytes().startswith(b"not a database")
    with pytest.raises(UserError, match="does not exist"):
        store.give(tmp_path / "missing.png", thumb=1)


def test_a_store_of_a_newer_program_is_not_touched(store, picture):
    store.give(picture("a"), thumb=1)
    with sqlite3.connect(store.path) as file:
        file.execute("PRAGMA user_version=99")
    file.close()
    with pytest.raises(UserError, match="version 99"):
        store.give(picture("a2"), thumb=1)


def test_lone_surrogates_of_a_note_are_kept_as_what_a_file_can_hold(store, picture):
    assert store.give(picture("a"), note="\ud800x").note == "\ufffdx"


# --- what is good, and what becomes of it ---


def test_more_people_have_to_call_a_picture_good_than_bad(store, picture):
    judged = {
        "up": [{"thumb": 1}],
        "stars": [{"stars": 4}],
        "few": [{"stars": 3}],
        "split": [{"thumb": 1}, {"thumb": -1}],
        "most": [{"stars": 5}, {"stars": 1}, {"thumb": 1}],
        "thumb first": [{"thumb": -1, "stars": 5}],
        "note": [{"note": "nice"}],
    }
    for name, opinions in judged.items():
        path = picture(name.replace(" ", "-"))
        for number, each in enumerate(opinions):
            store.give(path, person=str(number), **each)
    good = [Path(each.path).stem for each in good_ones(store.opinions())]
    assert good == ["up", "stars", "most"]
    assert "few" in [Path(each.path).stem for each in good_ones(store.opinions(), min_stars=3)]


def test_the_table_has_a_row_for_each_opinion_and_no_formula(store, picture, tmp_path):
    store.give(picture("a"), note='=HYPERLINK("x")', thumb=1)
    store.give(picture("bb"), stars=2)
    assert write_csv(store.opinions(), tmp_path / "t.csv") == 2
    with open(tmp_path / "t.csv", encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert first["note"].startswith("'=") and (second["stars"], first["thumb"]) == ("2", "1")


def test_good_pictures_become_a_folder_that_training_reads(store, picture, tmp_path):
    kept, lost, mute = picture("a"), picture("bb"), picture("ccc", prompt="")
    other = picture("dddd")
    for path in (kept, lost, mute, other):
        store.give(path, thumb=1)
    lost.unlink()
    other.write_bytes(kept.read_bytes())
    done = write_folder(good_ones(store.opinions()), tmp_path / "good")
    assert (done.written, done.gone, done.unsaid) == (
        1,
        (str(lost), str(other)),
        (str(mute),),
    )
    data = CaptionedFolder(str(tmp_path / "good"), 64)
    assert len(data) == 1 and data[0]["txt"] == "a cat on a mat"


def test_an_export_replaces_nothing_and_leaves_nothing_half_written(store, picture, tmp_path):
    with pytest.raises(UserError, match="none of 0 good pictures"):
        write_folder([], tmp_path / "good")
    assert not (tmp_path / "good").exists()
    store.give(picture("a"), thumb=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(UserError, match="holds something already"):
        write_folder(good_ones(store.opinions()), tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_from_clicks_to_a_training_step(store, picture, tmp_path, monkeypatch):
    """Two people like what the bundled model drew; a LoRA learns from it for a step."""
    for name, clicks in {"a": {"thumb": 1}, "bb": {"stars": 5}, "ccc": {"thumb": -1}}.items():
        store.give(picture(name, prompt=f"a red {name}"), **clicks)
    done = write_folder(good_ones(store.opinions()), tmp_path / "good")
    assert done.written == 2
    monkeypatch.chdir(ROOT)
    data = "data.params.train"
    steps = [each for each in QUICK if "max_steps" not in each and "val" not in each]
    code = main.main(
        ["--base", "configs/adapters/demo-lora.yaml", "-t", "-n", "liked", "-l", str(tmp_path)]
        + [f"{data}.target=ldm.data.captions.CaptionedFolder", f"{data}.params.root={done.folder}"]
        + [*steps, "lightning.trainer.max_steps=1", "model.params.scheduler_config=null"]
        + ["lightning.callbacks.image_logger.params.disabled=true"]
    )
    assert code == 0
    (last,) = tmp_path.glob("*_liked/checkpoints/last.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] == 1
    assert list(tmp_path.glob("*_liked/adapter/*.safetensors"))
