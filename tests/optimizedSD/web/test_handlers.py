"""Pages served for real, asked over HTTP as a browser does, without one."""

from __future__ import annotations

import re
import socket
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_inpainting import SIGHTED, write_inpainting_model

from ldm.pipelines.pipeline import Pipeline
from ldm.pipelines.staging import Staging
from ldm.settings.inpaint import LowMemoryInpaintSettings

gradio = pytest.importorskip("gradio", reason="needs gradio: pip install -e '.[web]'")

from optimizedSD.web.components import component, rows  # noqa: E402 - they import gradio
from optimizedSD.web.fields import MAIN  # noqa: E402
from optimizedSD.web.handlers import SHOWN, Handlers  # noqa: E402
from optimizedSD.web.kinds import IMG2IMG, INPAINT, TXT2IMG  # noqa: E402
from optimizedSD.web.layout import CSS, THEME, controls_of  # noqa: E402
from optimizedSD.web.pictures import mask_of, plain_picture  # noqa: E402
from optimizedSD.web.server import launch  # noqa: E402
from optimizedSD.web.worker import Request, Worker  # noqa: E402

# gradio keeps its statistics with calls that pandas is going to drop.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio.*")
PAGES = [TXT2IMG, IMG2IMG, INPAINT]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def make_desk(page, pipeline, folder, **first):
    controls = controls_of(page, pipeline.choice)
    rest = {"outdir": str(folder)}
    return Handlers(page, Worker(pipeline, note=lambda settings: None), controls, rest)


@pytest.fixture(scope="module")
def served(pipeline, tmp_path_factory):
    """Return a function that serves a page, once, and gives its address and its folder."""
    begun, patch = {}, pytest.MonkeyPatch()

    def serve(page):
        name = page.server.program
        if name not in begun:
            folder = tmp_path_factory.mktemp("page")
            patch.setenv("GRADIO_TEMP_DIR", "")  # to be restored, whatever `launch` sets
            patch.setenv("GRADIO_ANALYTICS_ENABLED", "")
            server = page.server(port=free_port(), outdir=str(folder / "out"))
            worker = Worker(pipeline, note=lambda settings: None)
            begun[name] = launch(page, server, worker, "tiny", str(folder / "cache")), server
        blocks, server = begun[name]
        return blocks.local_url, Path(server.outdir)

    yield serve
    for blocks, _ in begun.values():
        blocks.close(verbose=False)
    patch.undo()


@pytest.fixture
def ask(served, pipeline):
    """Return a function that draws on a page and returns what it shows at last."""
    gradio_client = pytest.importorskip("gradio_client")

    def ask(page, *uploads, **changes):
        url, _ = served(page)
        held = {field.name: field.value for field in controls_of(page, pipeline.choice)}
        held |= {"ddim_steps": 4, "seed": "7"} | changes
        client = gradio_client.Client(url, verbose=False, download_files=False)
        answer = client.predict(*uploads, *held.values(), api_name="/draw")
        return dict(zip(SHOWN, answer, strict=False))

    return ask


def in_editor(painted, folder):
    """Save what the editor holds as files, and return the value that the browser sends."""
    files = {"background": painted["background"], "composite": painted["composite"]}
    files["layer"] = painted["layers"][0]
    from gradio_client import handle_file

    paths = {}
    for name, image in files.items():
        image.save(folder / f"{name}.png")
        paths[name] = handle_file(folder / f"{name}.png")
    return {
        "background": paths["background"],
        "layers": [paths["layer"]],
        "composite": paths["composite"],
        "id": None,
    }


def test_a_text_becomes_pictures_with_their_seed_and_parameters(ask, served):
    shown = ask(TXT2IMG, prompt="a dog")
    captions = [each["caption"] for each in shown["gallery"]]
    assert captions == ["seed_7_00000.png, seed 7", "seed_8_00001.png, seed 8"]
    assert shown["seed"] == "7"
    assert shown["parameters"].startswith("a dog\nSteps: 4, Sampler: PLMS")
    assert "2 pictures in" in shown["status"]
    _, folder = served(TXT2IMG)
    assert len(list((folder / "a_dog").glob("*.png"))) == 2


def test_a_picture_is_the_start_of_others(ask, tmp_path, painted):
    shown = ask(IMG2IMG, in_editor(painted, tmp_path), n_samples=1)
    assert len(shown["gallery"]) == 1
    assert "Denoising strength: 0.75" in shown["parameters"]


