"""The class that draws in place of a model's: named by a table, read without Lightning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tiny_model import CONFIG

import ldm.models
import ldm.models.diffusion
from ldm.checkpoint.drawn_by import drawn_by, for_drawing

ROOT = Path(__file__).resolve().parents[3]
MODEL = CONFIG["model"]
PLAIN = "ldm.models.diffusion.latent_diffusion.LatentSpaceDiffusion"
HUB = '''
DRAWN_BY = {{"Hub": "{plain}"}}

class Hub:
    """Trains."""

    kept: int
    other = 1

{body}
'''


@pytest.fixture
def forked(tmp_path, monkeypatch):
    """Return a function that puts a fork's text at an address of ours, and gives the address."""
    package = ldm.models.diffusion
    monkeypatch.setattr(package, "__path__", [str(tmp_path), *package.__path__])

    def write(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        return f"ldm.models.diffusion.{name}.Hub"

    return write


@pytest.mark.parametrize(
    ("target", "plain"),
    [
        ("ldm.models.diffusion.ddpm.DDPM", "pixel_diffusion.PixelDiffusion"),
        ("ldm.models.diffusion.ddpm.LatentDiffusion", "latent_diffusion.LatentSpaceDiffusion"),
        ("ldm.models.diffusion.ddpm.LatentInpaintDiffusion", "masked_diffusion.MaskedDiffusion"),
        ("ldm.models.autoencoder.AutoencoderKL", "first_stage.KLFirstStage"),
        ("ldm.models.autoencoder.VQModel", "vq_first_stage.VQFirstStage"),
        ("ldm.models.autoencoder.VQModelInterface", "vq_first_stage.VQFirstStageInterface"),
    ],
)
def test_every_class_at_the_references_addresses_has_one_that_draws(target, plain):
    assert drawn_by(target).endswith(plain)


@pytest.mark.parametrize(
    "target",
    [
        "ldm.modules.diffusionmodules.openaimodel.UNetModel",
        "ldm.models.diffusion.ddpm.NoSuchHub",
        "ldm.models.diffusion.no_such_file.Hub",
        "nothing_of_this_name.Hub",
        "torch.nn.Identity",
        "ldm",
        "",
        None,
    ],
)
def test_what_is_in_no_table_draws_itself(target):
    assert drawn_by(target) is None


def test_neither_the_table_nor_what_it_names_imports_lightning():
    program = (
        "import sys\n"
        f"sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n"
        "from tiny_model import CONFIG\n"
        "from ldm.checkpoint.drawn_by import for_drawing\n"
        "from ldm.util import instantiate_from_config\n"
        "model = instantiate_from_config(for_drawing(CONFIG['model']))\n"
        "names = {'pytorch_lightning', 'ldm.models.diffusion.ddpm', 'ldm.models.autoencoder'}\n"
        "assert not names & set(sys.modules), names & set(sys.modules)\n"
        "print(type(model).__name__, type(model.first_stage_model).__name__)\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["LatentSpaceDiffusion", "KLFirstStage"]


def test_parts_are_renamed_with_their_hub_and_the_configuration_is_left_as_it_was():
    before = repr(MODEL)
    renamed = for_drawing(MODEL)
    assert renamed["target"] == PLAIN
    first_stage = renamed["params"]["first_stage_config"]
    assert first_stage["target"] == "ldm.models.first_stage.KLFirstStage"
    assert first_stage["params"] == MODEL["params"]["first_stage_config"]["params"]
    for part in ("unet_config", "cond_stage_config"):
        assert renamed["params"][part] == MODEL["params"][part]
    assert repr(MODEL) == before


@pytest.mark.parametrize("where", ["in a list", "two deep"])
def test_parts_are_found_however_deep_they_lie(where):
    part = {"target": "ldm.models.autoencoder.AutoencoderKL", "params": {}}
    params = {"stages": [part]} if where == "in a list" else {"a": {"params": {"b": part}}}
    renamed = for_drawing({"target": MODEL["target"], "params": params})["params"]
    found = renamed["stages"][0] if where == "in a list" else renamed["a"]["params"]["b"]
    assert found["target"] == "ldm.models.first_stage.KLFirstStage"


@pytest.mark.parametrize("target", ["descendants.forks.edit_hub.EditLDM", "torch.nn.Module"])
def test_a_hub_of_another_keeps_the_public_classes_of_its_parts(target):
    foreign = {**MODEL, "target": target}
    assert for_drawing(foreign) is foreign


@pytest.mark.parametrize("node", [None, [MODEL], "ldm", {"params": {}}])
def test_what_is_no_models_configuration_is_returned_as_it_is(node):
    assert for_drawing(node) is node


@pytest.mark.parametrize("body", ["    pass", "    def training_step(self):\n        pass"])
def test_a_class_that_changes_nothing_of_drawing_is_drawn_by_the_plain_one(forked, body):
    assert drawn_by(forked("plain_hub", HUB.format(plain=PLAIN, body=body))) == PLAIN


@pytest.mark.parametrize(
    "body",
    [
        "    def apply_model(self, x, t, cond):\n        return x",
        "    def __init__(self, **kwargs):\n        pass",
        "    async def q_sample(self):\n        pass",
        "    decode_first_stage = None",
        "    make_loss: object = None",
        "    def get_learned_conditioning(self, c):\n        return c",
        "    if kept is None:\n        def apply_model(self, x, t, cond):\n            return x",
        "    apply_model, other = None, 2",
    ],
)
def test_a_class_whose_body_overrides_what_draws_draws_itself(forked, body):
    assert drawn_by(forked("changed_hub", HUB.format(plain=PLAIN, body=body))) is None


def test_only_the_named_class_body_counts(forked):
    text = HUB.format(plain=PLAIN, body="    pass")
    text += "\nclass Other(Hub):\n    def apply_model(self):\n        pass\n"
    address = forked("two_hubs", text)
    assert drawn_by(address) == PLAIN
    assert drawn_by(address.removesuffix("Hub") + "Other") is None


def test_a_forks_own_file_at_our_address_has_no_table_and_its_class_is_used(forked, monkeypatch):
    monkeypatch.delitem(sys.modules, "ldm.models.diffusion.ddpm", raising=False)
    address = forked("ddpm", "import torch\nclass Hub(torch.nn.Module):\n    pass\n")
    assert address == "ldm.models.diffusion.ddpm.Hub"
    assert drawn_by(address) is None
    assert drawn_by("ldm.models.diffusion.ddpm.LatentDiffusion") is None
    assert for_drawing(MODEL) is MODEL


CHANGED_BASE = """
{brings}
from ldm.models.diffusion.latent_diffusion import LatentSpaceDiffusion

DRAWN_BY = {{"Hub": "{plain}"}}

class Mixin:
    {mixin}

class Below(LatentSpaceDiffusion):
    {below}

class Hub(Mixin, {imported}Below):
    "Trains."
"""

TRIED = "try:\n    from changed_mixin import Imported\nexcept ImportError:\n    Imported = object"


@pytest.mark.parametrize(
    ("changed", "drawn"),
    [
        ({}, PLAIN),
        ({"mixin": "def preview(self): pass"}, PLAIN),
        ({"mixin": "def apply_model(self): pass"}, None),
        ({"below": "def q_sample(self): pass"}, None),
        ({"below": "decode_first_stage = None"}, None),
        ({"imported": "Imported, "}, None),
        ({"brings": "import changed_mixin", "imported": "changed_mixin.Imported, "}, None),
        ({"brings": "import changed_mixin as m", "imported": "m.Imported, "}, None),
        ({"brings": "from .beside import Imported", "imported": "Imported, "}, None),
        ({"brings": TRIED, "imported": "Imported, "}, None),
    ],
)
def test_what_a_base_or_a_mixin_overrides_counts_too(forked, tmp_path, monkeypatch, changed, drawn):
    monkeypatch.syspath_prepend(tmp_path)
    mixin = "class Imported:\n    def apply_model(self): pass\n"
    (tmp_path / "changed_mixin.py").write_text(mixin, encoding="utf-8")
    forked("beside", mixin)
    usual = {"brings": "from changed_mixin import Imported", "imported": ""}
    parts = {"mixin": "pass", "below": "pass", **usual, **changed}
    assert drawn_by(forked("changed_base", CHANGED_BASE.format(plain=PLAIN, **parts))) == drawn


@pytest.mark.parametrize(
    ("file", "owner", "method", "targets"),
    [
        ("diffusion/ddpm", "class DDPM(", "q_sample", ["diffusion.ddpm.DDPM"]),
        ("diffusion/ddpm", "class DDPM(", "q_sample", ["diffusion.ddpm.LatentDiffusion"]),
        ("autoencoder", "class VQModel(", "encode", ["autoencoder.VQModel"]),
        ("autoencoder", "class VQModel(", "encode", ["autoencoder.VQModelInterface"]),
        (
            "diffusion/latent_inpainting",
            "class LatentInpaintDiffusion(",
            "apply_model",
            ["diffusion.ddpm.LatentInpaintDiffusion"],
        ),
        (
            "diffusion/latent_reverse_process",
            "class LatentReverseProcess",
            "apply_model",
            ["diffusion.ddpm.LatentDiffusion", "diffusion.ddpm.LatentInpaintDiffusion"],
        ),
    ],
)
def test_a_change_in_our_own_text_is_seen_wherever_it_is(
    tmp_path, monkeypatch, file, owner, method, targets
):
    """As in a copy of ours that somebody edits: nothing of it is imported here."""
    text = (ROOT / "ldm" / "models" / f"{file}.py").read_text(encoding="utf-8")
    before, found, after = text.partition(owner)
    assert found
    bases, colon, body = after.partition(":\n")
    changed = f"{before}{found}{bases}{colon}    def {method}(self):\n        pass\n\n{body}"
    (tmp_path / f"{Path(file).name}.py").write_text(changed, encoding="utf-8")
    monkeypatch.delitem(sys.modules, f"ldm.models.{file.replace('/', '.')}", raising=False)
    package = ldm.models.diffusion if "/" in file else ldm.models
    monkeypatch.setattr(package, "__path__", [str(tmp_path), *package.__path__])
    for target in targets:
        assert drawn_by(f"ldm.models.{target}") is None
