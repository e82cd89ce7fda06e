"""Tables of class names are read rightly or refused; classes are never off by one."""

import pytest

from datasets.class_table import class_name, class_table, label_finder, read_class_names

NAMES = ("run", "jump", "a, b")


@pytest.mark.parametrize(
    "text",
    [
        "0\trun\n1\tjump\n2\ta, b\n",
        "\ufeff2 jump\r\n1 run\r\n3 a, b\r\n",
        "id name\n0 run\n1 jump\n2 a, b",
        "run\njump\na, b",
        '"run"\n"jump"\n"a, b"',
        '0,run\n1,jump\n2,"a, b"',
        'id,name\n2,"a, b"\n0,run\n1,jump',
        'class_name,class_id\nrun,0\njump,1\n"a, b",2',
        "index;label\n0;run\n1;jump\n2;a, b",
        "label\tid\nrun\t0\na, b\t2\njump\t1",
        '["run", "jump", "a, b"]',
        '{"run": 0, "a, b": 2, "jump": 1}',
        '{"\\"run\\"": 0, "\\"a, b\\"": 2, "jump": 1}',  # Kinetics' table for PyTorchVideo
        '{"0": "run", "1": "jump", "2": "a, b"}',
        '{"run": "1", "jump": "2", "a, b": "3"}',  # Something-Something
    ],
)
def test_forms(tmp_path, text):
    (path := tmp_path / "names.txt").write_bytes(text.encode())
    assert read_class_names(path) == NAMES


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("3 point shot\nlayup", ("3 point shot", "layup")),
        ("gesture 1\ngesture 2", ("gesture 1", "gesture 2")),
        ("5\n0\n3", ("5", "0", "3")),
        ("name,id\n5,0\n7,1", ("5", "7")),
        ("tench, Tinca tinca\ngoldfish, Carassius", ("tench, Tinca tinca", "goldfish, Carassius")),
        ('{"1": 0, "0": 1}', ("1", "0")),
        ("no\nyes", ("no", "yes")),
    ],
)
def test_names_that_look_like_something_else(tmp_path, text, names):
    (path := tmp_path / "names.txt").write_text(text)
    assert read_class_names(path) == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name\nrun\njump", r"names.txt:1: is 'name' a class, or a header\?"),
        ("foo,bar\n0,run\n1,jump", "its lines have numbers, but not all of them"),
        ("O\trun\n1\tjump\n2\tsit", "its lines have numbers, but not all of them"),
        ("0: run\n1: jump", "its lines have numbers"),
        ("run 1\njump 0", "its lines have numbers"),
        ("\uff10 run\n\uff11 jump", "its lines have numbers"),
        ("run,jump", "its only line holds commas"),
        ("0,tench, Tinca\n1,goldfish", r"expected two columns.*found \['0', 'tench', 'Tinca'\]"),
        ("1,0\n0,1", "both columns could be the labels"),
        ('{"1": "0", "0": "1"}', "both columns could be the labels"),
        ("0 run\n1 run", "labels 0 and 1 both have the class name 'run'"),
        ("run\nrun ", "labels 0 and 1 both have the class name 'run'"),
        ("0,run\n0,jump", "the 2 indices must be 0 to 1"),
        ("0,\n1,run", "the class name '' is blank"),
        ("a\u2028b\nc", r"the class name 'a\\u2028b' holds a line break"),
        ('["a\\nb"]', "holds a control character"),
        ('["\\ud800"]', "holds bytes that are not UTF-8"),
        ('{"run": 0, "run": 1}', "the key 'run' appears 2 times"),
        ('{"run": 0.0}', r"expected JSON of the form .*found \{'run': 0.0\}"),
        ('{"run": true}', "expected JSON of the form"),
        ("{0: 'run'}", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("\ufeff", "is empty"),
    ],
)
def test_tables_that_are_refused(tmp_path, text, message):
    (path := tmp_path / "names.txt").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=f"names.txt.*{message}" if "names.txt" not in message else message):
        read_class_names(path)


@pytest.mark.parametrize(
    "names",
    [
        ("3 point shot", "layup"),
        ("1", "0"),
        ("10", "0", "2"),
        ('"quoted"', '"', '""', '"a" and "b"', '"""'),
        (
            "[x]",
            '{"a": 0}',
            "name",
            "id,name",
            "0 a",
            "0\u00a0a",
            "a  b",
            "# a",
            "$5",
            "é",
            "跑",
            "👩\u200d🚀",
            "a\u200b",
        ),
        ("{", "x"),
    ],
)
def test_what_is_written_is_read_back(tmp_path, names):
    (path := tmp_path / "class_names.txt").write_text(class_table(names), encoding="utf-8")
    assert read_class_names(path) == names


def test_names_are_without_whitespace_and_composed():
    assert class_name(" \ufeff\u3000x\u2028", "list") == "x" and class_name("cafe\u0301", "list") == "caf\u00e9"
    for text, message in (
        ("\ufeff", "blank"),
        (" ", "blank"),
        ("a\tb", "control"),
        ("caf\udce9", r"'caf\\udce9' holds bytes that are not UTF-8"),
    ):
        with pytest.raises(ValueError, match=f"^list: the class name .*{message}"):
            class_name(text, "list")
    label_of = label_finder(["run", "caf\u00e9"])
    assert [label_of(name, "line 1") for name in ("run ", "cafe\u0301")] == [0, 1]
    with pytest.raises(ValueError, match=r"^line 1 is not one of the 2 class names; did you mean 'run'"):
        label_of("runn", "line 1")
