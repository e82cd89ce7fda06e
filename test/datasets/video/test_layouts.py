"""Lists made from a tiny tree of each layout."""

import json
from unicodedata import normalize

import pytest

from datasets.video.layouts import LAYOUTS, LabeledVideo, list_ids, read_layout, write_list, write_table
from datasets.video.lists import read_videos


@pytest.fixture
def make(tmp_path):
    """make({path: text}): files below the test's folder."""

    def files(texts):
        for name, text in texts.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path

    return files


def rows(found):
    return [tuple(video) for video in found.videos]


def test_folder(make):
    root = make({"b/2.mp4": "", "a/1 x.avi": ""})
    found, missing = read_layout("folder", root)
    assert found.class_names == ("a", "b") and missing == []
    assert rows(found) == [("a/1 x.avi", (0,), "a/1 x.avi"), ("b/2.mp4", (1,), "b/2.mp4")]
    with pytest.raises(ValueError, match="layout folder takes no annotations: folders are the classes"):
        read_layout("folder", root, root)


def test_two_videos_of_one_name_are_two(make):
    root = make({"b/x.mkv": "", "b/x.mp4": "", "a/y.mp4": ""})
    found, missing = read_layout("folder", root)
    assert [video.path for video in found.videos] == ["a/y.mp4", "b/x.mkv", "b/x.mp4"] and missing == []
    make({"b/classInd.txt": "1 a\n2 b\n", "b/trainlist01.txt": "b/x.avi 2\na/y.avi 1\n"})
    found, missing = read_layout("ucf101", root, root / "b/trainlist01.txt")
    assert [video.id for video in missing] == ["x"]  # which of the two is meant?
    assert found.videos[1].path == "a/y.mp4"


@pytest.mark.parametrize("layout", ["kinetics400", "kinetics600", "kinetics700"])
def test_kinetics(make, layout, caplog):
    header = "label,youtube_id,time_start,time_end,split"
    lines = [
        "riding a bike,-abc,1,11,train",
        "juggling,d_e,0,10,train",
        "juggling,gone,5,15,train",
        "juggling,x,5,15,val",
    ]
    root = make({
        "train.csv": "\n".join([header, *lines]),
        "videos/riding a bike/-abc_000001_000011.mp4": "",
        "videos/juggling/d_e_000000_000010.webm": "",
    })  # fmt: skip
    found, missing = read_layout(layout, root / "videos", root / "train.csv", split="train")
    assert found.class_names == ("juggling", "riding a bike")
    assert rows(found) == [
        ("-abc_000001_000011", (1,), "riding a bike/-abc_000001_000011.mp4"),
        ("d_e_000000_000010", (0,), "juggling/d_e_000000_000010.webm"),
        ("gone_000005_000015", (0,), "juggling/gone_000005_000015.mp4"),
    ]
    assert missing == [found.videos[2]]
    assert f"has 2 classes, not {layout[-3:]}: give the mapping table of the training list" in caplog.text
    caplog.clear()
    make({"table.txt": "0\tjuggling\n1\triding a bike\n", "train.json": "{}"})
    read_layout(layout, root / "videos", root / "train.csv", "train", root / "table.txt")
    assert "mapping table" not in caplog.text
    with pytest.raises(ValueError, match=r"train\.json is JSON; take the CSV of the same split"):
        read_layout(layout, root / "videos", root / "train.json")


def test_ucf101_after_a_conversion(make):
    root = make({
        "lists/classInd.txt": "1 Archery\n2 Biking\n",
        "lists/trainlist01.txt": "Biking/v_B_g01.avi 2\nArchery/v_A_g01.avi 1\n",
        "videos/Biking/v_B_g01.mp4": "",
        "videos/v_A_g01.mp4": "",
    })  # fmt: skip
    found, missing = read_layout("ucf101", root / "videos", root / "lists/trainlist01.txt")
    assert (found.class_names, missing) == (("Archery", "Biking"), [])
    assert rows(found) == [("v_B_g01", (1,), "Biking/v_B_g01.mp4"), ("v_A_g01", (0,), "v_A_g01.mp4")]


