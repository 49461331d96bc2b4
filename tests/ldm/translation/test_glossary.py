from __future__ import annotations

import pytest

from ldm.errors import UserError
from ldm.translation.glossary import read_glossary


def write(tmp_path, text):
    path = tmp_path / "words.tsv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_words_are_read_with_remarks_and_a_byte_order_mark(tmp_path):
    path = write(tmp_path, "\ufeff# names\n\nﾐｸ\tHatsune Miku\n猫\t a cat \n")
    assert read_glossary(path) == {"ミク": ("n", "Hatsune Miku"), "猫": ("n", "a cat")}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("猫\ta cat\n犬", "line 2 is"),
        ("猫\t\n", "line 1 is"),
        ("猫\ta\tb\n", "line 1 is"),
        ("赤い 猫\ta cat\n", "line 1 has the word"),
        ("猫\ta cat\n\n猫\tcats\n", "line 3 gives '猫' a second time"),
        ("猫\ta cat\n".encode() + b"\xff\xfe", "line 2 is not UTF-8"),
    ],
)
def test_a_wrong_line_is_named_by_its_number(tmp_path, text, says):
    with pytest.raises(UserError, match=says) as error:
        read_glossary(write(tmp_path, text))
    assert str(error.value).startswith("--glossary ") and "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_glossary(tmp_path / "none.tsv")
