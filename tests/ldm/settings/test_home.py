"""``~`` stands for the home folder, in every flag that names a path and wherever a YAML does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import main
from ldm.checkpoint.io import read_checkpoint
from ldm.data.precomputed import PrecomputedLatents
from ldm.errors import UserError
from ldm.evaluation.settings import EvaluationSettings
from ldm.settings.checkpoints import ExportSettings
from ldm.settings.generation import Img2ImgSettings
from ldm.settings.inpaint import InpaintSettings
from ldm.settings.option import PLACES, options_of
from ldm.settings.samples import SampleProgramSettings
from ldm.settings.upscale import UpscaleSettings
from ldm.training.arguments import TrainingOptions, parse

PROGRAMS = [
    EvaluationSettings,
    ExportSettings,
    Img2ImgSettings,
    InpaintSettings,
    SampleProgramSettings,
    UpscaleSettings,
    TrainingOptions,
]
OPTIONS = {
    f"{settings.program} {each.flag or each.name}": each
    for settings in PROGRAMS
    for each in options_of(settings)
    if each.kind is Path or each.metavar in PLACES
}
OTHERS = [
    each for s in PROGRAMS for each in options_of(s)
    if each.kind is str and not each.choices and not each.pattern and each.metavar not in PLACES
]  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_there_are_such_flags():
    assert len(OPTIONS) > 25 and len(OTHERS) > 3


@pytest.mark.parametrize("name", OPTIONS)
def test_a_path_begins_at_home(home, name):
    read = OPTIONS[name].read
    value = (read(["~/x/a b"])[0], read(["./~"])[0]) if OPTIONS[name].several else None
    given, plain = value or (read("~/x/a b"), read("./~"))
    assert str(given) == str(home / "x" / "a b")
    assert str(plain).removeprefix("./") == "~"


@pytest.mark.parametrize("each", OTHERS, ids=lambda each: each.flag or each.name)
def test_other_texts_keep_the_sign(each):
    if not each.several and each.reader is None:
        assert each.read("~/x") == "~/x"


def test_the_sign_is_read_where_the_shell_leaves_it(home):
    options = parse(["--base", "a.yaml", "--logdir=~/logs", "--train"])
    assert options.logdir == home / "logs"
    assert parse(["--resume=~/logs/run", "-t"]).resume == home / "logs" / "run"


def test_a_name_of_nobody_stays_as_it_is():
    option = OPTIONS["export_checkpoint --ckpt"]
    assert option.read("~nobody-of-this-name/x") == "~nobody-of-this-name/x"


def test_a_checkpoint_named_in_a_configuration_is_found_at_home(home):
    torch.save({"state_dict": {"a": torch.ones(2)}}, home / "m.ckpt")
    assert torch.equal(read_checkpoint("~/m.ckpt").tensors["a"], torch.ones(2))


def test_latents_named_in_a_configuration_are_looked_for_at_home(home):
    (home / "latents").mkdir()
    with pytest.raises(UserError, match=f"{home}/latents"):
        PrecomputedLatents("~/latents")


def test_a_run_makes_no_folder_of_that_name(home, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert main.main(["--resume=~/no", "-t"]) == 2
    assert main.main(["--base=~/no.yaml", "-t", "--logdir=~/logs"]) == 2
    assert not Path("~").exists()
