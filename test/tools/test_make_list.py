"""The script that writes lists: what it writes, and what it logs."""

import logging

import pytest

from datasets.folds import sources_from_table
from datasets.video import read_videos
from datasets.video.layouts import LAYOUTS
from settings import SettingsError
from tools import make_list
from tools.make_list import main


def test_list_and_table(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for name in ("Archery/a.mp4", "Biking/b.mp4"):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).touch()
    (tmp_path / "classInd.txt").write_text("1 Archery\n2 Biking\n")
    split = tmp_path / "trainlist01.txt"
    split.write_text("Biking/b.avi 2\nArchery/a.avi 1\nArchery/gone.avi 1\n")
    arguments = ["ucf101", str(tmp_path / "videos"), "--annotations", str(split), "-o", str(tmp_path / "out/list.txt")]
    main(arguments)
    assert "1 of 3 videos are missing, for example gone; they stay in the list" in caplog.text
    assert (tmp_path / "out/list.txt").read_text() == (
        "b\t1\tBiking/b.mp4\na\t0\tArchery/a.mp4\ngone\t0\tArchery/gone.avi\n"
    )
    assert (tmp_path / "out/mapping_table.txt").read_text() == "0\tArchery\n1\tBiking\n"
    main([*arguments, "--drop-missing"])
    assert (tmp_path / "out/list.txt").read_text() == "b\t1\tBiking/b.mp4\na\t0\tArchery/a.mp4\n"
    with pytest.raises(SettingsError, match=r"no root folder of the videos at .*did you mean"):
        main(["folder", str(tmp_path / "vidos"), "-o", str(tmp_path / "list.txt")])
    split.write_text("Biking/gone.avi 2\n")
    with pytest.raises(SettingsError, match=r"none of its 1 videos is below .*; is this the right folder"):
        main([*arguments, "--drop-missing"])


def test_a_video_named_as_the_list_is_kept(tmp_path):
    folder = tmp_path / "videos" / "Archery"
    folder.mkdir(parents=True)
    video = folder / "a.mp4"
    video.write_bytes(b"\0\0\0\x18ftypmp42")
    for option in (["-o", str(video)], ["-o", str(tmp_path / "list.txt"), "--table", str(video)]):
        with pytest.raises(SettingsError, match=r"a\.mp4 exists and is not a text file, so it is not replaced; choose"):
            main(["folder", str(tmp_path / "videos"), *option])
    assert video.read_bytes().startswith(b"\0\0\0\x18ftyp")
    main(["folder", str(tmp_path / "videos"), "-o", str(tmp_path / "list.txt")])
    main(["folder", str(tmp_path / "videos"), "-o", str(tmp_path / "list.txt")])  # lists are replaced


def test_inputs_are_not_replaced(tmp_path):
    (tmp_path / "ab_000001_000011.mp4").touch()
    annotations, names, splits = tmp_path / "train.csv", tmp_path / "names.txt", tmp_path / "splits"
    annotations.write_text("label,youtube_id,time_start,time_end,split\ndog,ab,1,11,train\n")
    names.write_text("0\tdog\n")
    splits.mkdir()
    (splits / "dog_test_split1.txt").write_text("ab.avi 1\n")
    before = {path: path.read_text() for path in (annotations, names, splits / "dog_test_split1.txt")}
    options = ["kinetics400", tmp_path, "--annotations", annotations, "--class-names", names]
    new = tmp_path / "new.txt"
    for arguments, message in (
        ([*options, "-o", annotations], "train.csv is the input .*train.csv; choose another one with -o"),
        ([*options, "-o", new, "--table", names], "names.txt is the input .*; choose another one with --table"),
        ([*options, "-o", new, "--table", new], "two outputs would be written to .*new.txt; choose another one with"),
        (
            ["hmdb51", tmp_path, "--annotations", splits, "-o", splits / "dog_test_split1.txt"],
            "split1.txt is the input",
        ),
    ):
        with pytest.raises(SettingsError, match=message):
            main(list(map(str, arguments)))
    assert not new.exists() and all(path.read_text() == text for path, text in before.items())


