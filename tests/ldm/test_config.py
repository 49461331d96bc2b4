"""Loading and merging YAML."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf
from running import ROOT

from ldm.config import build, check_keys, load_config
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


TRAINING = """
model:
  base_learning_rate: 1.0e-4
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    scheduler_config: {target: ldm.lr_scheduler.LambdaLinearScheduler, params: {f_max: [1.0]}}
    unet_config:
      target: ldm.modules.diffusionmodules.openaimodel.UNetModel
      params: {model_channels: 32}
data:
  target: main.DataModuleFromConfig
  params:
    batch_size: 2
    train: {target: ldm.data.folder.PictureFolder, params: {root: pictures}}
lightning:
  callbacks:
    image_logger: {params: {batch_frequency: 5}}
  modelcheckpoint: {params: {save_top_k: 1}}
  trainer: {max_steps: 3}
"""
MISPLACED = {
    "model.base_lr=1e-3": "model.base_learning_rate",
    "model.lr=1e-3": "model.base_learning_rate",
    "model.learning_rate=1e-3": "model.base_learning_rate",
    "model.base_learning_rat=1e-3": "model.base_learning_rate",
    "model.traget=a.b": "model.target",
    "model.param.x=1": "model.params",
    "model.params.unet_config.model_channels=64": "model.params.unet_config.params.model_channels",
    "model.params.unet_config.num_heads=4": "model.params.unet_config.params.num_heads",
    "model.params.scheduler_config.f_max=[2.0]": "model.params.scheduler_config.params.f_max",
    "data.batch_size=3": "data.params.batch_size",
    "data.num_worker=0": "data.params.num_workers",
    "data.bs=3": "data.params.batch_size",
    "data.params.train.root=there": "data.params.train.params.root",
    "lightning.callbacks.image_logger.batch_frequency=7": (
        "lightning.callbacks.image_logger.params.batch_frequency"
    ),
    "lightning.callbacks.mine.every=7": "lightning.callbacks.mine.params.every",
    "lightning.modelcheckpoint.save_top_k=2": "lightning.modelcheckpoint.params.save_top_k",
    "lightning.logger.project=mine": "lightning.logger.params.project",
    "modle.params.x=1": "'model'",
    "lightening.trainer.max_steps=1": "'lightning'",
}


@pytest.fixture
def training_yaml(tmp_path):
    path = tmp_path / "training.yaml"
    path.write_text(TRAINING)
    return path


@pytest.mark.parametrize("override", MISPLACED)
def test_a_setting_that_nothing_reads_is_refused_with_the_place_that_was_meant(
    training_yaml, override
):
    with pytest.raises(UserError) as caught:
        load_config(training_yaml, overrides=[override])
    said = str(caught.value)
    assert "nothing reads" in said and "\n" not in said
    assert said.rstrip("?").endswith(MISPLACED[override])


def test_a_misplaced_setting_is_found_in_a_file_and_when_an_object_is_built(training_yaml):
    training_yaml.write_text(TRAINING.replace("params: {model_channels: 32}", "dims: 2"))
    with pytest.raises(UserError, match=r"unet_config\.params\.dims"):
        load_config(training_yaml)
    by_hand = OmegaConf.create({"model": {"target": "torch.nn.Linear", "bias": False}})
    with pytest.raises(UserError, match=r"model\.params\.bias"):
        build(by_hand)


def test_another_programs_class_may_read_keys_of_its_own_but_no_misplaced_parameters():
    unet = {"target": "ldm.modules.diffusionmodules.openaimodel.UNetModel", "pretrained": "x.pth"}
    model = {"target": "cldm.cldm.ControlLDM", "params": {"unet_config": unet}}
    check_keys(OmegaConf.create({"model": model}))
    unet["use_checkpoint"] = False
    with pytest.raises(UserError, match=r"unet_config\.params\.use_checkpoint"):
        check_keys(OmegaConf.create({"model": model}))


def test_what_is_no_description_of_an_object_may_have_any_keys():
    inner = {"loss": {"target": 5, "weight": 1}}
    check_keys(OmegaConf.create({"model": {"target": "ldm.a.B", "params": inner}}))
    check_keys(OmegaConf.create({"data": {"root": "x"}, "seed": 3, "names": ["a", {"b": 1}]}))


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_configuration_says_nothing_in_vain(path):
    load_config(path)


def test_a_class_that_cannot_be_imported_does_not_hide_the_misplaced_setting(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    described = {"model": {"target": "broken_module.Model", "width": 3, "params": {"width": 1}}}
    with pytest.raises(UserError, match=r"model\.params\.width"):
        check_keys(OmegaConf.create(described))


def test_a_tokenizer_beside_its_yaml_is_found_from_anywhere_and_any_other_path_stays(tmp_path):
    place = "model.params.cond_stage_config.params.tokenizer_path"
    described = OmegaConf.from_dotlist([f"{place}=mine.tokenizer"])
    OmegaConf.save(described, tmp_path / "mine.yaml")
    assert OmegaConf.select(load_config(tmp_path / "mine.yaml"), place) == "mine.tokenizer"
    (tmp_path / "mine.tokenizer").mkdir()
    beside = str(tmp_path / "mine.tokenizer")
    assert OmegaConf.select(load_config(tmp_path / "mine.yaml"), place) == beside
    own = load_config(tmp_path / "mine.yaml", overrides=[f"{place}=other"])
    assert OmegaConf.select(own, place) == "other"


@pytest.mark.parametrize("conditioner", ["__is_first_stage__", "[1]", "{params: ${nothing}}"])
def test_a_configuration_with_another_conditioner_is_left_as_it_is(tmp_path, conditioner):
    text = f"model: {{target: torch.nn.Identity, params: {{cond_stage_config: {conditioner}}}}}"
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    if "$" in conditioner:
        with pytest.raises(UserError, match="nothing"):
            load_config(tmp_path / "a.yaml")
    else:
        assert load_config(tmp_path / "a.yaml") == OmegaConf.create(text)
