"""The buttons of served pages, pressed over HTTP as a browser does it."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_inpainting import SIGHTED, write_inpainting_model

from ldm.pipelines.pipeline import Pipeline
from ldm.pipelines.progress import Notice
from ldm.pipelines.staging import Staging
from ldm.settings.inpaint import LowMemoryInpaintSettings

gradio = pytest.importorskip("gradio", reason="needs gradio: pip install -e '.[web]'")

from optimizedSD.web.drawing import Drawing  # noqa: E402
from optimizedSD.web.handlers import UNCHANGED, Handlers  # noqa: E402 - imports gradio
from optimizedSD.web.layout import CSS, THEME, controls_of  # noqa: E402
from optimizedSD.web.page import IMG2IMG, INPAINT, SWAP, TXT2IMG  # noqa: E402
from optimizedSD.web.pictures import mask_of, plain_picture  # noqa: E402
from optimizedSD.web.state import RunState  # noqa: E402
from optimizedSD.web.worker import Worker  # noqa: E402

# gradio keeps its statistics with calls that pandas is going to drop.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio.*")
PAGES = [TXT2IMG, IMG2IMG, INPAINT, SWAP]


def make_handlers(page, pipeline, folder):
    controls = controls_of(page, pipeline.choice)
    rest = {"outdir": str(folder)}
    return Handlers(page, Worker(pipeline, log_run=lambda settings: None), controls, rest)


class Visit:
    """A visitor's window."""

    session_hash = "me"

    def __init__(self, headers=None):
        self.headers = headers or {}


def held(handlers, **changes):
    """Return what the controls hold on a page that is new, but for changes."""
    values = {field.name: field.value for field in handlers.fields}
    return list((values | {"ddim_steps": 4, "seed": "7"} | changes).values())


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


def test_what_of_an_upload_is_not_used_is_among_the_notices(ask, tmp_path, picture):
    from gradio_client import handle_file

    picture.save(tmp_path / "moving.gif", save_all=True, append_images=[picture.rotate(180)])
    editor = {"background": None, "layers": [], "composite": handle_file(tmp_path / "moving.gif")}
    shown = ask(IMG2IMG, editor | {"id": None}, n_samples=1)
    said = "the picture that was uploaded holds several pictures: the first one is used"
    assert shown["notices"].count(said) == 1


def test_pixels_that_are_not_painted_over_are_kept_to_the_bit(
    ask, served, tmp_path, painted, picture
):
    shown = ask(INPAINT, in_editor(painted, tmp_path), None, n_samples=1, mask_blur="0")
    assert "Masked area padding: 32" in shown["parameters"]
    (saved,) = served(INPAINT)[1].rglob("*.png")
    kept = np.ones((12, 16), bool)
    kept[4:8, 6:12] = False
    pixels, original = np.asarray(Image.open(saved)), np.asarray(picture)
    assert np.array_equal(pixels[kept], original[kept])
    assert not np.array_equal(pixels, original)


def test_a_photograph_keeps_its_size_and_all_beyond_the_soft_edge(pipeline, tmp_path):
    rng = np.random.default_rng(3)
    photo = Image.fromarray(rng.integers(0, 256, (107, 160, 3), dtype=np.uint8))
    layer = np.zeros((107, 160, 4), np.uint8)
    layer[40:60, 50:90] = (255, 0, 200, 153)  # as the page's brush paints
    editor = {"background": photo, "layers": [Image.fromarray(layer)]}
    drawn = repaint(pipeline, tmp_path, editor)
    assert drawn.shape == (107, 160, 3)
    changed = (drawn != np.asarray(photo)).any(-1)
    assert changed[40:60, 50:90].mean() > 0.9
    assert not changed[:10].any() and not changed[:, :10].any() and not changed[95:].any()


