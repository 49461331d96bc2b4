"""Pictures fit LINE's limits, and three kinds of store give them https addresses."""

from __future__ import annotations

import io
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs

import numpy as np
import pytest
from PIL import Image

from apps.line_bot.imgur_pictures import ImgurPictures
from apps.line_bot.pictures import LARGEST_PREVIEW, OwnPictures, fit_jpeg, preview_of
from apps.line_bot.s3_pictures import LONGEST_SIGNATURE, S3Pictures
from apps.line_bot.secret import Secret
from ldm.errors import UserError
from ldm.images.embed import parameters_in

NAME = "0123456789abcdef" * 2


def noise(side: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    assert image.format == "JPEG"
    return image


@pytest.mark.parametrize("most", [200_000, 60_000, 5_000])
def test_a_picture_is_made_to_fit_by_quality_and_then_by_size(most):
    data = fit_jpeg(noise(400), most)
    assert most / 8 < len(data) <= most
    assert (opened(data).size == (400, 400)) == (most > 60_000)


def test_what_fits_is_kept_at_its_size_with_its_parameters():
    image = noise(64)
    data = fit_jpeg(image, 10**6, "a cat\nSteps: 1")
    assert opened(data).size == image.size and parameters_in(opened(data)) == "a cat\nSteps: 1"
    assert b"trainedAlgorithmicMedia" in data


def test_parameters_that_do_not_fit_are_left_out_before_the_picture_shrinks():
    data = fit_jpeg(noise(64), 10_000, "x" * 20_000)
    assert len(data) <= 10_000 and opened(data).size == (64, 64)


def test_a_preview_is_small():
    preview = preview_of(noise(2000))
    assert preview.size == (512, 512) and len(fit_jpeg(preview, LARGEST_PREVIEW)) <= LARGEST_PREVIEW


def test_the_bots_own_pictures_come_go_and_stay_in_their_folder(tmp_path):
    store = OwnPictures(tmp_path / "pictures", "https://bot.example/line/")
    handle = store.put(NAME, b"jpeg")
    assert store.put(NAME, b"jpeg") == handle
    assert store.url(handle) == f"https://bot.example/line/pictures/{NAME}.jpg"
    assert [path.name for path in store.folder.iterdir()] == [f"{NAME}.jpg"]
    for wrong in ("../x", f"{NAME}/..", NAME.upper(), "", f"{NAME}\n"):
        assert store.path(wrong) is None
        with pytest.raises(ValueError, match="32 hexadecimal"):
            store.put(wrong, b"")
        store.remove(wrong)
    store.remove(handle), store.remove(handle)
    assert not list(store.folder.iterdir())


@pytest.mark.parametrize("url", ["http://bot.example", "", "https://" + "a" * 2000])
def test_addresses_that_line_refuses_are_refused(tmp_path, url):
    with pytest.raises(UserError):
        OwnPictures(tmp_path, url)


class Bucket:
    """What S3Pictures calls of boto3."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def put_object(self, *, Bucket, Key, Body, ContentType):  # noqa: N803
        assert (Bucket, ContentType) == ("club", "image/jpeg")
        self.held[Key] = Body

    def generate_presigned_url(self, method, *, Params, ExpiresIn):  # noqa: N803
        assert method == "get_object"
        return f"https://s3.example/{Params['Bucket']}/{Params['Key']}?for={ExpiresIn}"

    def delete_object(self, *, Bucket, Key):  # noqa: N803
        del self.held[Key]


def test_pictures_in_a_bucket_have_signed_addresses_that_expire():
    bucket = Bucket()
    store = S3Pictures(bucket, "club", 3600.0)
    handle = store.put(NAME, b"jpeg")
    assert bucket.held == {f"line_bot/{NAME}.jpg": b"jpeg"}
    assert store.url(handle) == f"https://s3.example/club/line_bot/{NAME}.jpg?for=3600"
    assert S3Pictures(bucket, "club", 1e9).url("x").endswith(f"={LONGEST_SIGNATURE}")
    store.remove(handle)
    assert not bucket.held
    with pytest.raises(OSError, match="the storage failed: KeyError"):
        store.remove(handle)


@pytest.fixture
def imgur():
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
            self.server.calls.append((self.headers["authorization"], form))
            self._answer({"data": {"link": "http://i.imgur.com/a.jpg", "deletehash": "h4sh"}})

        def do_DELETE(self) -> None:
            self.server.calls.append(self.path)
            self._answer({"success": True})

        def _answer(self, body) -> None:
            data = json.dumps(body).encode()
            self.send_response(self.server.status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.calls, server.status = [], 200
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown(), server.server_close()


def test_imgur_gets_the_picture_and_gives_an_https_address(imgur):
    url = f"http://127.0.0.1:{imgur.server_address[1]}/3/image"
    store = ImgurPictures(Secret("old-id"), url)
    handle = store.put(NAME, b"jpeg")
    assert store.url(handle) == "https://i.imgur.com/a.jpg"
    assert imgur.calls == [("Client-ID old-id", {"image": ["anBlZw=="], "type": ["base64"]})]
    store.remove(handle)
    assert imgur.calls[-1] == "/3/image/h4sh"
    imgur.status = 429
    with pytest.raises(OSError, match="Imgur failed: HTTPStatusError") as caught:
        store.put(NAME, b"jpeg")
    assert "old-id" not in str(caught.value)
