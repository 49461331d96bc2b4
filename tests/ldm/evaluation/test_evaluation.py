"""Scores of folders of pictures: by identities, and with small networks in place of the large."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.data.picture_set import PictureSet
from ldm.data.retrieval import Embedder
from ldm.errors import UserError
from ldm.evaluation.evaluation import Evaluation
from ldm.evaluation.inception import clean_resize, features_of, read_statistics
from ldm.evaluation.paired_scores import psnr, ssim
from ldm.evaluation.settings import EvaluationSettings
from ldm.images.io import save_picture
from ldm.images.metadata import format_parameters
from ldm.process.feature_distance import Gaussian, frechet_distance

SIDE = 16


class Projection:
    """A feature extractor of 5 fixed random features."""

    side, name = 8, "a random projection"

    def __call__(self, pictures):
        assert pictures.dtype == torch.uint8 and pictures.shape[1:] == (3, 8, 8)
        weights = torch.randn(3 * 8 * 8, 5, generator=torch.Generator().manual_seed(0))
        return pictures.flatten(1).float() / 255 @ weights


class Colours:
    """CLIP for pictures of one colour: texts name it, both become its direction."""

    embedder = Embedder("stub", "0")
    names = {"red": (1.0, 0, 0), "green": (0, 1.0, 0), "dark": (-1.0, 0, 0)}

    def texts(self, texts):
        return torch.tensor([self.names[text] for text in texts])

    def __call__(self, pictures):
        means = torch.stack([torch.tensor(np.asarray(p).mean((0, 1))) for p in pictures])
        return torch.nn.functional.normalize(means.float(), dim=1)


def draw_noise(folder, count, seed=0, side=SIDE, low=0):
    rng = np.random.default_rng(seed)
    for number in range(count):
        save_picture(
            rng.integers(low, 256, (side, side, 3), dtype=np.uint8), folder / f"{number:03}.png"
        )
    return str(folder)


def evaluate(**given):
    encoders = given.pop("encoders", None)
    settings = EvaluationSettings(device="cpu", **given)
    return Evaluation(settings, extractor=Projection(), encoders=encoders).run()


def scores(report):
    return {score.metric: score.value for score in report.scores}


@pytest.fixture
def real(tmp_path):
    return draw_noise(tmp_path / "real", 12)


def test_a_folder_is_no_distance_from_itself(real):
    found = scores(evaluate(real=real, fake=real, metrics=("fid", "psnr", "ssim")))
    assert found["fid"] == pytest.approx(0, abs=1e-9)
    assert found["psnr"] == math.inf and found["ssim"] == pytest.approx(1)


def test_fid_is_that_of_the_features_gaussians(real, tmp_path):
    fake = draw_noise(tmp_path / "fake", 9, seed=1, low=60)
    found = scores(evaluate(real=real, fake=fake, metrics=("fid",), batch_size=4))["fid"]
    one, two = (
        Gaussian.of(features_of(PictureSet(folder, "--real"), Projection(), 5))
        for folder in (real, fake)
    )
    assert found == pytest.approx(frechet_distance(one, two), rel=1e-6) and found > 1


def test_kid_tells_equal_from_different_pictures(real, tmp_path):
    same = draw_noise(tmp_path / "same", 12, seed=5)
    other = draw_noise(tmp_path / "other", 12, seed=6, low=120)
    options = {"real": real, "metrics": ("kid",), "kid_size": 8, "kid_subsets": 20}
    near, far = (evaluate(fake=folder, **options).scores[0] for folder in (same, other))
    assert abs(near.value) < 2 * near.spread < far.value
    (whole,) = evaluate(fake=same, **{**options, "kid_size": 1000}).scores
    assert whole.spread is None and whole.how.startswith("1 subset of 12")


def test_statistics_serve_in_place_of_pictures(real, tmp_path):
    fake, saved = draw_noise(tmp_path / "fake", 5, seed=1), str(tmp_path / "s/real.npz")
    direct = scores(evaluate(real=real, fake=fake, metrics=("fid",), save_stats=saved))
    report = evaluate(real=saved, fake=fake, metrics=("fid",))
    assert scores(report)["fid"] == pytest.approx(direct["fid"], rel=1e-9)
    assert report.table().startswith(f"real: statistics {saved}\n")
    assert read_statistics(saved).mean.shape == (5,)


def test_known_pairs_have_their_known_psnr_and_ssim():
    """One level of 255 apart: 20 log10(255) dB. Flat pictures: SSIM is its luminance term."""
    grey = torch.full((1, 3, 32, 32), 100 / 255).double()
    brighter = torch.full((1, 3, 32, 32), 101 / 255).double()
    assert psnr(brighter, grey) == pytest.approx(20 * math.log10(255), abs=1e-4)
    a, b, c1 = 0.2, 0.6, 0.01**2
    flat = [torch.full((1, 3, 32, 32), value).double() for value in (a, b)]
    assert ssim(*flat) == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1), rel=1e-5)


def test_pairs_are_pictures_of_one_name_whatever_their_ending(tmp_path):
    pixels = np.full((16, 16, 3), 90, np.uint8)
    for folder, name, value in (("real", "a.png", 0), ("fake", "a.bmp", 1), ("fake", "b.png", 9)):
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.fromarray(pixels + np.uint8(value)).save(tmp_path / folder / name)
    report = evaluate(
        real=str(tmp_path / "real"), fake=str(tmp_path / "fake"), metrics=("psnr", "ssim")
    )
    assert scores(report)["psnr"] == pytest.approx(48.13, abs=0.01)
    assert [score.pictures for score in report.scores] == [1, 1]
    assert "1 pictures have no partner" in report.warnings[0]


def test_clip_score_is_the_cosine_of_prompt_and_picture_in_percent(tmp_path):
    settings = {"Steps": 1, "Sampler": "DDIM", "Seed": 1}
    for name, prompt, colour in (("a", "red", (255, 0, 0)), ("b", "green", (255, 255, 0))):
        pixels = np.full((8, 8, 3), colour, np.uint8)
        save_picture(
            pixels, tmp_path / f"{name}.png", metadata=format_parameters(prompt, "", settings)
        )
    colours = Colours()
    report = evaluate(fake=str(tmp_path), metrics=("clip",), encoders=(colours.texts, colours))
    assert scores(report)["clip"] == pytest.approx(50 * (1 + 0.5**0.5), rel=1e-5)
    captions = tmp_path / "captions.tsv"
    captions.write_text("a.png\tgreen\nb\tdark\n", encoding="utf-8")
    by_file = evaluate(
        fake=str(tmp_path),
        metrics=("clip",),
        captions=str(captions),
        encoders=(colours.texts, colours),
    )
    assert scores(by_file)["clip"] == 0  # at right angles, and opposite: never below 0


def test_unreadable_pictures_are_counted_and_left_out(real, tmp_path):
    (tmp_path / "real/012.png").write_bytes(b"no picture")
    (tmp_path / "real/013.png").write_bytes(b"")
    report = evaluate(real=real, fake=real, metrics=("fid", "psnr"))
    assert report.sets["real"] == {
        "folder": real,
        "pictures": 14,
        "unreadable": 2,
        "sizes": "16x16",
    }
    assert [score.pictures for score in report.scores] == [12, 12]
    assert any("2 pictures were left out" in text for text in report.warnings)


def test_few_pictures_are_warned_of(real):
    assert "fewer than 2048" in evaluate(real=real, fake=real, metrics=("fid",)).warnings[0]
    assert not evaluate(real=real, fake=real, metrics=("kid",)).warnings


def test_the_report_is_a_table_and_json(real, tmp_path):
    report = evaluate(real=real, fake=real, metrics=("psnr", "fid"))
    lines = report.table().splitlines()
    assert lines[:2] == [f"{n}: {real}: 12 pictures, 16x16" for n in ("real", "fake")]
    assert [line.split()[0] for line in lines[2:]] == ["metric", "psnr", "fid"]
    assert "bicubic, antialiased, to 8x8" in lines[4]
    report.save_json(tmp_path / "new/report.json")
    content = json.loads((tmp_path / "new/report.json").read_text(encoding="utf-8"))
    assert content["scores"]["psnr"]["value"] == "inf"
    assert content["scores"]["fid"]["pictures"] == 12 and content["sets"]["fake"]["unreadable"] == 0


def test_resizing_is_pillows_bicubic_in_floating_point():
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8))
    quantised = np.asarray(picture.resize((12, 12), Image.Resampling.BICUBIC)).astype(int)
    ours = clean_resize(picture, 12).astype(int)
    assert ours.shape == (12, 12, 3) and np.abs(ours - quantised).max() <= 1
    assert np.array_equal(clean_resize(picture.crop((0, 0, 30, 30)), 30), np.asarray(picture)[:30])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"metrics": ("fid",)}, "without --real"),
        ({"metrics": ("fame",)}, "expected fid, kid"),
        ({"metrics": ("kid",), "real": "s.npz"}, "fid alone"),
        ({"metrics": ("psnr",), "real": "nowhere"}, "--real nowhere does not exist"),
        ({"metrics": ("fid",), "real": "nothing.npz"}, "statistics nothing.npz cannot be read"),
        ({"metrics": ("lpips",), "real": "."}, "no --lpips was given"),
        ({"metrics": ("clip",), "captions": "none.json"}, "--captions none.json cannot be read"),
        ({"metrics": ("clip",)}, "no picture has a caption in its file"),
        ({"metrics": ("clip",), "save_stats": "x.npz"}, "--save_stats was given"),
        ({"metrics": ("clip",), "batch_size": 0}, "--batch_size 0 was given"),
    ],
)
def test_what_cannot_be_measured_is_told_in_one_line(given, message, real, monkeypatch):
    monkeypatch.chdir(real)
    with pytest.raises(UserError, match=message) as error:
        evaluate(**{"fake": real, **given})
    assert "\n" not in str(error.value)


def test_folders_that_do_not_fit_are_told_in_one_line(real, tmp_path):
    large = draw_noise(tmp_path / "large", 2, side=20)
    small = draw_noise(tmp_path / "small", 2, side=9)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/1.png").write_bytes(b"x")
    (tmp_path / "named").mkdir()
    (tmp_path / "named/z.png").write_bytes((tmp_path / "real/000.png").read_bytes())
    cases = [
        (large, "psnr", "000.png is 16x16, .*000.png 20x20"),
        (str(tmp_path / "empty"), "fid", "has no pictures"),
        (str(tmp_path / "bad"), "fid", "none of 1 pictures can be read"),
        (str(tmp_path / "named"), "ssim", "no pictures of the same name"),
        (str(tmp_path / "named"), "fid", "a single readable picture"),
    ]
    for fake, metric, message in cases:
        with pytest.raises(UserError, match=message):
            evaluate(real=real, fake=fake, metrics=(metric,))
    with pytest.raises(UserError, match="SSIM of pictures of 9x9"):
        evaluate(real=small, fake=small, metrics=("ssim",))


@pytest.mark.parametrize(
    ("batch_size", "advice"), [(4, "give a smaller --batch_size"), (1, "give another --device")]
)
def test_too_many_pictures_at_a_time_for_the_memory_are_told(batch_size, advice, real, monkeypatch):
    def explode(self, pictures):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(Projection, "__call__", explode)
    with pytest.raises(UserError, match=f"{batch_size} pictures at a time .*{advice}"):
        evaluate(real=real, fake=real, metrics=("fid",), batch_size=batch_size)
