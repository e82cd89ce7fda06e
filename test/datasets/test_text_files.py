"""Text files as people save them: an error names the file and the line."""

import pytest

from datasets import text_files
from datasets.text_files import csv_rows, numbered_lines, parse_number, read_csv, read_json, read_text, whole_numbers


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "list.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        return path

    return write


def test_line_ends_and_byte_order_marks(write):
    assert read_text(write("\ufeffa\r\nb\rc\n\ufeffd")) == "a\nb\nc\nd"
    assert list(numbered_lines(write("\n a\u2028b \n\n\u00e9\n"))) == [(2, " a\u2028b "), (4, "\u00e9")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0 0 a.mp4".encode("utf-16"), "list.txt is UTF-16 text; expected UTF-8"),
        ("0 0 a.mp4".encode("utf-32"), "list.txt is UTF-16 text"),
        ("0 0 a.mp4".encode("utf-16-le"), "list.txt:1: holds a NUL character"),
        (b"a\nb\0c", "list.txt:2: holds a NUL character"),
        ("0 0 caf\u00e9".encode("latin-1"), "list.txt is not UTF-8 text, see byte 7; save it as UTF-8"),
    ],
)
def test_other_encodings_are_refused(write, content, message):
    for read in (read_text, lambda path: list(csv_rows(path)), read_json):
        with pytest.raises(ValueError, match=message):
            read(write(content))


@pytest.mark.parametrize("characters_at_once", [1, 3, 1000])
def test_lines_are_split_in_parts(write, monkeypatch, characters_at_once):
    monkeypatch.setattr(text_files, "CHARACTERS_AT_ONCE", characters_at_once)
    for text in ("a", "a\n", "\n\na\x85b\n \t\nlong line\n\n", "\na\x0bb\x1cc\n\nd"):
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        assert list(numbered_lines(write(text))) == lines


def test_csv(write):
    text = '\ufeffid , name\r\n\r\n 1,"a, ""b""" \n'.replace('" \n', '"\n')
    assert read_csv(write(text), ("id", "name"), "a table") == [(3, {"id": "1", "name": 'a, "b"'})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id\n1\n", "list.txt:1: no column name; expected a table, found \\['id'\\]"),
        ("", "list.txt:1: no column id, name; expected a table"),
        ("id,name,id\n1,2,3", "list.txt:1: the column id appears 2 times"),
        ("id,name\n1,a, b\n", "list.txt:2: expected 2 fields, as in the header, .*found '1,a,b'"),
        ("id,name\n1\n", "list.txt:2: expected 2 fields"),
        ('id,name\n1,"a\n2,b\n', "list.txt:3: not valid CSV: unexpected end of data; is a quote missing"),
        ('id,name\n1,"a"b\n', "list.txt:2: not valid CSV: .*is a quote missing"),
        (f'id,name\n1,"{"a" * 131_073}"\n', "list.txt:2: not valid CSV: field larger than field limit"),
    ],
)
def test_csv_that_is_refused(write, text, message):
    with pytest.raises(ValueError, match=message):
        read_csv(write(text), ("id", "name"), "a table")


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 2}', "[NaN]", "[1e5, -Infinity]", "[oops", "[" * 100_000, f"[{'9' * 5000}]"]
)
def test_json_that_is_refused(write, text):
    with pytest.raises(ValueError, match=r"list.txt is not valid JSON"):
        read_json(write(text))


def test_numbers():
    assert whole_numbers(["3", "-1", "007", "9" * 30]) == [3, -1, 7, int("9" * 30)]
    for text in ("", "+1", "1_0", "1e3", "1.0", "\u00b2", "\uff13", " 1", "9" * 5000):
        assert whole_numbers(["0", text]) is None
    assert parse_number("1e3") == 1000
    for text in ("1_0", "\uff11", "", "x"):
        with pytest.raises(ValueError):
            parse_number(text)
