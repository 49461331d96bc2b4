"""The page as it is served: pictures are drawn over HTTP, and no other file is handed out."""

from __future__ import annotations

import base64
import json
import socket
import urllib.error
import urllib.request

import pytest
from PIL import Image

gr = pytest.importorskip("gradio", reason="needs gradio: pip install -e '.[web]'")
gradio_client = pytest.importorskip("gradio_client")

from apps.studio.app import launch, studio_of  # noqa: E402
from apps.studio.page import TABS, read_kept  # noqa: E402
from apps.studio.settings import StudioSettings  # noqa: E402
from optimizedSD.web.worker import Worker  # noqa: E402

AUTH = "ada:lovelace"
KEY = {"Authorization": f"Basic {base64.b64encode(AUTH.encode()).decode()}"}


@pytest.fixture(scope="module")
def served(pipeline, tmp_path_factory):
    """The studio behind its door, its page and the folder around its pictures."""
    folder, patch = tmp_path_factory.mktemp("studio"), pytest.MonkeyPatch()
    patch.setenv("GRADIO_TEMP_DIR", "")  # to be restored, whatever `launch` sets
    patch.setenv("GRADIO_ANALYTICS_ENABLED", "")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    flags = StudioSettings(port=port, outdir=str(folder / "out"), device="cpu")
    studio = studio_of(Worker(pipeline, lambda settings: None), flags, {})
    blocks = launch(studio, AUTH, str(folder / "cache"))
    yield studio, blocks, folder
    blocks.close(verbose=False)
    patch.undo()


def first_values(studio, blocks, name):
    """Return what a tab's inputs first hold, without what the browser or the server keeps."""
    number = next(n for n, fn in blocks.fns.items() if fn.api_name == name)
    inputs = blocks.fns[number].inputs
    return {each.elem_id: getattr(each, "value", None) for each in inputs[1:]}


def test_every_tab_is_there_once(served):
    studio, blocks, _ = served
    assert [each.name for each in studio.panels][:5] == [
        "text",
        "image",
        "repaint",
        "edit",
        "enlarge",
    ]
    ids = [each.elem_id for each in blocks.blocks.values() if each.elem_id]
    assert len(ids) == len(set(ids))
    assert set(TABS) <= {each.removeprefix("tab-") for each in ids}


def test_a_picture_is_drawn_and_handed_out_and_its_neighbours_are_not(served):
    studio, blocks, folder = served
    client = client_of(blocks)
    values = first_values(studio, blocks, "text") | {
        "text-ddim_steps": 3,
        "text-n_samples": 1,
        "text-seed": "7",
        "text-styles": [],
    }
    status, gallery, seed, recipe, *_ = client.predict("", *values.values(), api_name="/text")
    assert "1 picture in" in status
    assert seed == "7"
    assert "Seed: 7" in recipe
    assert gallery[0]["image"]["url"].startswith(blocks.local_url)
    picture = next((folder / "out").rglob("*.png"))
    assert Image.open(picture).size == (16, 16)
    Image.new("RGB", (2, 2)).save(folder / "secret.png")
    (picture.parent / "notes.txt").write_text("secret")
    for path, code in (
        (picture, 200),
        (folder / "secret.png", 404),
        (f"{folder}/out/../secret.png", 404),
        (picture.parent / "notes.txt", 404),
        ("/etc/passwd", 404),
        (__file__, 404),
    ):
        assert status_of(f"{blocks.local_url}gradio_api/file={path}") == code, path


def test_what_is_wrong_is_told_in_the_pages_words_also_of_an_edit(served):
    studio, blocks, _ = served
    client = client_of(blocks)
    for tab, part, value, told in (
        ("edit", "cross_replace_steps_end", "", "“Words” is empty"),
        ("text", "styles", 5, "there are no such styles"),
    ):
        values = first_values(studio, blocks, tab)
        name = next(each for each in values if str(each).startswith(f"{tab}-{part}"))
        sent = (values | {f"{tab}-styles": [], name: value}).values()
        status, *_ = client.predict("", *sent, api_name=f"/{tab}")
        assert told in status and "--" not in status


def client_of(blocks):
    return gradio_client.Client(blocks.local_url, verbose=False, download_files=False, headers=KEY)


def status_of(url, headers=KEY):
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers)).status
    except urllib.error.HTTPError as error:
        return error.code


def test_without_the_password_nothing_is_shown_or_drawn(served):
    _, blocks, _ = served
    for path in ("", "config", "gradio_api/info", "gradio_api/file=/etc/passwd"):
        assert status_of(f"{blocks.local_url}{path}", {}) == 401, path
    assert status_of(blocks.local_url) == 200


@pytest.mark.parametrize("tab", ["image", "text"])  # to draw from, to look at
def test_a_file_of_the_server_cannot_be_given_as_a_picture(tab, served):
    studio, blocks, folder = served
    Image.new("RGB", (16, 16)).save(folder / "secret.png")
    number = next(n for n, fn in blocks.fns.items() if fn.api_name == tab)
    values = list(first_values(studio, blocks, tab).values())
    for path in (folder / "secret.png", "/etc/passwd"):
        values[0] = {"path": str(path), "meta": {"_type": "gradio.FileData"}}
        call = {"fn_index": number, "data": ["", *values], "session_hash": "me"}
        request = urllib.request.Request(
            f"{blocks.local_url}gradio_api/queue/join",
            json.dumps(call).encode(),
            {"Content-Type": "application/json", **KEY},
        )
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(request, timeout=20)
        assert raised.value.code == 400
        assert "a file in it" in raised.value.read().decode()


@pytest.mark.parametrize("text", ["", "[", "[1]", None, 7, "7", "[" * 9999])
def test_what_is_no_record_of_fields_is_nothing(text):
    assert read_kept(text) == {}


def test_a_record_of_fields_is_read():
    assert read_kept('{"text-seed": "7"}') == {"text-seed": "7"}
