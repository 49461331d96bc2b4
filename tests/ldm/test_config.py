"""Loading and merging YAML."""

from __future__ import annotations

import pytest

from ldm.config import build, load_config
from ldm.errors import UserError


def test_later_files_and_overrides_win(tmp_path):
    (tmp_path / "a.yaml").write_text("model: {x: 1, y: 2}")
    (tmp_path / "b.yaml").write_text("model: {y: 3}")
    config = load_config(tmp_path / "a.yaml", tmp_path / "b.yaml", overrides=["model.z=[4, 5]"])
    assert config == {"model": {"x": 1, "y": 3, "z": [4, 5]}}


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2\n", "a: ${oops", "\tx: 1"])
def test_what_is_no_yaml_mapping_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert "bad.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml")


def test_an_override_without_equals_sign_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("x: 1")
    with pytest.raises(UserError, match="key=value"):
        load_config(tmp_path / "a.yaml", overrides=["model.x"])


def test_build_names_the_place_of_a_fault(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("model: {target: torch.nn.Linear, params: {in_features: 1, out_feature: 2}}")
    with pytest.raises(UserError, match=r"model\.params\.out_feature"):
        build(load_config(path))
    with pytest.raises(UserError, match="'first_stage'"):
        build(load_config(path), "first_stage")
