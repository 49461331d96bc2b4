"""docs/prompts.md says what is so: its blocks run in order, and its tables are read as they say."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ldm.modules.attention_control.moments import LISTENERS
from ldm.prompts import parse_a1111, parse_compel, pieces
from ldm.settings.command_line import parse
from ldm.settings.generation import Txt2ImgSettings

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "prompts.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """The names of all blocks, which ran one after the other."""
    made: dict[str, Any] = {"listeners": set(map(id, LISTENERS))}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        for number, code in enumerate(BLOCKS):
            exec(compile(code, f"block {number} of the page", "exec"), made)
    return made


def test_the_blocks_run_and_their_pictures_differ(names):
    assert not np.array_equal(names["apple"], names["both"])
    assert not np.array_equal(names["apple"], names["mixed"])
    assert names["x"].shape == (1, 4, 16, 16) and names["x"].isfinite().all()
    assert set(map(id, LISTENERS)) <= names["listeners"]


def test_the_page_links_to_headings_and_files_that_are_there():
    headings = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    anchors = {each.lower().replace(" ", "-") for each in headings}
    assert set(re.findall(r"\]\(#(.*?)\)", PAGE)) == anchors
    for path in re.findall(r"\]\(([^#)]+)\)", PAGE):
        assert (ROOT / "docs" / path).exists(), path


def test_the_commands_are_understood_and_their_prompts_are_read():
    (block,) = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines():
        given = parse(Txt2ImgSettings, "", shlex.split(line)[2:])
        settings = Txt2ImgSettings(**given)
        settings.validate()
        read = (
            parse_a1111 if settings.prompt_syntax == "a1111" else lambda text, _: parse_compel(text)
        )
        assert read(settings.prompt, 50) != read("a photo of a red apple", 50)


def cells(row: str) -> tuple[list[str], list[str]]:
    (line,) = (line for line in PAGE.splitlines() if line.startswith(f"| {row} |"))
    _, _, one, other, _ = re.split(r"(?<!\\)\|", line)
    found = (re.findall(r"`([^`]*)`", each.replace("\\|", "|")) for each in (one, other))
    return tuple(found)


def weight_of(prompt) -> float:
    ((fragment,),) = (each for term in prompt.terms for each in term.prompts)
    return round(fragment.weight, 4)


def test_the_tables_weights_are_those_that_are_read():
    more, compels = cells("more of a word")
    assert [round(pieces(each)[0].weight, 4) for each in more] == [1.1, 1.21, 1.3]
    assert [weight_of(parse_compel(each)) for each in compels] == [1.1, 1.21, 1.3]
    less, compels = cells("less of it")
    assert [round(pieces(each)[0].weight, 4) for each in less] == [0.9091, 0.7]
    assert [weight_of(parse_compel(each)) for each in compels] == [0.9, 0.81, 0.7]


@pytest.mark.parametrize("row", ["a change at a step", "from, or up to a step", "take turns"])
def test_the_tables_schedules_change_on_the_way(row):
    for each in cells(row)[0]:
        assert not parse_a1111(each, 20).is_constant


def test_the_tables_compositions_have_two_parts():
    (joined,), (behind,) = cells("several prompts")
    assert [part.weight for part in parse_a1111(joined, 9).parts] == [1.0, 0.5]
    assert [term.weight for term in parse_compel(behind).terms] == [1.0, 0.5]
    (mixed,) = cells("a mixture of encodings")[1]
    assert parse_compel(mixed).terms[0].shares == (0.7, 0.3)
    tags, compels = cells("a file")
    assert parse_compel(compels[0]).tags[0].unet_scale == 0.8
    assert parse_a1111(tags[0], 9).tags[0].unet_scale == 0.8
