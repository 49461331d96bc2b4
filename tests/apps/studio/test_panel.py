"""What a panel shows of what a browser kept: the studio's own pictures, and no other file."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from PIL import Image

gr = pytest.importorskip("gradio", reason="needs gradio: pip install -e '.[web]'")

from apps.studio.panel import KEPT_LENGTH, MOST_KEPT, Panel, address_of  # noqa: E402
from apps.studio.settings import StudioSettings  # noqa: E402
from apps.studio.state import Studio  # noqa: E402
from ldm.images.io import save_numbered  # noqa: E402


@pytest.fixture
def panel(queue, tmp_path):
    studio = Studio(queue, StudioSettings(outdir=str(tmp_path / "out")))
    with gr.Blocks():
        return Panel(studio, "text")


@pytest.fixture
def picture(tmp_path):
    import numpy as np

    pixels = np.zeros((4, 4, 3), np.uint8)
    recipe = "a cat\nNegative prompt: dog\nSteps: 4, Sampler: DDIM, Seed: 7"
    path, _ = save_numbered(pixels, tmp_path / "out" / "a", "{:05d}.png", metadata=recipe)
    return path


def kept(*names):
    return json.dumps(names)


def test_a_reload_shows_the_pictures_with_seed_and_recipe(panel, picture):
    status, tiles, seed, recipe, notices, names, chosen = panel.restored(kept("a/00000.png"))
    assert tiles == [(str(picture), "00000")]
    assert (seed, recipe.splitlines()[0]) == ("7", "a cat")
    assert json.loads(names) == ["a/00000.png"]
    assert chosen == str(picture)
    assert (status, notices) == ("", "")


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "/etc/passwd", "a/missing.png", "a/note.txt", "a/link.png", ".hidden.png"],
)
def test_no_file_but_the_studios_own_pictures_is_shown(name, panel, picture, tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "secret.png")
    Image.new("RGB", (2, 2)).save(tmp_path / "out" / ".hidden.png")
    (tmp_path / "out" / "a" / "note.txt").write_text("x")
    (tmp_path / "out" / "a" / "link.png").symlink_to(tmp_path / "secret.png")
    assert all(gr.skip() == each for each in panel.restored(kept(name)))
    assert all(gr.skip() == each for each in panel._send(str(tmp_path / "out" / name), "", ""))


@pytest.mark.parametrize("text", ["", "[", "7", "[7]", '{"a": 1}', None, 7, "[" * 5000])
def test_what_is_no_list_of_names_shows_nothing(text, panel):
    assert all(gr.skip() == each for each in panel.restored(text))


def test_no_more_is_kept_than_is_shown(panel, picture):
    many = panel._paths(kept(*["a/00000.png"] * (MOST_KEPT + 5)))
    assert len(many) == MOST_KEPT
    assert panel._paths(kept("x" * KEPT_LENGTH)) == []


def test_a_picture_is_sent_with_the_prompts_of_its_recipe(panel, picture):
    assert panel._send(str(picture), "p", "n") == (str(picture), "a cat", "dog")
    assert panel._send(str(picture)) == (str(picture),)


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", ""), ("::1", ""), ("10.0.0.9", "10.0.0.9"), ("", ""), ("testclient",) * 2],
)
def test_people_of_this_machine_do_not_share_one_place_in_the_line(host, address):
    visit = SimpleNamespace(client=SimpleNamespace(host=host))
    assert address_of(visit) == address
