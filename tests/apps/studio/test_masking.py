"""What a visitor chooses about a mask becomes its options; nothing names a file of the server."""

from __future__ import annotations

import pytest

pytest.importorskip("gradio", reason="needs gradio: pip install -e '.[web]'")

from apps.studio.masking import KINDS, LONGEST, network_for, options_of  # noqa: E402
from ldm.errors import UserError  # noqa: E402


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_makes_valid_options(kind, tmp_path):
    options = options_of(kind, "red", tmp_path)
    options.validate()
    assert options.kind == kind


def test_networks_are_taken_where_they_are(tmp_path):
    (tmp_path / "u2net.onnx").touch()
    (tmp_path / "clipseg").mkdir()
    (tmp_path / "clipseg" / "config.json").write_text("{}")
    assert options_of("subject", "", tmp_path).model == str(tmp_path / "u2net.onnx")
    words = options_of("words", "hat, shirt", tmp_path)
    assert (words.words, words.model) == ("hat, shirt", str(tmp_path / "clipseg"))


def test_without_networks_there_are_none(tmp_path):
    assert network_for("words", tmp_path) is network_for("subject", tmp_path / "missing") is None


@pytest.mark.parametrize(
    ("kind", "typed"),
    [
        ("words", "hat"),
        ("colour", ""),
        ("colour", None),
        ("nobody", "x"),
        (None, "x"),
        ("colour", "x" * (LONGEST + 1)),
    ],
)
def test_what_cannot_be_marked_is_one_line(kind, typed, tmp_path):
    with pytest.raises(UserError) as raised:
        options_of(kind, typed, tmp_path)
    assert "\n" not in str(raised.value)
