"""A folder with a sentencepiece tokenizer: rinna's layout, there and back with its tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from narrow_models import narrow_config, narrow_model
from omegaconf import OmegaConf
from safetensors.torch import save_file

from ldm.checkpoint.diffusers.convert import Conversion, from_diffusers, to_diffusers
from ldm.checkpoint.diffusers.json_files import INDEX
from ldm.checkpoint.diffusers.to_yaml import folder_config
from ldm.checkpoint.found_config import load_model_config
from ldm.checkpoint.io import read_checkpoint
from ldm.checkpoint.load import load_model
from ldm.config import load_config
from ldm.errors import UserError

pytest.importorskip("sentencepiece", reason="needs pip install -e '.[japanese]'")

from small_sentencepiece import RINNA_IDS, write_tokenizer  # noqa: E402

PROMPTS = ["赤い猫の写真", "", "A Red CAT"]
JAPANESE = "ldm.modules.encoders.modules.FrozenJapaneseCLIPEmbedder"
AGAIN = Conversion(overwrite=True)


def write_model(folder: Path, **encoder) -> Path:
    """Write ``ja.safetensors``, ``ja.yaml`` and ``ja.tokenizer``; return the first."""
    tokenizer = write_tokenizer(folder / "ja.tokenizer", ids=RINNA_IDS)
    config = narrow_config("v1")
    text = config["model"]["params"]["cond_stage_config"]
    sizes = {**text["params"]["text_config"], "vocab_size": 150}
    text.update(target=JAPANESE, params={"text_config": sizes, **encoder})
    save_file(narrow_model(config).state_dict(), folder / "ja.safetensors")
    text["params"]["tokenizer_path"] = tokenizer.name
    OmegaConf.save(OmegaConf.create(config), folder / "ja.yaml")
    return folder / "ja.safetensors"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("japanese")


@pytest.fixture(scope="module")
def ckpt(home):
    return write_model(home)


@pytest.fixture(scope="module")
def folder(ckpt, home):
    """The model as a diffusers folder; not to be changed."""
    to_diffusers(ckpt, home / "folder", ckpt.with_suffix(".yaml"), Conversion())
    return home / "folder"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def words(model) -> torch.Tensor:
    with torch.no_grad():
        return model.get_learned_conditioning(PROMPTS)


def test_every_tensor_and_the_tokenizer_come_back_to_the_bit(ckpt, folder, tmp_path):
    lines = from_diffusers(folder, tmp_path / "back.safetensors")
    assert any("back.tokenizer, its tokenizer" in line for line in lines)
    back, own = (read_checkpoint(p).tensors for p in (tmp_path / "back.safetensors", ckpt))
    assert back.keys() == own.keys()
    assert all(torch.equal(back[name], own[name]) for name in own)
    assert contents(tmp_path / "back.tokenizer") == contents(ckpt.with_suffix(".tokenizer"))
    assert contents(folder / "tokenizer") == contents(ckpt.with_suffix(".tokenizer"))


def test_model_and_tokenizer_can_be_moved_together(ckpt, folder, tmp_path, monkeypatch):
    from_diffusers(folder, tmp_path / "here" / "back.safetensors")
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.chdir(tmp_path)
    config = load_model_config(tmp_path / "there" / "back.yaml", given=False)  # no path elsewhere
    again, report = load_model(config, tmp_path / "there" / "back.safetensors")
    assert not report.warnings()
    ours, _ = load_model(ckpt.with_suffix(".yaml"), ckpt)
    assert torch.equal(words(again), words(ours))


def test_the_folder_draws_by_itself(ckpt, folder):
    ours, _ = load_model(ckpt.with_suffix(".yaml"), ckpt)
    again, report = load_model(folder_config(folder), folder)
    assert not report.warnings()
    assert torch.equal(words(again), words(ours))


def test_diffusers_own_pipeline_gives_the_same_states(folder):
    diffusers = pytest.importorskip("diffusers")
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    assert type(pipe.tokenizer).__name__.startswith("T5Tokenizer")
    ours, _ = load_model(folder_config(folder), folder)
    # transformers 5 takes the third piece for the unknown one, which rinna's files have first:
    # these prompts have no unknown letters
    texts = ["赤い猫の写真", "の写真"]
    rows = ours.cond_stage_model.tokens(texts)
    assert not (rows == 0).any()
    theirs = pipe.tokenizer(
        texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
    ).input_ids
    assert torch.equal(theirs, rows)
    with torch.no_grad():
        expected = pipe.text_encoder(theirs)[0]
        torch.testing.assert_close(ours.cond_stage_model(texts), expected, rtol=0, atol=1e-5)


def test_the_folder_names_its_tokenizer_and_special_tokens(folder):
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    assert index["tokenizer"] == ["transformers", "T5Tokenizer"]
    config = json.loads((folder / "text_encoder/config.json").read_text(encoding="utf-8"))
    assert (config["vocab_size"], config["eos_token_id"], config["pad_token_id"]) == (150, 2, 3)
    assert "bos_token_id" not in config


@pytest.mark.parametrize(
    "kind", ["JapaneseStableDiffusionPipeline", "JapaneseStableDiffusionImg2ImgPipeline"]
)
def test_rinnas_own_pipelines_are_read(kind, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "folder")
    index = tmp_path / "folder" / INDEX
    named = json.loads(index.read_text(encoding="utf-8")) | {"_class_name": kind}
    index.write_text(json.dumps(named), encoding="utf-8")
    text = folder_config(tmp_path / "folder").model.params.cond_stage_config
    assert text.target == JAPANESE
    assert text.params.tokenizer_path == str(tmp_path / "folder" / "tokenizer")


def test_a_tokenizer_json_alone_is_enough(folder, tmp_path):
    """So transformers saves it since release 5."""
    transformers = pytest.importorskip("transformers")
    shutil.copytree(folder, tmp_path / "folder")
    saved = tmp_path / "folder" / "tokenizer"
    shutil.rmtree(saved)
    write_tokenizer(tmp_path / "t5")
    transformers.T5Tokenizer.from_pretrained(str(tmp_path / "t5"), extra_ids=0).save_pretrained(
        saved
    )
    if not (saved / "tokenizer.json").exists():
        pytest.skip("transformers below 5 saves the sentencepiece file")
    from_diffusers(tmp_path / "folder", tmp_path / "back.safetensors")
    assert "spiece.model" not in contents(tmp_path / "back.tokenizer")
    model, _ = load_model(tmp_path / "back.yaml", tmp_path / "back.safetensors")
    assert words(model).isfinite().all()


# --- what goes wrong ---


def test_what_exists_is_kept_unless_told_otherwise(folder, tmp_path):
    out = tmp_path / "back.safetensors"
    tokenizer = out.with_suffix(".tokenizer")
    write_tokenizer(tokenizer, size=100)
    before = contents(tokenizer)
    with pytest.raises(UserError, match=r"back\.tokenizer' exists; .*--overwrite"):
        from_diffusers(folder, out)
    assert contents(tokenizer) == before and not out.exists()
    from_diffusers(folder, out, how=AGAIN)
    assert contents(tokenizer) == contents(folder / "tokenizer")


def test_a_folder_of_something_else_is_never_replaced(folder, tmp_path):
    precious = tmp_path / "back.tokenizer" / "diary.txt"
    precious.parent.mkdir()
    precious.write_text("dear diary", encoding="utf-8")
    with pytest.raises(UserError, match="holds something else"):
        from_diffusers(folder, tmp_path / "back.safetensors", how=AGAIN)
    assert precious.read_text(encoding="utf-8") == "dear diary"


@pytest.mark.parametrize("option", ["do_lower_case", "nfkc"])
def test_a_choice_that_a_folder_has_no_place_for_is_refused(option, tmp_path):
    ckpt = write_model(tmp_path, **{option: False})
    with pytest.raises(UserError, match=rf"{option} False.*no place for; expected true"):
        to_diffusers(ckpt, tmp_path / "folder", ckpt.with_suffix(".yaml"), Conversion())
    assert not (tmp_path / "folder").exists()


def test_a_model_whose_tokenizer_is_missing_is_no_folder_yet(ckpt, tmp_path):
    config = load_config(ckpt.with_suffix(".yaml"))
    config.model.params.cond_stage_config.params.tokenizer_path = "nowhere"
    with pytest.raises(UserError, match="'nowhere' does not exist"):
        to_diffusers(ckpt, tmp_path / "folder", config, Conversion())
    assert not list(tmp_path.iterdir())