def test_ucf101_as_folders_of_frames(make):
    root = make({
        "lists/classInd.txt": "1 Archery\n",
        "lists/trainlist01.txt": "Archery/v_A_g01.avi 1\nArchery/v_A.2.avi 1\n",
        **{f"videos/v_A{name}/img_{number}.jpg": "" for name in ("_g01", ".2") for number in (1, 2)},
    })  # fmt: skip
    found, missing = read_layout("ucf101", root / "videos", root / "lists/trainlist01.txt")
    assert missing == [] and rows(found) == [("v_A_g01", (0,), "v_A_g01"), ("v_A.2", (0,), "v_A.2")]


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_in_another_unicode_form(make, forms):
    listed, on_disk = (normalize(form, "Archery/caf\u00e9") for form in forms)
    root = make({"classInd.txt": "1 Archery\n", "trainlist01.txt": f"{listed}.avi 1\n", f"v/{on_disk}.mp4": ""})
    found, missing = read_layout("ucf101", root / "v", root / "trainlist01.txt")
    assert missing == [] and found.videos[0].path == f"{on_disk}.mp4"


def test_hmdb51(make):
    root = make({
        "splits/wave_test_split1.txt": "w.avi 1\nx.avi 2\ny.avi 0\n",
        "splits/brush_hair_test_split1.txt": "b.avi 1\n",
        **{f"videos/{name}": "" for name in ("wave/w.avi", "wave/x.avi", "wave/y.avi", "brush_hair/b.avi")},
    })  # fmt: skip
    found, _ = read_layout("hmdb51", root / "videos", root / "splits", "train1")
    assert rows(found) == [("b", (0,), "brush_hair/b.avi"), ("w", (1,), "wave/w.avi")]
    found, _ = read_layout("hmdb51", root / "videos", root / "splits", "test1")
    assert rows(found) == [("x", (1,), "wave/x.avi")] and found.class_names == ("brush_hair", "wave")
    with pytest.raises(ValueError, match="expected train1 to train3 or test1 to test3"):
        read_layout("hmdb51", root / "videos", root / "splits")


def test_something_something(make):
    labels = {"Holding something next to something": "1", "Closing something": "0"}
    train = [
        {"id": "78687", "label": "holding potato", "template": "Holding [something] next to [something]"},
        {"id": "42", "label": "closing a box", "template": "Closing [something]"},
    ]
    root = make({
        "labels/something-something-v2-labels.json": json.dumps(labels),
        "labels/train.json": json.dumps(train),
        "labels/test.json": json.dumps([{"id": "42"}]),
        "labels/odd.json": json.dumps([{"id": "42", "template": "Closng [something]"}]),
        "labels/empty.json": "{}",
        "videos/78687.webm": "",
        "videos/42.mp4": "",
    })  # fmt: skip
    found, missing = read_layout("something_v2", root / "videos", root / "labels/train.json")
    assert found.class_names == ("Closing something", "Holding something next to something") and missing == []
    assert rows(found) == [("78687", (1,), "78687.webm"), ("42", (0,), "42.mp4")]
    assert rows(read_layout("something_v2", root / "videos", root / "labels/test.json")[0]) == [("42", (), "42.mp4")]
    with pytest.raises(ValueError, match=r"entry 1: class 'Closng something' .*; did you mean 'Closing something'"):
        read_layout("something_v2", root / "videos", root / "labels/odd.json")
    with pytest.raises(ValueError, match=r"empty.json holds a dict; expected a list"):
        read_layout("something_v2", root / "videos", root / "labels/empty.json")


def test_charades(make):
    header = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length"
    lines = ['A1,s,k,6,7,Yes,"a, b",o,d,c002 11.90 21.20;c000 0.00 12.60;c002 1.0 2.0,30.1', "B2,s,k,6,7,Yes,x,o,d,,12"]
    root = make({
        "Charades_v1_classes.txt": "c000 Holding some clothes\nc001 Putting clothes\nc002 Taking clothes\n",
        "Charades_v1_train.csv": "\n".join([header, *lines]),
        "odd.csv": "id,actions\nA1,c009 1 2\n",
        "videos/A1.mp4": "",
    })  # fmt: skip
    found, missing = read_layout("charades", root / "videos", root / "Charades_v1_train.csv")
    assert found.class_names[2] == "Taking clothes"
    assert rows(found) == [("A1", (0, 2), "A1.mp4"), ("B2", (), "B2.mp4")] and missing == [found.videos[1]]
    write_list(root / "charades.txt", found.videos)
    assert (root / "charades.txt").read_text() == "A1\t0,2\tA1.mp4\nB2\t-1\tB2.mp4\n"
    with pytest.raises(ValueError, match=r"odd.csv:2: expected actions c000 to c002; found 'c009 1 2'"):
        read_layout("charades", root / "videos", root / "odd.csv")