def test_what_is_not_painted_over_is_kept_to_the_bit(ask, served, tmp_path, painted, picture):
    shown = ask(INPAINT, in_editor(painted, tmp_path), None, n_samples=1)
    assert "Inpaint area" in shown["parameters"]
    (saved,) = served(INPAINT)[1].rglob("*.png")
    kept = np.ones((12, 16), bool)
    kept[4:8, 6:12] = False
    pixels, original = np.asarray(Image.open(saved)), np.asarray(picture)
    assert np.array_equal(pixels[kept], original[kept])
    assert not np.array_equal(pixels, original)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ddim_steps": 0}, "“Number of sampling steps, for every sampler” 0 was given"),
        ({"H": "15"}, "“Height in pixels” 15 was given; expected a multiple of 4"),
        ({"prompt": "a cat:0 a dog:0"}, "sum to 0; expected a positive number"),
    ],
)
def test_what_cannot_be_drawn_is_an_error_on_the_page(ask, changes, told):
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError) as caught:
        ask(TXT2IMG, **changes)
    text = str(caught.value)
    assert told in text
    assert "--" not in text
    assert "\n" not in text


def test_errors_and_notices_cannot_bring_in_markup(pipeline, tmp_path):
    handlers = make_desk(TXT2IMG, pipeline, tmp_path)
    held = [field.value for field in handlers.fields]
    held[[field.name for field in handlers.fields].index("seed")] = "<b>7</b>"

    class Visit:
        session_hash = "me"

    answers = handlers.draw(Visit, *held)
    status = next(answers)[0]
    assert "&lt;b&gt;7" in status
    assert "<b>" not in status
    with pytest.raises(gradio.Error, match="&lt;b&gt;7"):
        next(answers)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.server.program)
def test_every_field_is_a_labelled_component_with_its_first_value(page, pipeline):
    kinds = {
        "text": gradio.Textbox,
        "blank": gradio.Textbox,
        "choice": gradio.Dropdown,
        "switch": gradio.Checkbox,
        "slider": gradio.Slider,
        "number": gradio.Number,
    }
    for field in controls_of(page, pipeline.choice):
        made = component(field)
        assert type(made) is kinds[field.kind]
        assert made.label == field.label
        assert made.value == ("" if field.value is None else field.value) or field.kind == "blank"
        if field.kind == "choice":
            assert [value for _, value in made.choices] == list(field.option.offered)
        if field.kind == "slider":
            limits = (field.option.minimum, field.option.maximum)
            assert (made.minimum, made.maximum) == limits


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.server.program)
def test_rows_hold_every_control_once(page, pipeline):
    seen = [field for field in controls_of(page, pipeline.choice) if field.name in MAIN]
    laid = [field.name for row in rows(seen) for field in row]
    assert sorted(laid) == sorted(field.name for field in seen)
    assert ["H", "W"] in [[field.name for field in row] for row in rows(seen)]


def test_a_size_is_first_the_models_own(pipeline):
    first = {field.name: field.value for field in controls_of(TXT2IMG, pipeline.choice)}
    assert (first["H"], first["W"]) == (pipeline.choice.size, pipeline.choice.size)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.server.program)
def test_a_page_loads_nothing_from_elsewhere(served, page):
    """Fonts, scripts and styles come from the program itself: it works without a network."""
    url, _ = served(page)
    with urllib.request.urlopen(url) as answer:
        text = answer.read().decode()
    tags = re.findall(r"<(?:script|link|img|iframe)\b[^>]*", text)
    assert tags
    assert not [tag for tag in tags if re.search(r"(?:src|href)=[\"']?(?:https?:)?//", tag)]
    assert not THEME._stylesheets
    assert "https://" not in CSS


def test_a_model_made_for_inpainting_begins_at_its_own_values_and_paints(tmp_path, painted):
    checkpoint = write_inpainting_model(tmp_path / "model", SIGHTED)
    sighted = Pipeline.load(checkpoint, device="cpu", staging=Staging())
    first = {field.name: field.value for field in controls_of(INPAINT, sighted.choice)}
    assert (first["strength"], first["scale"]) == (1.0, 7.5)
    settings = LowMemoryInpaintSettings(
        prompt="a cat", seed=1, ddim_steps=4, strength=1.0, outdir=str(tmp_path / "out"), W=16
    )
    request = Request(settings, plain_picture(painted), mask_of(painted, None))
    views = list(Worker(sighted, lambda asked: None).draw("a", lambda: request))
    assert len(views[-1].pictures) == settings.n_samples
