"""Which settings a line may have, under which names, and what its cells are."""

from __future__ import annotations

import math

import pytest

from ldm.errors import UserError
from ldm.jobs.columns import COLUMNS, SCHEMAS, check_columns, column, is_given, value_of
from ldm.settings.option import options_of


def test_every_setting_of_a_picture_is_a_column_or_is_the_runs():
    names = {each.name for schema in SCHEMAS for each in options_of(schema)}
    others = set()
    for name in names - COLUMNS.keys():
        with pytest.raises(UserError, match="column"):
            column(name)
        others.add(name)
    assert {"ckpt", "device", "outdir", "from_file", "seed_mode"} <= others
    assert {"prompt", "seed", "W", "H", "init_img", "mask", "strength", "lora"} <= COLUMNS.keys()


@pytest.mark.parametrize("name", ["init_img", "init-img", "--init-img", "Init_Img"])
def test_a_column_may_have_its_flags_name(name):
    assert column(name).name == "init_img"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("steps", "did you mean ddim_steps?"),
        ("cfg_scale", "did you mean scale?"),
        ("width", "did you mean W?"),
        ("promt", "did you mean prompt?"),
        ("ckpt", "give --ckpt"),
        ("qqq", "expected names of settings"),
    ],
)
def test_an_unknown_column_is_told_the_nearest_one(name, hint):
    with pytest.raises(UserError) as error:
        check_columns(["prompt", name])
    assert hint in str(error.value) and name in str(error.value)


def test_one_setting_under_two_names_is_refused():
    with pytest.raises(UserError, match="same setting"):
        check_columns(["init_img", "init-img"])


@pytest.mark.parametrize(
    ("name", "cell", "value"),
    [
        ("seed", "7", 7),
        ("seed", 7.0, 7),  # a table with empty cells has its numbers as floats
        ("scale", 3, 3.0),
        ("scale", "3", 3.0),
        ("zero_terminal_snr", "true", True),
        ("zero_terminal_snr", True, True),
        ("lora", "a:0.5", ("a:0.5",)),
        ("lora", '["a", "b"]', ("a", "b")),
        ("lora", ["a", "b"], ("a", "b")),
        ("prompt", "", ""),
    ],
)
def test_cells_become_values_of_the_settings_kind(name, cell, value):
    found = value_of(COLUMNS[name], cell)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("seed", "x"),
        ("seed", 1.5),
        ("seed", True),
        ("seed", -1),
        ("scale", math.inf),
        ("sampler", "ddmi"),
        ("prompt", 5),
        ("lora", [1]),
        ("prompt", "\udcff"),
        ("prompt", "a\0b"),
        ("W", "0"),
    ],
)
def test_what_is_of_another_kind_is_refused_by_the_columns_name(name, cell):
    with pytest.raises(UserError, match=f"^{name} "):
        value_of(COLUMNS[name], cell)


def test_nothing_and_nan_are_not_given():
    assert [is_given(cell) for cell in (None, math.nan, 0, "", False)] == [False] * 2 + [True] * 3
