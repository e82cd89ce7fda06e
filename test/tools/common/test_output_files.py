"""What cannot be written is one clear error with status 2, before the long work, in every tool."""

import os
import tempfile
from pathlib import Path

import pytest
from faults import as_nobody

from settings import SettingsError
from tools import benchmark, check_videos, convert_videos, make_list, probe_features, show_data, train
from tools.common.output_files import check_file, check_folder, check_keeps_inputs, check_outputs


def test_what_can_be_written_passes_and_leaves_nothing(tmp_path):
    check_folder(tmp_path / "new/folder", "x")
    check_file(tmp_path / "new/table.csv", "x")
    (tmp_path / "table.csv").write_text("old")
    check_file(tmp_path / "table.csv", "x")
    assert os.listdir(tmp_path) == ["table.csv"] and (tmp_path / "table.csv").read_text() == "old"


def test_what_cannot_be_written_is_named_with_reason_and_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"cannot write in .*/file/below: Not a directory; choose another"):
        check_folder(tmp_path / "file/below", "choose another")
    with pytest.raises(SettingsError, match=r"cannot write .*: it is a folder; choose another"):
        check_file(tmp_path, "choose another")


def test_inputs_are_not_replaced(tmp_path):
    video, link, folder = tmp_path / "a.mp4", tmp_path / "link.mp4", tmp_path / "pictures"
    video.write_text("")
    link.symlink_to(video)
    folder.mkdir()
    for output in (tmp_path / "b.mp4", folder, tmp_path / "new"):
        check_keeps_inputs(output, [str(video), str(tmp_path / "gone.mp4")], "x")
    for output in (video, link):
        with pytest.raises(SettingsError, match=r"(a|link)\.mp4 is the input .*a\.mp4; choose another"):
            check_keeps_inputs(output, [str(video)], "choose another")
    with pytest.raises(SettingsError, match=rf"{tmp_path} holds the input .*a\.mp4; choose another"):
        check_keeps_inputs(tmp_path, [str(video)], "choose another")


def test_outputs_are_no_inputs_and_differ(tmp_path):
    (tmp_path / "in.txt").write_text("")
    (tmp_path / "link.txt").symlink_to(tmp_path / "new.txt")
    new = (tmp_path / "new.txt", "choose -o")
    check_outputs([new, (tmp_path / "other.txt", "x")], [None, tmp_path / "in.txt"])
    with pytest.raises(SettingsError, match=r"in\.txt is the input .*in\.txt; choose --rest"):
        check_outputs([new, (tmp_path / "in.txt", "choose --rest")], [tmp_path / "in.txt"])
    with pytest.raises(SettingsError, match=r"two outputs would be written to .*link\.txt; choose --rest"):
        check_outputs([new, (tmp_path / "link.txt", "choose --rest")], [])


def test_permissions_count():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "table.csv").write_text("")
        folder.chmod(0o555)  # also for others, which pytest's folders are not
        with as_nobody():
            with pytest.raises(SettingsError, match="Permission denied"):
                check_folder(folder / "new", "x")
            with pytest.raises(SettingsError, match="Permission denied"):
                check_file(folder / "table.csv", "x")
        folder.chmod(0o755)


@pytest.mark.parametrize(
    ("main", "arguments", "remedy"),
    [
        (convert_videos.main, ["VIDEOS", "FILE/out"], "choose another DESTINATION"),
        (make_list.main, ["folder", "VIDEOS/train", "-o", "FILE/train.txt"], "choose another one with -o"),
        (
            make_list.main,
            ["folder", "VIDEOS/train", "-o", "NEW", "--table", "FILE/x"],
            "choose another one with --table",
        ),
        (check_videos.main, ["VIDEOS/train.txt", "--index", "FILE/index"], "choose another place with --index"),
        (show_data.main, ["RECIPE", "--output", "FILE/out"], "choose another one with --output"),
        (train.main, ["-c", "RECIPE", "run.dir=FILE/run"], "choose another run.dir"),
        (probe_features.main, ["features", "--csv", "FILE/x.csv"], "choose another one with --csv"),
        (benchmark.main, ["recipes", "--csv", "FILE/x.csv"], "choose another one with --csv"),
    ],
)
def test_every_tool_says_so_before_it_starts(main, arguments, remedy, motion_videos, recipe, tmp_path):
    (tmp_path / "file").write_text("")
    names = {"VIDEOS": motion_videos, "FILE": tmp_path / "file", "NEW": tmp_path / "new", "RECIPE": recipe}
    for name, path in names.items():
        arguments = [argument.replace(name, str(path)) for argument in arguments]
    with pytest.raises(SettingsError, match=rf"cannot write .*Not a directory; {remedy}"):
        main(arguments)
    assert not (tmp_path / "new").exists()
