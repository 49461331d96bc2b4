"""The buttons of served pages, pressed over HTTP as a browser does it."""

from __future__ import annotations

import re
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image
from tiny_inpainting import SIGHTED, write_inpainting_model

from ldm.pipelines.pipeline import Pipeline
from ldm.pipelines.progress import Notice
from ldm.pipelines.staging import Staging
from ldm.settings.inpaint import LowMemoryInpaintSettings

gradio = pytest.importorskip("gradio", reason="needs gradio: pip install -e '.[web]'")

from optimizedSD.web.handlers import Handlers  # noqa: E402 - imports gradio
from optimizedSD.web.layout import CSS, THEME, controls_of  # noqa: E402
from optimizedSD.web.page import IMG2IMG, INPAINT, SWAP, TXT2IMG  # noqa: E402
from optimizedSD.web.pictures import mask_of, plain_picture  # noqa: E402
from optimizedSD.web.state import RunState  # noqa: E402
from optimizedSD.web.worker import Wanted, Worker  # noqa: E402

# gradio keeps its statistics with calls that pandas is going to drop.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio.*")
PAGES = [TXT2IMG, IMG2IMG, INPAINT, SWAP]


def make_handlers(page, pipeline, folder):
    controls = controls_of(page, pipeline.choice)
    rest = {"outdir": str(folder)}
    return Handlers(page, Worker(pipeline, log_run=lambda settings: None), controls, rest)


def in_editor(painted, folder):
    """Save what the editor holds as files, and return what the browser sends."""
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


def test_an_uploaded_picture_is_the_init_image(ask, tmp_path, painted):
    shown = ask(IMG2IMG, in_editor(painted, tmp_path), n_samples=1)
    assert len(shown["gallery"]) == 1
    assert "Denoising strength: 0.75" in shown["parameters"]


def test_pixels_that_are_not_painted_over_are_kept_to_the_bit(
    ask, served, tmp_path, painted, picture
):
    shown = ask(INPAINT, in_editor(painted, tmp_path), None, n_samples=1)
    assert "Inpaint area" in shown["parameters"]
    (saved,) = served(INPAINT)[1].rglob("*.png")
    kept = np.ones((12, 16), bool)
    kept[4:8, 6:12] = False
    pixels, original = np.asarray(Image.open(saved)), np.asarray(picture)
    assert np.array_equal(pixels[kept], original[kept])
    assert not np.array_equal(pixels, original)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ddim_steps": 0}, "“Number of sampling steps, for every sampler” 0 was given"),
        ({"H": "15"}, "“Height in pixels” 15 was given; expected a multiple of 4"),
        ({"prompt": "a cat:0 a dog:0"}, "sum to 0; expected a positive number"),
    ],
)
def test_what_cannot_be_drawn_is_an_error_on_the_page(ask, changes, message):
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError) as caught:
        ask(TXT2IMG, **changes)
    text = str(caught.value)
    assert message in text
    assert "--" not in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"H": "65536"}, "“Height in pixels” 65536 was given; expected at most 256"),
        ({"n_samples": 1000}, "1000 was given; expected at most 16"),
        ({"n_samples": 8, "n_iter": 8}, "8 was given; expected at most 16"),
        ({"ddim_steps": 10**6}, "1000000 was given; expected at most 200"),
        ({"prompt": "a" * 2001}, "“The text prompt” of 2001 characters was given"),
        ({"H": "256", "W": "256", "n_samples": 5}, "expected at most 4 of 256x256 at once"),
    ],
)
def test_more_than_the_pages_limits_is_an_error_before_anything_is_drawn(
    ask, served, changes, message
):
    from gradio_client.exceptions import AppError

    _, folder = served(TXT2IMG)
    before = list(folder.rglob("*.png"))
    with pytest.raises(AppError, match=re.escape(message)):
        ask(TXT2IMG, **changes)
    assert list(folder.rglob("*.png")) == before


def test_an_upload_that_cannot_be_read_is_an_error_that_names_no_place(ask, tmp_path, painted):
    from gradio_client.exceptions import AppError

    whole = in_editor(painted, tmp_path)
    path = tmp_path / "background.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(AppError, match="image that was uploaded cannot be read") as caught:
        ask(INPAINT, whole, None, n_samples=1)
    assert "/" not in str(caught.value)


def test_a_served_page_stands_behind_its_gate(served):
    url, folder = served(TXT2IMG)
    folder.mkdir(exist_ok=True)
    (folder / "page.html").write_text("<script>")

    def code(path, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            with urllib.request.urlopen(urllib.request.Request(url + path, headers=named)) as got:
                assert not [name for name in got.headers if name.lower().startswith("access-c")]
                return got.status
        except urllib.error.HTTPError as error:
            return error.code

    assert code("") == 200
    assert code("", Host="evil.example") == 400
    assert code("config", Origin="http://localhost:3000") == 403
    assert code("monitoring") == code(f"gradio_api/file={folder}/page.html") == 404


def test_a_click_beside_the_pictures_shows_nothing(pipeline, tmp_path):
    handlers = make_handlers(TXT2IMG, pipeline, tmp_path)

    class Click:
        index = 1

    assert handlers.show_picture(["a", "b"], Click) == "b"
    assert handlers.show_picture(["a"], Click) == ""


def test_a_notice_cannot_add_markup_and_names_controls_by_their_labels(pipeline, tmp_path):
    handlers = make_handlers(TXT2IMG, pipeline, tmp_path)
    notices = handlers._notices(RunState(seed=7, notices=(Notice("--seed is <b>7</b>", True),)))
    assert f"“{handlers.labels['--seed']}”" in notices
    assert "&lt;b&gt;7&lt;/b&gt;" in notices
    assert 'class="warning"' in notices
    assert "<b>" not in notices


def test_an_error_cannot_add_markup_to_the_page(pipeline, tmp_path):
    handlers = make_handlers(TXT2IMG, pipeline, tmp_path)
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
def test_a_page_loads_nothing_from_other_machines(served, page):
    """Fonts, scripts and styles come from the program itself: the page works offline."""
    url, _ = served(page)
    with urllib.request.urlopen(url) as answer:
        text = answer.read().decode()
    tags = re.findall(r"<(?:script|link|img|iframe)\b[^>]*", text)
    assert tags
    assert not [tag for tag in tags if re.search(r"(?:src|href)=[\"']?(?:https?:)?//", tag)]
    assert not THEME._stylesheets
    assert "https://" not in CSS


def test_a_model_made_for_inpainting_starts_at_its_own_values_and_draws(tmp_path, painted):
    checkpoint = write_inpainting_model(tmp_path / "model", SIGHTED)
    sighted = Pipeline.load(checkpoint, device="cpu", staging=Staging())
    initial = {field.name: field.value for field in controls_of(INPAINT, sighted.choice)}
    assert (initial["strength"], initial["scale"]) == (1.0, 7.5)
    settings = LowMemoryInpaintSettings(
        prompt="a cat", seed=1, ddim_steps=4, strength=1.0, outdir=str(tmp_path / "out"), W=16
    )
    wanted = Wanted(settings, plain_picture(painted), mask_of(painted, None))
    states = list(Worker(sighted, lambda settings: None).draw("a", lambda: wanted))
    assert len(states[-1].pictures) == settings.n_samples