def test_moments_in_time(make):
    root = make({
        "moments_categories.txt": "clapping,1\nadult+male+singing,0\n",
        "trainingSet.csv": "clapping/yt-1_2.mp4,clapping,3,0\nadult+male+singing/a b.mp4,adult+male+singing,2,1\n",
        "training/clapping/yt-1_2.mp4": "",
        "training/adult+male+singing/a b.mp4": "",
    })  # fmt: skip
    found, missing = read_layout("moments", root / "training", root / "trainingSet.csv")
    assert found.class_names == ("adult+male+singing", "clapping") and missing == []
    assert rows(found) == [
        ("clapping/yt-1_2", (1,), "clapping/yt-1_2.mp4"),
        ("adult+male+singing/a b", (0,), "adult+male+singing/a b.mp4"),
    ]


@pytest.mark.parametrize(
    ("layout", "table", "annotations", "message"),
    [
        ("charades", "c000 A\nc001 A \n", "id,actions\nA1,c000 1 2\n", "labels 0 and 1 both have the class name 'A'"),
        ("charades", "c000 A\nc001 B\n", "id,actions\nA1,c\u00b2 1 2\n", "csv:2: expected actions c000 to c001"),
        ("charades", "c000 A\nc001 B\n", "id,actions\nA1,x001 1 2\n", "csv:2: expected actions c000 to c001"),
        ("charades", "c000 A\nc001 B\n", "id,actions\nA1,a b,c000 1 2\n", "csv:2: expected 2 fields"),
        ("charades", "c000 A\nc001 B\n", f'id,actions\nA1,"{"c000 1 2;" * 20_000}"\n', "field larger than field limit"),
        ("moments", "A,0\nB,\u00b2\n", "A/a.mp4,A\n", "class name"),
        ("moments", "A,0\nB,2\n", "A/a.mp4,A\n", "the 2 indices must be 0 to 1"),
        ("moments", "A,0\nB,1\n", '"A/a.mp4,A\n', "csv:1: not valid CSV"),
        ("something_v2", '{"A": "0", "A": "1"}', '[{"id": "1"}]', "the key 'A' appears 2 times"),
        ("something_v2", '{"A": "0", "B": "2"}', '[{"id": "1"}]', "the 2 indices must be 0 to 1"),
        ("something_v2", '{"A": "0"}', '[{"id": null}]', "entry 1 has no id"),
        ("something_v2", '{"A": "0"}', '[{"id": "1", "template": null}]', "entry 1: class 'None' is not one of"),
    ],
)
def test_annotations_that_are_refused(make, layout, table, annotations, message):
    names = {"charades": "classes.txt", "moments": "moments_categories.txt", "something_v2": "labels.json"}
    root = make({f"lists/{names[layout]}": table, "lists/all.csv": annotations, f"lists/._{names[layout]}": "\0"})
    with pytest.raises(ValueError, match=message):
        read_layout(layout, root, root / "lists/all.csv")


def test_class_names_have_no_whitespace_at_their_ends(make):
    root = make({
        "classes.txt": "c000 A \nc001 B\n",
        "charades.csv": "id , actions\nA1 , c001 1 2 ; c000 1 2\n",
        "moments_categories.txt": "A ,1\nB,0\n",
        "moments.csv": "A/a.mp4, A \n",
        "labels.json": '{"A ": "0", "B": "1"}',
        "train.json": '[{"id": "1", "template": " [B]"}]',
        "splits/A _test_split1.txt": "a.avi 1\n",
        "splits/._A_test_split1.txt": "\0",
        "videos/A /a.avi": "",
    })  # fmt: skip
    charades, _ = read_layout("charades", root, root / "charades.csv")
    assert charades.class_names == ("A", "B") and rows(charades) == [("A1", (0, 1), "A1.mp4")]
    moments, _ = read_layout("moments", root, root / "moments.csv")
    assert moments.class_names == ("B", "A") and moments.videos[0].labels == (1,)
    something, _ = read_layout("something_v2", root, root / "train.json")
    assert something.class_names == ("A", "B") and something.videos[0].labels == (1,)
    hmdb51, missing = read_layout("hmdb51", root / "videos", root / "splits", "train1")
    assert hmdb51.class_names == ("A",) and rows(hmdb51) == [("a", (0,), "A /a.avi")] and missing == []


def test_missing_annotations(make):
    root = make({"train.json": "[]", "train.csv": "a.mp4,b", "videos/a.mp4": ""})
    with pytest.raises(FileNotFoundError, match=r"0 files \*labels.json; expected labels.json"):
        read_layout("something_v2", root, root / "train.json")
    with pytest.raises(FileNotFoundError, match=r"moments_categories.txt there"):
        read_layout("moments", root, root / "train.csv")
    with pytest.raises(FileNotFoundError, match="no annotations of charades at"):
        read_layout("charades", root, root / "Charades.csv")
    for layout, (_, needs) in LAYOUTS.items():
        if needs:
            with pytest.raises(ValueError, match=f"layout {layout} takes "):
                read_layout(layout, root)


