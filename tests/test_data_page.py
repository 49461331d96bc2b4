"""docs/data.md says what is so: its classes exist, take those parameters, its own class works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from small_pictures import save

from ldm.building import check_parameters
from ldm.errors import UserError
from ldm.util import get_obj_from_str

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
BLOCKS = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
NAMED = sorted(set(re.findall(r"`(ldm\.data\.\w+\.[A-Z]\w+)`", PAGE)))


def test_there_are_classes_and_settings_on_the_page():
    assert len(BLOCKS) >= 10
    assert len(NAMED) >= 12


@pytest.mark.parametrize("name", NAMED)
def test_a_class_that_the_page_names_exists(name):
    assert isinstance(get_obj_from_str(name), type)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block["target"].rpartition(".")[2])
def test_the_settings_on_the_page_are_the_classs_own(block):
    kind, params, where = get_obj_from_str(block["target"]), block["params"], block["target"]
    assert params
    check_parameters(kind, params, where)
    with pytest.raises(UserError, match="no_such_setting"):
        check_parameters(kind, {**params, "no_such_setting": 1}, where)


def test_the_data_set_of_the_page_skips_bad_files(tmp_path):
    save(tmp_path / "a_red_car.jpg")
    (tmp_path / "b.jpg").write_bytes(b"")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict = {}
    exec(code, names)
    data = names["NamedPictures"](str(tmp_path), 8)
    assert [item["txt"] for item in data] == ["a red car", "a red car"]
    assert data.bad_items.count == 1