def test_a_picture_is_inverted_or_drawn_on_around_without_a_stroke(pipeline, tmp_path):
    photo = Image.new("RGB", (40, 30), "green")
    layer = np.zeros((30, 40, 4), np.uint8)
    layer[10:20, 10:30] = 255
    editor = {"background": photo, "layers": [Image.fromarray(layer)]}
    inverted = repaint(pipeline, tmp_path, editor, invert_mask=True, mask_blur="0")
    kept = (inverted == np.asarray(photo)).all(-1)
    assert kept[10:20, 10:30].all() and not kept[:5].all()
    bare = {"background": photo, "layers": []}
    grown = repaint(pipeline, tmp_path, bare, outpaint="8,0,0,4", mask_blur="0")
    assert grown.shape == (34, 48, 3)
    assert (grown[:30, 8:] == np.asarray(photo)).all()


def test_transparent_parts_stay_transparent_where_nothing_is_drawn(pipeline, tmp_path):
    pixels = np.full((30, 40, 4), 255, np.uint8)
    pixels[:, :8, 3] = 0
    layer = np.zeros((30, 40, 4), np.uint8)
    layer[10:20, 20:30] = 255
    editor = {"background": Image.fromarray(pixels), "layers": [Image.fromarray(layer)]}
    drawn = repaint(pipeline, tmp_path, editor, mask_blur="0")
    assert drawn.shape == (30, 40, 4)
    assert (drawn[:, :8, 3] == 0).all() and (drawn[10:20, 20:30, 3] == 255).all()


def repaint(pipeline, folder, editor, **changes):
    """Draw on the inpainting page in this process; return the pixels of the picture's file."""
    handlers = make_handlers(INPAINT, pipeline, folder / "out")
    files = {"background": folder / "background.png", "layers": []}
    editor["background"].save(files["background"])
    for number, layer in enumerate(editor["layers"]):
        layer.save(folder / f"layer{number}.png")
        files["layers"].append({"path": str(folder / f"layer{number}.png")})
    files["background"] = {"path": str(files["background"])}
    *_, last = handlers.draw(Visit(), files, None, *held(handlers, n_samples=1, **changes))
    shown = dict(zip(handlers.outputs, last, strict=True))
    (path, _) = shown["gallery"][0]
    return np.asarray(Image.open(path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ddim_steps": 0}, "“Steps” 0 was given"),
        ({"H": "15"}, "“Height” 15 was given; expected a multiple of 4"),
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
        ({"H": "65536"}, "“Height” 65536 was given; expected at most 256"),
        ({"n_samples": 1000}, "1000 was given; expected at most 16"),
        ({"n_samples": 8, "n_iter": 8}, "8 was given; expected at most 16"),
        ({"ddim_steps": 10**6}, "1000000 was given; expected at most 200"),
        ({"prompt": "a" * 2001}, "“Prompt” of 2001 characters was given"),
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
        value = None

    assert handlers.show_picture(["a", "b"], Click) == "b"
    assert handlers.show_picture(["a"], Click) == UNCHANGED


def test_a_picture_that_the_browser_kept_shows_what_its_file_holds(pipeline, tmp_path):
    handlers = make_handlers(TXT2IMG, pipeline, tmp_path)
    answers = list(handlers.draw(Visit(), *held(handlers, n_samples=1)))
    last = dict(zip(handlers.outputs, answers[-1], strict=True))
    (path, _) = last["gallery"][0]

    class Click:
        index = 0
        value = {"image": {"path": path}}  # noqa: RUF012 - a stand-in

    assert handlers.show_picture([], Click) == last["parameters"]
    Path(path).unlink()
    assert handlers.show_picture([], Click) == UNCHANGED


def test_pictures_of_the_run_before_stay_until_this_one_has_its_first(pipeline, tmp_path):
    handlers = make_handlers(TXT2IMG, pipeline, tmp_path)
    drawn = [
        dict(zip(handlers.outputs, each, strict=True))
        for each in handlers.draw(Visit(), *held(handlers, n_samples=1))
    ]
    first = next(number for number, each in enumerate(drawn) if each["gallery"] != UNCHANGED)
    assert first > 0
    for each in drawn[:first]:
        assert all(each[name] == UNCHANGED for name in ("seed", "parameters", "stored"))
    assert drawn[first]["seed"] == "7" and len(drawn[first]["gallery"]) == 1


def test_a_run_without_a_picture_leaves_those_of_the_run_before(pipeline, tmp_path):
    handlers = make_handlers(TXT2IMG, pipeline, tmp_path)
    handlers.worker.register("me")
    handlers.worker.stop("me")
    *_, last = handlers.draw(Visit(), *held(handlers))
    shown = dict(zip(handlers.outputs, last, strict=True))
    assert "nothing was finished" in shown["status"]
    assert all(shown[name] == UNCHANGED for name in ("gallery", "seed", "parameters", "stored"))


def test_notices_of_the_run_before_are_folded_and_new_ones_are_not(pipeline, tmp_path):
    handlers = make_handlers(TXT2IMG, pipeline, tmp_path)
    old, new = Notice("too small"), Notice("unknown word", True)
    first = handlers._notices(RunState(seed=7, notices=(old,), over=True), "me")
    assert "<details>" not in first and "too small" in first
    second = handlers._notices(RunState(seed=7, notices=(old, new)), "me")
    open_part, folded = second.split("<details>")
    assert "unknown word" in open_part and "too small" in folded
    assert "<details>" not in handlers._notices(RunState(seed=7, notices=(old,)), "another")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no weights in /srv/draw/models/safety, see x", "no weights in safety, see x"),
        (r"C:\srv\draw\a.png is gone", "a.png is gone"),
        ("a/b and 1/2 and https://x.org/a/b and ./models/x stay", None),
    ],
)
def test_visitors_are_not_told_where_things_lie_on_the_server(pipeline, tmp_path, text, shown):
    handlers = make_handlers(TXT2IMG, pipeline, tmp_path)
    assert handlers._said(text, "en") == (shown or text)