def test_written_lists_are_read_back(make):
    videos = [
        LabeledVideo("a b/1", (1,), "a b/1  x.mp4"),
        LabeledVideo("c", (), "é.mp4"),
        LabeledVideo("d", (0,), "d.mp4"),
    ]
    path = make({}) / "lists" / "train.txt"
    write_list(path, videos)
    write_table(path.with_name("mapping_table.txt"), ["p", "q r"])
    read = read_videos(path, path.parent, path.with_name("mapping_table.txt"))
    assert [(item.id, item.label) for item in read] == [("a_b/1", 1), ("c", -1), ("d", 0)]
    assert [item.path for item in read] == [str(path.parent / video.path) for video in videos]
    assert read.class_names == ("p", "q r")
    with pytest.raises(ValueError, match=r"mapping_table.txt exists with other classes or another order"):
        write_table(path.with_name("mapping_table.txt"), ["q r", "p"])
    for name in ("a\nb.mp4", " a.mp4", "a.mp4 ", "\udcff.mp4", "\ud800.mp4", "a\0.mp4"):
        with pytest.raises(ValueError, match=r"a list cannot hold 1 of the \d+ paths, such as .*: rename these files"):
            write_list(path, [LabeledVideo("a", (), name)])


@pytest.mark.parametrize(
    ("videos", "ids"),
    [
        ({"a/x.mp4": "x", "b/x.mp4": "x", "b/y.mp4": "y"}, ["a/x.mp4", "b/x.mp4", "y"]),
        ({"a b.mp4": "a b.mp4", "a_b.mp4": "a_b.mp4", "c d.mp4": "c d"}, ["a%20b.mp4", "a_b.mp4", "c_d"]),
        ({"p/x.mp4": "x", "q/x.mp4": "x", "r.mp4": "p/x.mp4"}, ["p/x.mp4", "q/x.mp4", "r.mp4"]),
        ({"a.mp4": " "}, ["a.mp4"]),
        ({"a.mp4": "a", "b.mp4": "b"}, ["a", "b"]),
    ],
)
def test_only_ids_that_collide_are_replaced(videos, ids, caplog):
    assert list_ids([LabeledVideo(name, (), path) for path, name in videos.items()]) == ids
    assert ("their paths are their ids, for example" in caplog.text) == (ids != ["a", "b"])


def test_a_file_that_is_listed_twice_has_one_id(caplog):
    assert list_ids([LabeledVideo("x", (), "a/x.mp4")] * 2) == ["x", "x"] and not caplog.text


def test_fights(make):
    """Recordings that share a clip are one; a clip that is not named is on its own."""
    text = (
        "https://a.example/1\nfi001: 0.13.50 - 0.15.60\nnofi001: 2.34.70 - 2.37.80\nhttps://a.example/2\r\n"
        "fi002: 0.1 - 0.2\nhttps://a.example/3\nfi002: 0.3 - 0.4\nfi003: 0.1 - 0.2\n\nnofi002 - nofi003 : Street Set"
    )
    names = [f"videos/fight/fi00{number}.mp4" for number in (1, 2, 3, 4)]
    root = make({"videos.txt": text, **dict.fromkeys([*names, *(f"videos/noFight/nofi00{n}.mp4" for n in (1, 3))], "")})
    found, missing = read_layout("fights", root / "videos", root / "videos.txt")
    assert found.class_names == ("fight", "noFight") and missing == []
    assert rows(found)[3:5] == [("fi004", (0,), "fight/fi004.mp4"), ("nofi001", (1,), "noFight/nofi001.mp4")]
    first, second = "https://a.example/1", "https://a.example/2"
    assert found.sources == {
        "fi001": first, "nofi001": first, "fi002": second, "fi003": second, "nofi003": "Street Set"
    }  # fmt: skip
    (root / "videos.txt").write_text("fi001: 0.13.50 - 0.15.60\n")
    with pytest.raises(ValueError, match=r"videos\.txt:1: .*expected the URL of a recording, or `clip: start - end`"):
        read_layout("fights", root / "videos", root / "videos.txt")
    (root / "videos.txt").write_text("https://a.example/1\nx1: 0.1 - 0.2\n")
    with pytest.raises(ValueError, match=r"names none of the 6 videos, for example fi001"):
        read_layout("fights", root / "videos", root / "videos.txt")
