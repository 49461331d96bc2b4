"""docs/adapters.md says what is so: its commands, its blocks in order, its flags and kinds."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapter_shelves import random_control, write_random_lora
from embedding_files import write_a1111
from PIL import Image
from safetensors.torch import save_file

from ldm.modules.attention_control.moments import LISTENERS
from ldm.settings.adapters import NAMED_KINDS, AdapterSettings
from ldm.settings.hints import HINTS
from ldm.settings.option import options_of

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "adapters.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def names(tmp_path_factory) -> dict[str, Any]:
    """The names of all blocks, which ran one after the other beside adapters of random numbers."""
    from ldm.pipelines.pipeline import Pipeline

    folder, model = tmp_path_factory.mktemp("page"), Pipeline.load().model
    for name in ("lora", "embeddings", "controlnet"):
        (folder / "models" / name).mkdir(parents=True)
    write_random_lora(folder / "models/lora/style.safetensors", model, seed=1)
    table = model.cond_stage_model.transformer.text_model.embeddings.token_embedding.weight
    write_a1111(folder / "models/embeddings/sunny.pt", table[[320, 2368]].detach().clone())
    save_file(random_control(model), folder / "models/controlnet/edges.safetensors")
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[16:48, 16:48] = 255
    Image.fromarray(pixels).save(folder / "photo.png")
    made: dict[str, Any] = {"listeners": set(map(id, LISTENERS))}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for number, code in enumerate(BLOCKS):
            exec(compile(code, f"block {number} of the page", "exec"), made)
        made["files"] = sorted(path.name for path in folder.glob("half*"))
    return made


def test_what_is_attached_changes_the_picture_and_leaves_it_as_it_was(names):
    assert not np.array_equal(names["styled"], names["plain"])
    assert not np.array_equal(names["begun"], names["styled"])
    assert np.array_equal(names["again"], names["plain"])
    assert not np.array_equal(names["steered"], names["plain"])
    assert set(map(id, LISTENERS)) <= names["listeners"]


def test_an_embedding_is_two_ids_and_is_written_twice(names):
    assert sum(n >= len(names["tokenizer"]) for n in names["ids"]) == 2
    assert names["files"] == ["halfsunny.pt", "halfsunny.safetensors"]


def test_a_run_with_settings_says_so_in_its_picture(names):
    assert "Lora hashes" in names["both"].parameters
    assert "ControlNet 0" in names["both"].parameters


def test_every_flag_and_kind_is_on_the_page():
    for each in options_of(AdapterSettings):
        assert each.flag in PAGE
    for kind in NAMED_KINDS:
        assert f"`{kind}`" in PAGE
    named = re.findall(r"`(\w+)`", re.search(r"\*\*A kind of hint\*\* \((.*?);", PAGE)[1])
    assert named and set(named) <= set(HINTS)


def test_its_first_commands_find_their_files_and_all_can_be_read(monkeypatch):
    from ldm.pipelines.adapter_plan import plan_adapters
    from ldm.settings.command_line import parse
    from ldm.settings.generation import Txt2ImgSettings

    monkeypatch.chdir(ROOT)
    first, others = (
        [line for line in block.splitlines() if not line.startswith("#")]
        for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    )
    for number, line in enumerate([*first, *others]):
        python, program, *words = shlex.split(line)
        assert (python, program) == ("python", "scripts/txt2img.py")
        settings = Txt2ImgSettings(**parse(Txt2ImgSettings, "", words))
        settings.validate()
        if number < len(first):
            plan = plan_adapters(settings, [settings.prompt])
            assert plan.loras or plan.embeddings or plan.controls


def test_the_page_links_to_files_that_are_there():
    for path in re.findall(r"\]\(([^#)]+)\)", PAGE):
        assert (ROOT / "docs" / path).exists(), path
