"""Keys open the server by their hashes; whoever has none is told how one is brought."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from apps.server.keys import Keys, Unauthorized, read_keys
from ldm.errors import UserError


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


KEYS = Keys({"anna": digest("k-anna"), "ben": digest("k-ben")})


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer k-ben"},
        {"authorization": "bearer  k-ben "},
        {"x-api-key": "k-ben"},
        basic("whoever", "k-ben"),
    ],
)
def test_a_key_is_taken_in_each_of_three_places(headers):
    assert KEYS.who(headers) == "ben"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer "},
        {"authorization": "Bearer k-be"},
        {"authorization": "Bearer k-ben2"},
        {"authorization": f"Bearer {digest('k-ben')}"},
        {"authorization": "Basic ###"},
        {"authorization": "Basic /w=="},
        basic("k-ben", ""),
        {"x-api-key": "x" * 10_000},
        {"x-api-key": "\udcff"},
    ],
)
def test_anything_else_is_401_and_names_no_key(headers):
    with pytest.raises(Unauthorized) as caught:
        KEYS.who(headers)
    assert caught.value.status == 401 and caught.value.headers == {"WWW-Authenticate": "Bearer"}
    assert "ben" not in str(caught.value)


def test_no_key_is_no_key_even_if_somebody_lists_its_hash():
    with pytest.raises(Unauthorized):
        Keys({"nobody": digest("")}).who({})


def test_all_keys_are_compared_in_constant_time_whichever_it_is(monkeypatch):
    compared = []

    def compare(a, b):
        compared.append(b)
        return hmac_compare(a, b)

    hmac_compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", compare)
    for key in ("k-anna", "k-ben", "x"):
        KEYS.name_of(key)
    assert compared == [digest("k-anna"), digest("k-ben")] * 3


def test_without_keys_everybody_is_nobody_in_particular():
    assert Keys().who({}) == "" and not Keys()


def test_keys_come_from_a_file_and_the_environment(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# who\n\nanna:{digest('a')}\n  ben:{digest('b').upper()}\n")
    keys = read_keys(str(file), {"LDM_SERVER_KEYS": f"cy:{digest('c')} dan:{digest('d')}"})
    assert [keys.name_of(each) for each in "abcde"] == ["anna", "ben", "cy", "dan", None]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("anna:secret\n", "line 1 is no key"),
        (f"a:{digest('a')}\na:{digest('b')}\n", "line 2 names 'a' again"),
        ("# nothing\n", "holds no key"),
        (b"\xff\xfe", "not UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_is_wrong_is_refused_and_not_quoted(tmp_path, text, told):
    file = tmp_path / "keys"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=told) as caught:
        read_keys(str(file), {})
    assert "secret" not in str(caught.value)