def test_videos_without_a_class_can_be_dropped(tmp_path):
    for name in ("A1.mp4", "B2.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "classes.txt").write_text("c000 Holding\nc001 Taking\n")
    (tmp_path / "train.csv").write_text('id,actions\nA1,"c001 1.0 2.0;c000 0.5 3.0"\nB2,\n')
    arguments = ["charades", str(tmp_path), "--annotations", str(tmp_path / "train.csv"), "-o", str(tmp_path / "list")]
    main(arguments)
    assert (tmp_path / "list").read_text() == "A1\t0,1\tA1.mp4\nB2\t-1\tB2.mp4\n"
    main([*arguments, "--drop-unlabeled"])
    assert (tmp_path / "list").read_text() == "A1\t0,1\tA1.mp4\n"


def test_a_list_without_any_class_has_no_table(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (tmp_path / "ab_000001_000011.mp4").touch()
    (tmp_path / "test.csv").write_text("youtube_id,time_start,time_end,split\nab,1,11,test\n")
    annotations = str(tmp_path / "test.csv")
    main(["kinetics400", str(tmp_path), "--annotations", annotations, "-o", str(tmp_path / "out/test.txt")])
    assert (tmp_path / "out/test.txt").read_text() == "ab_000001_000011\t-1\tab_000001_000011.mp4\n"
    assert "1 videos; none has a class" in caplog.text and "in a recipe" not in caplog.text
    assert not (tmp_path / "out/mapping_table.txt").exists()


def test_the_recordings_of_fights_are_a_table_for_folds(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for name in ("fight/fi001.mp4", "noFight/nofi001.mp4", "noFight/nofi002.mp4"):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).touch()
    (tmp_path / "videos.txt").write_text("https://a.example/1\nfi001: 0.1 - 0.2\nnofi001: 0.3 - 0.4\n")
    annotations = ["--annotations", str(tmp_path / "videos.txt")]
    main(["fights", str(tmp_path / "videos"), *annotations, "-o", str(tmp_path / "lists/fights.txt")])
    groups = tmp_path / "lists/groups.txt"
    assert groups.read_text() == "fi001\thttps://a.example/1\nnofi001\thttps://a.example/1\n"
    files = read_videos(tmp_path / "lists/fights.txt", tmp_path / "videos")
    assert len(set(sources_from_table(groups, files))) == 2
    assert f"data.fold_groups={groups}: 1 recordings" in caplog.text
    arguments = ["fights", str(tmp_path / "videos"), *annotations, "-o", str(tmp_path / "lists/fights.txt")]
    main(arguments)  # its own table is replaced
    groups.write_text("fi001\tcamera 1\n")
    with pytest.raises(SettingsError, match=r"groups\.txt exists with recordings that are not in .*; move it away, or"):
        main(arguments)
    assert groups.read_text() == "fi001\tcamera 1\n"


def test_recordings_of_clips_that_share_a_name(tmp_path, caplog):
    for name in ("fight/1.mp4", "fight/2.mp4", "noFight/0.mp4", "noFight/2.mp4", "noFight/a b.mp4"):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).touch()
    (tmp_path / "videos.txt").write_text("https://a.example/1\n1: 0.1 - 0.2\n2: 0.3 - 0.4\na b: 0.5 - 0.6\n")
    annotations = ["--annotations", str(tmp_path / "videos.txt")]
    main(["fights", str(tmp_path / "videos"), *annotations, "-o", str(tmp_path / "fights.txt")])
    assert (tmp_path / "groups.txt").read_text() == "".join(
        f"{name}\thttps://a.example/1\n" for name in ("1", "fight/2.mp4", "noFight/2.mp4", "a_b")
    )
    files = read_videos(tmp_path / "fights.txt", tmp_path / "videos")
    assert [item.id for item in files] == ["1", "fight/2.mp4", "0", "noFight/2.mp4", "a_b"]
    assert len(set(sources_from_table(tmp_path / "groups.txt", files))) == 2
    assert "2 of 5 videos share their id with another or have none" in caplog.text


@pytest.mark.parametrize(
    ("name", "split"),
    [("train", "train"), ("val", "val"), ("testlist01", "val"), ("test_01", "val"), ("latest", "train"),
     ("intervals", "train"), ("trainval", "train"), ("my-validation", "val")],
)  # fmt: skip
def test_the_recipe_gets_the_list_where_its_name_says(tmp_path, caplog, name, split):
    caplog.set_level(logging.INFO)
    (tmp_path / "videos/dog").mkdir(parents=True)
    (tmp_path / "videos/dog/a.mp4").touch()
    main(["folder", str(tmp_path / "videos"), "-o", str(tmp_path / f"{name}.txt")])
    assert f"in a recipe: data.{split}=" in caplog.text


def test_the_script_offers_every_layout():
    assert list(make_list.LAYOUTS) == list(LAYOUTS)
