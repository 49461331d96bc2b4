"""Files of jobs in four formats, read as rows."""

from __future__ import annotations

import pytest

from ldm.errors import UserError
from ldm.jobs import rows as rows_module
from ldm.jobs.rows import BadLine, Row, read_rows


def known(names):
    if "nonsense" in names:
        raise UserError("column 'nonsense' is unknown")


@pytest.fixture
def read(tmp_path):
    def read(name, data):
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
        return list(read_rows(path, known))

    return read


def cells(rows):
    return [row.cells for row in rows]


def test_lines_of_a_text_file_are_those_of_from_file(read):
    text = "\ufeffa cat\n\nein Bär\u2028two\r\nlast"
    assert cells(read("a.txt", text)) == [
        {"prompt": line} for line in text.removeprefix("\ufeff").splitlines()
    ]


def test_an_empty_cell_of_a_csv_is_not_given_but_for_a_prompt(read):
    found = read("a.csv", 'prompt,seed,negative_prompt\r\n"a, b\nc",1,\r\n,,x\r\n')
    assert found == [
        Row(2, {"prompt": "a, b\nc", "seed": "1", "negative_prompt": ""}),
        Row(4, {"prompt": "", "seed": None, "negative_prompt": "x"}),
    ]


def test_bad_lines_are_told_by_number_and_the_rest_is_read(read):
    found = read("a.csv", 'prompt,seed\na,1\nb,1,2\n"c"d,3\ne,5\n')
    assert [row.line for row in found] == [2, 3, 4, 5]
    assert [isinstance(row, BadLine) for row in found] == [False, True, True, False]
    found = read("a.jsonl", '{"prompt":"a"}\n\n[1]\n{"prompt":\n{"seed":NaN}\n{"a":1,"a":2}\n')
    assert [row.line for row in found] == [1, 3, 4, 5, 6]
    assert [isinstance(row, BadLine) for row in found] == [False, True, True, True, True]
    assert "twice" in found[-1].why


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", 'prompt\n"c"d\n'),
        ("a.csv", "prompt\na,b\n"),
        ("a.jsonl", "{\n"),
        ("a.jsonl", '{"seed":NaN}\n'),
        ("a.jsonl", "[1]\n"),
    ],
)
def test_a_bad_line_says_what_to_do(read, name, text):
    (bad,) = read(name, text)
    assert "; mend " in bad.why


@pytest.mark.parametrize(
    "rest",
    [
        '"b,2\nc,3\nd,4\n',  # to the end of the file
        '"b,2\n"c",3\nd,4\n',  # to the next quote
        '"' + "b" * 140_000 + "\nc,3\n",
    ],
)
def test_a_quote_that_is_not_closed_is_an_error_of_the_file(read, rest):
    with pytest.raises(UserError, match="begins on line 3"):
        read("a.csv", "prompt,seed\na,1\n" + rest)


@pytest.mark.parametrize("deep", ["[" * 100_000, '{"a":' * 100_000])
def test_brackets_without_end_are_a_bad_line(read, deep):
    assert isinstance(read("a.jsonl", deep + "\n")[0], BadLine)


def test_a_parquet_file_keeps_its_types(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = {"prompt": ["a", "b"], "seed": [1, None], "lora": [["x"], None], "scale": [1.5, 2.0]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    found = list(read_rows(tmp_path / "a.parquet", known))
    assert found[0] == Row(1, {"prompt": "a", "seed": 1, "lora": ["x"], "scale": 1.5})
    assert found[1].cells["seed"] is None


@pytest.mark.parametrize(
    ("name", "data", "hint"),
    [
        ("a.csv", "prompt,nonsense\n", "nonsense"),
        ("a.csv", "", "no header"),
        ("a.csv", "prompt;seed\na;1\n", "no commas"),
        ("a.parquet", "no table", "Parquet"),
        ("a.xlsx", "", ".txt, .csv, .jsonl or .parquet"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_error(read, name, data, hint):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    with pytest.raises(UserError, match=hint):
        read(name, data)


def test_a_missing_file_and_a_folder_are_told_at_once(tmp_path):
    for path in (tmp_path / "no.txt", tmp_path / "folder.txt"):
        if "folder" in path.name:
            path.mkdir()
        with pytest.raises(UserError, match="JOBS"):
            read_rows(path, known)


def test_a_line_without_end_does_not_fill_the_memory(read, monkeypatch):
    monkeypatch.setattr(rows_module, "LONGEST_LINE", 50)
    for name in ("a.txt", "a.csv", "a.jsonl"):
        with pytest.raises(UserError, match="line 1 has more than"):
            read(name, "x" * 1000)
