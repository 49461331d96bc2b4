"""From lines to jobs: what is completed, what is refused, and on what a digest depends."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from small_pictures import flat

from ldm.errors import UserError
from ldm.jobs.lines import LineReader
from ldm.jobs.rows import Row
from ldm.pipelines.models import find_model
from ldm.pipelines.request import prepare
from ldm.settings.generation import Txt2ImgSettings
from ldm.settings.model_kind import FILL, INPAINT, TEXT
from ldm.settings.option import MAX_SEED


@pytest.fixture(scope="module")
def choice(tiny_ckpt):
    return find_model(Txt2ImgSettings(ckpt=str(tiny_ckpt)))


@pytest.fixture
def jobs(choice, tmp_path):
    """Return the jobs of one line."""

    def jobs(number=0, given=(), **cells):
        return list(LineReader(choice, dict(given), tmp_path).jobs(Row(1, cells), number))

    return jobs


def digest(jobs, **cells):
    return jobs(**{"prompt": "a cat", **cells})[0].digest


def test_a_line_becomes_as_many_jobs_as_it_asks_for_with_seeds_in_a_row(jobs):
    found = jobs(number=5, prompt="a", seed=7, n_iter=2, n_samples=3)
    assert [job.number for job in found] == [5, 6, 7, 8, 9, 10]
    assert [job.settings.seed for job in found] == [7, 8, 9, 10, 11, 12]
    assert {(job.settings.n_iter, job.settings.n_samples) for job in found} == {(1, 1)}
    assert {job.settings.seed_mode for job in found} == {"per-image"}


def test_a_line_without_a_seed_has_the_runs_and_its_number(jobs):
    assert jobs(number=5, prompt="a")[0].settings.seed == 42 + 5
    assert jobs(number=5, given={"seed": 10}, prompt="a")[0].settings.seed == 15
    assert jobs(number=5, given={"seed": 10}, prompt="a", seed=3)[0].settings.seed == 3


def test_the_runs_settings_hold_for_lines_that_do_not_say_otherwise(jobs):
    given = {"ddim_steps": 9, "scale": 3.0, "prompt": "a dog", "strength": 0.5}
    assert jobs(given=given)[0].settings.ddim_steps == 9
    assert jobs(given=given)[0].settings.prompt == "a dog"
    assert jobs(given=given, ddim_steps=4, prompt="x")[0].settings.ddim_steps == 4


def test_what_suits_the_model_is_held_by_a_job_where_neither_line_nor_run_names_it(
    choice, tmp_path
):
    own = {"scale": 3.0, "sampler": "dpmpp_2m", "ddim_steps": 20}
    suited = replace(choice, sampling=own)

    def walk(given=(), **cells):
        reader = LineReader(suited, dict(given), tmp_path)
        settings = next(reader.jobs(Row(1, {"prompt": "a", **cells}), 0)).settings
        return settings.scale, settings.sampler, settings.ddim_steps

    assert walk() == (3.0, "dpmpp_2m", 20)
    assert walk(scale=7.5) == (7.5, "dpmpp_2m", 20)
    assert walk(given={"sampler": "ddim"}, scale=2) == (2.0, "ddim", 50)


def test_a_line_is_of_the_program_that_its_pictures_say(jobs, tmp_path):
    flat(tmp_path / "a.png", (9, 9, 9), (16, 16))
    flat(tmp_path / "m.png", (255, 255, 255), (16, 16))
    given = {"strength": 0.5}
    alone = jobs(given=given, prompt="a")[0].settings
    image = jobs(given=given, prompt="a", init_img="a.png")[0].settings
    mask = jobs(given=given, prompt="a", init_img="a.png", mask="m.png")[0].settings
    around = jobs(given=given, prompt="a", init_img="a.png", outpaint="8,0,0,0")[0].settings
    programs = [s.program for s in (alone, image, mask, around)]
    assert programs == ["txt2img", "img2img", "inpaint", "inpaint"]
    assert (alone.scale, image.scale, image.strength) == (7.5, 5.0, 0.5)
    assert image.init_img == str(tmp_path / "a.png")  # named from the file of jobs


@pytest.mark.parametrize(
    ("kind", "scale", "strength"), [(TEXT, 5.0, 0.75), (INPAINT, 7.5, 1.0), (FILL, 1.0, 1.0)]
)
def test_a_line_with_a_mask_has_what_suits_the_kind_of_model(
    choice, tmp_path, kind, scale, strength
):
    for name in ("a.png", "m.png"):
        flat(tmp_path / name, (255, 255, 255), (16, 16))

    def values(**cells):
        reader = LineReader(replace(choice, kind=kind), {}, tmp_path)
        cells = {"prompt": "", "init_img": "a.png", "mask": "m.png", **cells}
        settings = next(reader.jobs(Row(1, cells), 0)).settings
        return settings.scale, settings.strength

    assert values() == (scale, strength)
    if kind.takes_text:
        assert values(scale=5, strength=0.5) == (5.0, 0.5)


def test_a_model_that_takes_no_text_needs_none_and_refuses_it(choice, tmp_path):
    for name in ("a.png", "m.png"):
        flat(tmp_path / name, (255, 255, 255), (16, 16))
    reader = LineReader(replace(choice, kind=FILL), {}, tmp_path)
    cells = {"init_img": "a.png", "mask": "m.png"}
    assert next(reader.jobs(Row(1, cells), 0)).settings.prompt == ""
    with pytest.raises(UserError, match="takes no text"):
        reader.jobs(Row(1, {**cells, "prompt": "a cat"}), 0)


def test_what_a_job_holds_is_prepared_as_the_lone_run_is(jobs, choice):
    job = jobs(prompt="a cat", W=20, sampler="euler_a", n_samples=1)[0]
    whole = {"n_samples": 1, "n_iter": 1, "seed_mode": "per-image", "seed": 42}
    alone = Txt2ImgSettings(prompt="a cat", W=20, sampler="euler_a", **whole)
    assert prepare(job.settings, choice).settings == prepare(alone, choice).settings


@pytest.mark.parametrize(
    ("cells", "hint"),
    [
        ({}, "no prompt"),
        ({"prompt": "a", "W": 17}, "multiple of 4"),
        ({"prompt": "a", "strength": 0.5}, "no setting of lines without init_img"),
        ({"prompt": "a", "mask": "m.png"}, "no init_img"),
        ({"prompt": "a", "outpaint": "8,0,0,0"}, "no init_img"),
        ({"prompt": "a", "init_img": "missing.png"}, "does not exist"),
        ({"prompt": "a", "lora": "missing"}, "missing"),
        ({"prompt": "a", "ddim_steps": 2000}, "1000"),
        ({"prompt": "a", "ddim_eta": 0.5, "sampler": "plms"}, "ddim_eta"),
        ({"prompt": "a", "seed": 2**64 - 1, "n_samples": 2}, "too large"),
        ({"prompt": "a", "steps": 3}, "ddim_steps"),
        ({"prompt": "a <lora:missing:1>"}, "missing"),
        ({"prompt": "a", "n_iter": 10**6, "n_samples": 10**6}, "pictures.*; write several lines"),
        ({"prompt": "a", "seed": MAX_SEED, "n_samples": 2}, "too large.*; give another"),
    ],
)
def test_a_line_that_cannot_be_drawn_is_refused_before_anything_is_drawn(jobs, cells, hint):
    with pytest.raises(UserError, match=hint):
        jobs(**cells)


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a dog"},
        {"negative_prompt": "x"},
        {"seed": 1},
        {"ddim_steps": 3},
        {"W": 20},
        {"scale": 3},
        {"sampler": "euler"},
        {"precision": "bfloat16"},
    ],
)
def test_a_digest_changes_with_all_that_the_picture_depends_on(jobs, change):
    assert digest(jobs, **change) != digest(jobs)


def test_a_digest_is_the_same_however_the_same_is_said(jobs, choice, tmp_path):
    plain = digest(jobs)
    assert digest(jobs, scale=7.5, sampler="ddim", W=16, H=16, seed=42) == plain
    assert digest(jobs, scale="7.5") == plain
    other = LineReader(choice, {"device": "cpu", "kernels": "auto"}, tmp_path / "elsewhere")
    assert next(other.jobs(Row(9, {"prompt": "a cat"}), 0)).digest == plain


def test_a_digest_knows_files_by_what_they_hold(jobs, tmp_path):
    flat(tmp_path / "a.png", (9, 9, 9), (16, 16))
    flat(tmp_path / "same.png", (9, 9, 9), (16, 16))
    flat(tmp_path / "other.png", (9, 9, 8), (16, 16))
    first, same, other = (digest(jobs, init_img=f"{n}.png") for n in ("a", "same", "other"))
    assert first == same != other
    flat(tmp_path / "a.png", (200, 9, 8), (16, 16))
    assert digest(jobs, init_img="a.png") not in (first, other)


@pytest.fixture
def adapters(tmp_path):
    """Folders whose adapters hold the same, and one in which they hold something else."""
    for name, data in (("one", b"x"), ("moved", b"x"), ("other", b"y")):
        for file in ("ink.safetensors", "sun.pt", "encoder/model.safetensors", "tiny/config.json"):
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return tmp_path


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("lora", "{}/ink.safetensors:0.5"),
        ("embedding", "{}/sun.pt"),
        ("decoder", "{}/tiny"),
        ("restore_faces", "{}/sun.pt"),
        ("image_encoder", "{}/encoder"),
        ("translator", "{}/encoder"),
    ],
)
def test_a_digest_knows_adapters_by_what_they_hold(jobs, adapters, setting, text):
    found = [
        digest(jobs, **{setting: text.format(adapters / n)}) for n in ("one", "moved", "other")
    ]
    assert found[0] == found[1]
    assert found[2] not in (found[0], digest(jobs))


def test_a_digest_knows_by_what_faces_are_found(jobs, adapters):
    redrawn = {"restore_faces": f"{adapters}/one/sun.pt"}
    named = ("cascade", f"{adapters}/one/ink.safetensors", f"{adapters}/other/ink.safetensors")
    assert len({digest(jobs, **redrawn, face_detector=detector) for detector in named}) == 3


def test_a_digest_knows_scales_and_the_names_of_embeddings(jobs, adapters):
    scaled = [digest(jobs, lora=f"{adapters}/one/ink.safetensors:{s}") for s in ("0.5", "0.5:1")]
    assert scaled[0] != scaled[1]
    (adapters / "one" / "moon.pt").write_bytes(b"x")
    named = [digest(jobs, embedding=f"{adapters}/one/{name}.pt") for name in ("sun", "moon")]
    assert named[0] != named[1]  # prompts call them by their names


def test_a_digest_knows_each_file_of_a_folder_that_is_read_and_no_other(jobs, adapters):
    folder = adapters / "one" / "encoder"
    before = digest(jobs, image_encoder=str(folder))
    (folder / "README.md").write_text("about it")
    assert digest(jobs, image_encoder=str(folder)) == before
    (folder / "config.json").write_text("{}")
    assert digest(jobs, image_encoder=str(folder)) != before


def test_a_digest_knows_the_model(jobs, choice, tmp_path):
    averaged = LineReader(choice, {"use_ema": True}, tmp_path)
    assert next(averaged.jobs(Row(1, {"prompt": "a cat"}), 0)).digest != digest(jobs)


@pytest.mark.parametrize(
    "file",
    [
        *("unet/diffusion_pytorch_model-00002-of-00002.safetensors", "compvis.safetensors"),
        *("vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"),
    ],
)
def test_a_digest_knows_all_weights_of_a_diffusers_folder(choice, tmp_path, file):
    shards = [f"diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    parts = {"vae": ["diffusion_pytorch_model.safetensors"], "text_encoder": ["model.safetensors"]}
    for part, names in {**parts, "unet": shards}.items():
        (tmp_path / part).mkdir()
        for name in names:
            (tmp_path / part / name).write_bytes(b"x")
    index = {"weight_map": dict(enumerate(shards))}
    text = json.dumps(index)
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(text)

    def model():
        return LineReader(replace(choice, ckpt_path=tmp_path), {}, tmp_path).model

    before = model()
    assert model() == before
    (tmp_path / file).write_bytes(b"yy")
    assert model() != before


def test_a_job_travels_to_other_processes(jobs):
    import pickle

    job = jobs(prompt="a", W=20)[0]
    assert pickle.loads(pickle.dumps(job)) == job
    assert pickle.loads(pickle.dumps(job)).digest == job.digest


@pytest.fixture
def lists(tmp_path):
    """A folder of wildcards."""
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "pets.txt").write_text("cat\ndog\nfox\n")
    return folder


def test_each_job_has_the_prompt_that_its_own_seed_draws(jobs, lists, choice):
    given = {"wildcards": str(lists), "negative_prompt": "{red|blue}"}
    found = jobs(given=given, prompt="a __pets__ {x|y}", seed=7, n_iter=2, n_samples=5)
    single = Txt2ImgSettings(prompt="a __pets__ {x|y}", **given, n_samples=10, n_iter=1, seed=7)
    alone = prepare(replace(single, seed_mode="per-image"), choice)
    assert [job.settings.prompt for job in found] == alone.prompts
    assert [job.settings.negative_prompt for job in found] == alone.negatives
    assert {job.settings.template for job in found} == {"a __pets__ {x|y}"}
    assert {job.settings.negative_template for job in found} == {"{red|blue}"}
    assert {job.settings.wildcards for job in found} == {None}
    assert [job.settings.seed for job in found] == [*range(7, 17)]
    (plain,) = jobs(given=given, prompt="a cat", negative_prompt="")
    assert plain.values["prompt"] == "a cat" and "template" not in plain.values


def test_a_job_is_another_one_when_its_own_draw_changes_and_not_otherwise(jobs, lists):
    def digests(prompt):
        return [job.digest for job in jobs(given={"wildcards": str(lists)}, **prompt)]

    line = {"prompt": "a __pets__", "seed": 1, "n_samples": 12}
    before, (typed,) = digests(line), jobs(prompt="a fox", seed=1)
    assert digests({**line, "prompt": "a {__pets__}"}) != before  # other places draw otherwise
    assert digests({**line, "prompt": "{a} __pets__"}) != before
    assert jobs(given={"wildcards": str(lists)}, prompt="{a} fox", seed=1)[0].digest == typed.digest
    (lists / "pets.txt").write_text("cat\ndog\nwolf\n")
    after = digests(line)
    changed = [a != b for a, b in zip(before, after, strict=True)]
    assert any(changed) and not all(changed)


@pytest.mark.parametrize("prompt", ["a __pet__", "a {b", "<lora:{gone|lost}:1>"])
def test_a_template_that_cannot_be_drawn_makes_a_bad_line(prompt, jobs, lists):
    with pytest.raises(UserError):
        jobs(given={"wildcards": str(lists)}, prompt=prompt)


def test_the_folder_of_wildcards_holds_for_the_whole_run(jobs):
    with pytest.raises(UserError, match="whole run"):
        jobs(prompt="a", wildcards="lists")