def test_a_visitor_is_answered_in_the_language_of_the_browser(pipeline, tmp_path):
    handlers = make_handlers(TXT2IMG, pipeline, tmp_path)
    visit = Visit({"accept-language": "ja,en;q=0.5"})
    assert handlers.show_cancel(visit)[1].value == "中止"
    *_, last = handlers.draw(visit, *held(handlers, n_samples=1))
    assert "1 枚、" in last[0]
    with pytest.raises(gradio.Error, match="“ステップ数” 0 was given"):
        list(handlers.draw(visit, *held(handlers, ddim_steps=0)))
    menus = handlers.menus(visit)
    assert ("一枚ごと", "per-image") in [choice for menu in menus for choice in menu.choices]


def test_an_error_is_shown_by_the_page_and_by_no_box_over_it(pipeline, tmp_path):
    handlers = make_handlers(TXT2IMG, pipeline, tmp_path)
    with pytest.raises(gradio.Error) as caught:
        list(handlers.draw(Visit(), *held(handlers, ddim_steps=0)))
    assert not caught.value.visible


def test_a_failure_of_the_program_tells_visitors_nothing_of_it(pipeline, tmp_path, monkeypatch):
    handlers = make_handlers(TXT2IMG, pipeline, tmp_path)
    monkeypatch.setattr(handlers, "_read", lambda values: 1 / 0)
    with pytest.raises(gradio.Error, match="the program failed") as caught:
        list(handlers.draw(Visit(), *held(handlers)))
    assert caught.value.print_exception


def test_a_notice_cannot_add_markup_and_names_controls_by_their_labels(pipeline, tmp_path):
    handlers = make_handlers(TXT2IMG, pipeline, tmp_path)
    state = RunState(seed=7, notices=(Notice("--seed is <b>7</b>", True),))
    notices = handlers._notices(state, "me")
    assert f"“{handlers.labels['en']['--seed']}”" in notices
    assert "&lt;b&gt;7&lt;/b&gt;" in notices
    assert 'class="warning"' in notices
    assert "<b>" not in notices


def test_an_error_cannot_add_markup_to_the_page(pipeline, tmp_path):
    handlers = make_handlers(TXT2IMG, pipeline, tmp_path)
    answers = handlers.draw(Visit(), *held(handlers, seed="<b>7</b>"))
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
    wanted = Drawing(settings, image=plain_picture(painted), mask=mask_of(painted, None))
    states = list(Worker(sighted, lambda settings: None).draw("a", lambda: wanted))
    assert len(states[-1].pictures) == settings.n_samples
