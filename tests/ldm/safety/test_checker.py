"""The safety checker: policy, scores, and what it says."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.errors import UserError
from ldm.safety.checker import Finding, SafetyChecker
from ldm.safety.concepts import ConceptModel, Preprocessing
from ldm.safety.weights import find_weights


def pictures(count=3, height=40, width=52):
    return np.random.default_rng(5).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def embed(folder, batch):
    return ConceptModel(find_weights(folder)).embed(batch)


def test_a_picture_that_is_a_concept_itself_is_blacked_out(write_checker, tmp_path, tensors):
    own = embed(write_checker(tmp_path), pictures())[1]
    tensors["concept_embeds"][4] = 3 * own  # length plays no part
    tensors["concept_embeds_weights"][4] = 0.99

    checked = SafetyChecker(path=write_checker(tmp_path, tensors)).check(pictures())

    assert checked.flags == [False, True, False]
    assert checked.findings[1].concepts == ((4, pytest.approx(0.01, abs=1e-3)),)
    assert str(checked.findings[1]) == "concept 4 (score 0.010)"
    assert checked.pictures[1].max() == 0
    for kept in (0, 2):
        assert np.array_equal(checked.pictures[kept], pictures()[kept])


def test_a_batch_that_nothing_matches_comes_back_as_it_was(write_checker, tmp_path):
    checked = SafetyChecker(path=write_checker(tmp_path)).check(pictures())
    assert checked.flags == [False] * 3
    assert np.array_equal(checked.pictures, pictures())


def test_special_care_tips_a_picture_that_is_just_under_a_threshold(
    write_checker, tmp_path, tensors
):
    own = embed(write_checker(tmp_path), pictures())[0]
    tensors["concept_embeds"][16] = own
    tensors["concept_embeds_weights"][16] = 1.005  # a cosine of 1 is 0.005 short of it
    strict = SafetyChecker(path=write_checker(tmp_path, tensors))
    assert strict.check(pictures()).flags == [False] * 3

    tensors["special_care_embeds"][2] = own
    tensors["special_care_embeds_weights"][2] = 0.9
    checked = SafetyChecker(path=write_checker(tmp_path, tensors)).check(pictures())
    assert checked.flags == [True, False, False]
    assert str(checked.findings[0]) == "concept 16 (score 0.005), special care 2 (score 0.100)"


def test_special_care_alone_flags_nothing(write_checker, tmp_path, tensors):
    tensors["special_care_embeds_weights"][:] = -2
    checked = SafetyChecker(path=write_checker(tmp_path, tensors)).check(pictures())
    assert checked.flags == [False] * 3
    assert len(checked.findings[0].special_care) == 3


def test_a_match_below_half_a_thousandth_is_none(write_checker, tmp_path, tensors):
    own = embed(write_checker(tmp_path), pictures())[0]
    tensors["concept_embeds"][0] = own
    tensors["concept_embeds_weights"][0] = 0.9997
    assert not SafetyChecker(path=write_checker(tmp_path, tensors)).check(pictures()).flags[0]
    tensors["concept_embeds_weights"][0] = 0.999
    assert SafetyChecker(path=write_checker(tmp_path, tensors)).check(pictures()).flags[0]


def test_the_network_looks_at_the_rounded_pictures_and_the_given_ones_are_handed_out(
    write_checker, tmp_path, tensors
):
    truncated, rounded = pictures(), pictures()[::-1].copy()
    tensors["concept_embeds"][0] = embed(write_checker(tmp_path), rounded)[0]
    tensors["concept_embeds_weights"][0] = 0.99
    checker = SafetyChecker(path=write_checker(tmp_path, tensors))
    checked = checker.check(truncated, seen=rounded)
    assert checked.flags == [True, False, False]
    assert np.array_equal(checked.pictures[1:], truncated[1:])


def test_what_is_given_is_never_modified(write_checker, tmp_path, tensors):
    tensors["concept_embeds_weights"][:] = -2
    given = pictures()
    checked = SafetyChecker(path=write_checker(tmp_path, tensors)).check(given)
    assert checked.flags == [True] * 3
    assert np.array_equal(given, pictures())


def test_a_batch_of_three_scores_as_three_single_pictures(write_checker, tmp_path):
    model = ConceptModel(find_weights(write_checker(tmp_path)))
    together = model.score(pictures())
    alone = [model.score(picture[None]) for picture in pictures()]
    assert np.allclose(together.concepts, [s.concepts[0] for s in alone], atol=1e-3)


@pytest.mark.parametrize("weights", ["pytorch_model.bin", "model.safetensors"])
@pytest.mark.parametrize("layout", ["2022", "flat", "half"])
def test_every_layout_of_the_weights_gives_the_same_embedding(
    write_checker, tmp_path, tensors, weights, layout
):
    expected = embed(write_checker(tmp_path / "expected"), pictures())
    if layout == "flat":  # as transformers 5 writes it
        tensors = {
            k.replace("vision_model.vision_model.", "vision_model."): t for k, t in tensors.items()
        }
    elif layout == "half":
        tensors = {k: t.half() if t.is_floating_point() else t for k, t in tensors.items()}
    result = embed(write_checker(tmp_path / layout, tensors, weights), pictures())
    assert result.dtype == torch.float32
    assert torch.allclose(result, expected, atol=1e-2 if layout == "half" else 1e-6)


def between_the_middle_two(values):
    """Give thresholds that half of the pictures exceed: (pictures, concepts) -> (concepts,)."""
    ordered, middle = values.sort(0).values, len(values) // 2
    return (ordered[middle - 1] + ordered[middle]) / 2


def test_embedding_and_flags_are_those_of_diffusers(write_checker, tmp_path, tensors):
    """Parity on the same weights, with thresholds at which some pictures match and some do not."""
    module = pytest.importorskip(
        "diffusers.pipelines.stable_diffusion.safety_checker", exc_type=ImportError
    )
    transformers = pytest.importorskip("transformers")
    colours = np.random.default_rng(8).integers(0, 256, (12, 1, 1, 3))
    batch = (0.3 * pictures(12) + 0.7 * colours).astype(np.uint8)
    embedding = embed(write_checker(tmp_path), batch)
    concepts = torch.nn.functional.normalize(tensors["concept_embeds"])[:2]
    special = torch.nn.functional.normalize(tensors["special_care_embeds"])
    tensors["concept_embeds_weights"][:2] = between_the_middle_two(embedding @ concepts.T)
    tensors["special_care_embeds_weights"] = between_the_middle_two(embedding @ special.T)
    model = ConceptModel(find_weights(write_checker(tmp_path, tensors)))

    vision = model.vision.config.to_dict()
    config = transformers.CLIPConfig(vision_config=vision, projection_dim=24)
    theirs = module.StableDiffusionSafetyChecker(config).eval()
    nested = any("vision_model.vision_model." in name for name in theirs.state_dict())
    theirs.load_state_dict(
        {
            name if nested else name.replace("vision_model.vision_model.", "vision_model."): tensor
            for name, tensor in tensors.items()
            if not name.endswith("position_ids")
        }
    )
    pixels = model.preprocess(batch)
    with torch.no_grad():
        pooled = theirs.vision_model(pixels).pooler_output
        expected = torch.nn.functional.normalize(theirs.visual_projection(pooled))
        _, flags = theirs(pixels, [picture.astype(np.float32) for picture in batch])

    # Two float32 networks of two layers; another attention kernel is all that may differ.
    assert torch.allclose(model.embed(batch), expected, atol=2e-6)
    assert SafetyChecker(path=tmp_path).check(batch).flags == flags
    assert 0 < sum(flags) < len(flags)


def clip_processor():
    transformers = pytest.importorskip("transformers")
    pil_only = getattr(transformers, "CLIPImageProcessorPil", None)
    return pil_only or transformers.CLIPImageProcessor


@pytest.mark.parametrize("size", [(40, 52), (52, 40), (28, 28), (96, 31)])
def test_preprocessing_is_that_of_clip(size):
    batch = pictures(1, *size)
    ours = Preprocessing(resize=28, crop=28)(batch)
    processor = clip_processor()(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    theirs = processor(images=[Image.fromarray(batch[0])], return_tensors="pt")["pixel_values"]
    assert ours.shape == theirs.shape == (1, 3, 28, 28)
    # The same resampling to bytes: no value may be off by one level, 1 / 255 / std > 0.014.
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(
    "sides",
    [
        {"size": 32, "crop_size": 28},
        {"size": {"shortest_edge": 32}, "crop_size": {"height": 28, "width": 28}},
        {"size": [32, 32], "crop_size": [28, 28]},
    ],
)
def test_preprocessing_files_of_every_age_are_understood(tmp_path, sides):
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps({**sides, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}))
    found = Preprocessing.from_file(path, 224)
    assert (found.resize, found.crop, found.mean, found.std) == (32, 28, (0, 0, 0), (1, 1, 1))


def test_without_a_preprocessing_file_the_networks_own_size_counts(write_checker, tmp_path):
    (write_checker(tmp_path) / "preprocessor_config.json").unlink()
    assert ConceptModel(find_weights(tmp_path)).preprocess.crop == 28


def test_loading_and_checking_draw_no_random_numbers(write_checker, tmp_path):
    torch.manual_seed(7)
    expected = torch.randn(3)
    torch.manual_seed(7)
    SafetyChecker(path=write_checker(tmp_path)).check(pictures())
    assert torch.equal(torch.randn(3), expected)


def test_a_checker_that_is_off_checks_nothing_and_says_so(write_checker, tmp_path):
    checker = SafetyChecker("off", write_checker(tmp_path))
    checked = checker.check(pictures())
    assert not checker.active
    assert "--safety_checker off" in checker.status
    assert checked.flags == [False] * 3 and checked.findings == [Finding()] * 3
    assert np.array_equal(checked.pictures, pictures())


def test_a_checker_that_is_not_there_says_so_and_how_to_get_it():
    checker = SafetyChecker()
    assert not checker.active
    assert "not checked" in checker.status
    assert "python scripts/download_models.py safety-checker" in checker.status
    assert "\n" not in checker.status
    assert checker.check(pictures()).flags == [False] * 3


def test_a_checker_that_works_has_nothing_to_say(write_checker, tmp_path):
    checker = SafetyChecker(path=write_checker(tmp_path))
    assert checker.active
    assert checker.status is None


def test_an_unknown_policy_is_an_error_that_lists_the_known():
    with pytest.raises(UserError, match="'rick'.*black, off"):
        SafetyChecker("rick")


@pytest.mark.parametrize("kind", ["missing tensor", "other shape", "one layer more", "no head"])
def test_incomplete_weights_are_one_line_and_nothing_is_left_random(
    write_checker, tmp_path, tensors, kind
):
    name = "vision_model.vision_model.encoder.layers.1.mlp.fc1.weight"
    if kind == "missing tensor":
        del tensors[name]
    elif kind == "other shape":
        tensors[name] = tensors[name][:3]
    elif kind == "one layer more":
        tensors[name.replace("layers.1", "layers.2")] = tensors[name]
    else:
        del tensors["concept_embeds"]
    checker = SafetyChecker(path=write_checker(tmp_path, tensors))
    with pytest.raises(UserError, match=r"1 tensors .*safety-checker") as caught:
        checker.load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_configuration_is_one_line(write_checker, tmp_path, content):
    (write_checker(tmp_path) / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json"):
        SafetyChecker(path=tmp_path).load()


def test_weights_that_would_run_code_are_refused(write_checker, tmp_path):
    class Evil:
        def __reduce__(self):
            return (exec, ("raise SystemExit('executed')",))

    write_checker(tmp_path)
    torch.save({"concept_embeds": Evil()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError):
        SafetyChecker(path=tmp_path).load()


def test_without_transformers_the_line_says_how_to_go_on(write_checker, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match="pip install transformers.*--safety_checker off"):
        SafetyChecker(path=write_checker(tmp_path)).load()


def test_a_checker_that_is_off_imports_neither_torch_nor_transformers():
    program = (
        "import sys; from ldm.safety.checker import SafetyChecker; SafetyChecker('off').status; "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_finding_loading_and_checking_open_no_connection(write_checker, tmp_path, monkeypatch):
    def refuse(*arguments, **keywords):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.socket", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    assert SafetyChecker().check(pictures()).flags == [False] * 3
    assert SafetyChecker(path=write_checker(tmp_path)).check(pictures()).flags == [False] * 3
