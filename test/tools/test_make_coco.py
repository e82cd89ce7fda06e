"""The script that writes COCO files; what it writes is tested in datasets/dense/test_convert.py."""

import json

import numpy as np
import pytest
from PIL import Image

from datasets.dense.coco import read_coco
from settings import SettingsError
from tools.make_coco import main


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "masks").mkdir(), (tmp_path / "images").mkdir(), (tmp_path / "xml").mkdir()
    mask = np.zeros((30, 40), np.uint8)
    mask[3:9, 5:20] = 1
    for name in "abcde":
        Image.new("RGB", (40, 30)).save(tmp_path / "images" / f"{name}.jpg")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{name}.png")
        (tmp_path / "xml" / f"{name}.xml").write_text(
            f"<annotation><filename>{name}.jpg</filename><object><name>cell</name><bndbox><xmin>1</xmin>"
            "<ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
        )
    return tmp_path


def test_instances_in_two_parts(folder, caplog):
    caplog.set_level("INFO")
    options = ["--images", str(folder / "images"), "-o", str(folder / "new/train.json"), "--category", "person"]
    main(["instances", str(folder / "masks"), *options, "--every", "2", "--rest", str(folder / "val.json")])
    parts = [json.loads((folder / name).read_text()) for name in ("new/train.json", "val.json")]
    names = [[image["file_name"] for image in part["images"]] for part in parts]
    assert names == [["a.jpg", "c.jpg", "e.jpg"], ["b.jpg", "d.jpg"]]
    assert "train.json: 3 images, 3 objects, 1 classes" in caplog.text
    assert read_coco(folder / "val.json", folder / "images", masks=True).class_names == ("person",)


def test_voc_with_a_list(folder):
    (folder / "xml/b.xml").rename(folder / "xml/b 0.v1.xml")
    (folder / "list.txt").write_text("b 0.v1\nd  1\n")
    options = ["--images", str(folder / "images"), "-o", str(folder / "set.json"), "--list", str(folder / "list.txt")]
    main(["voc", str(folder / "xml"), *options])
    images = read_coco(folder / "set.json", folder / "images")
    assert len(images) == 2 and images.objects(0).boxes.tolist() == [[0, 0, 9, 9]]


def test_wrong_arguments(folder):
    options = ["--images", str(folder / "images"), "-o", str(folder / "set.json")]
    with pytest.raises(SystemExit):
        main(["voc", str(folder / "xml"), *options, "--every", "5"])
    with pytest.raises(SettingsError, match=r"no folder at .*xlm: .*did you mean 'xml'\?"):
        main(["voc", str(folder / "xlm"), *options])
    with pytest.raises(SettingsError, match=r"--every 6 leaves none of the 5 images for --rest; set it lower"):
        main(["voc", str(folder / "xml"), *options, "--every", "6", "--rest", str(folder / "rest.json")])
    assert not (folder / "set.json").exists()


@pytest.mark.parametrize("output", ["list.txt", "xml/a.xml", "names.txt"])
def test_inputs_are_not_replaced(folder, output):
    (folder / "list.txt").write_text("a\n"), (folder / "names.txt").write_text("0\tcell\n")
    before = (folder / output).read_text()
    options = ["--list", "list.txt", "--class-names", "names.txt", "--every", "2", "--rest", output, "-o", "new.json"]
    options = [option if option.startswith("-") or option == "2" else str(folder / option) for option in options]
    with pytest.raises(SettingsError, match=rf"{output} is the input .*; choose another one with -o or --rest"):
        main(["voc", str(folder / "xml"), "--images", str(folder / "images"), *options])
    assert (folder / output).read_text() == before


def test_the_two_parts_are_two_files(folder):
    options = ["--images", str(folder / "images"), "-o", str(folder / "o.json"), "--rest", str(folder / "o.json")]
    with pytest.raises(SettingsError, match=r"two outputs would be written to .*o\.json; choose another one"):
        main(["voc", str(folder / "xml"), *options, "--every", "2"])
    assert not (folder / "o.json").exists()
