"""Networks are offered by name: those that are there, and nothing else can be chosen."""

from __future__ import annotations

import pytest

from apps.studio.networks import NOTHING, SETTINGS, chosen, offered
from ldm.errors import UserError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_without_files_latents_and_pixels_are_enlarged_and_no_faces_are_redrawn():
    assert chosen("hires_upscaler", "Latent") == "latent"
    assert chosen("hires_upscaler", "Lanczos") == "lanczos"
    assert offered("restore_faces") == {}


def test_files_are_offered_by_their_names(tmp_path):
    for folder, name in (("upscalers", "sharp.pth"), ("faces", "GFPGAN.pth"), ("faces", "x.txt")):
        (tmp_path / "models" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "models" / folder / name).touch()
    assert chosen("hires_upscaler", "sharp").endswith("sharp.pth")
    assert list(offered("restore_faces")) == [NOTHING, "GFPGAN"]
    assert chosen("restore_faces", NOTHING) is None
    assert chosen("restore_faces", "GFPGAN") == "models/faces/GFPGAN.pth"


@pytest.mark.parametrize("name", ["/etc/passwd", "../x.pth", "", None, 7, ["Latent"], "latent"])
def test_what_is_not_offered_cannot_be_chosen(name):
    for setting in SETTINGS:
        with pytest.raises(UserError, match="expected one of the list"):
            chosen(setting, name)
