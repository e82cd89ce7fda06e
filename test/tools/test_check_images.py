"""The script that checks images, boxes, masks and label maps."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from datasets.dense import check
from datasets.synthetic import make_scene_shapes
from settings import SettingsError
from tools.check_images import main

SQUARE = [[10, 5, 30, 5, 30, 25, 10, 25]]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return make_scene_shapes(tmp_path_factory.mktemp("check") / "scenes", num_train=12, num_val=4, size=48)


def run(*arguments, table):
    """-> (exit status, the rows of the table)"""
    try:
        main([*map(str, arguments), "--table", str(table), "--workers", "2"])
        status = 0
    except SystemExit as error:
        status = error.code
    with table.open(newline="", encoding="utf-8") as file:
        return status, list(csv.DictReader(file))


def test_a_good_set_has_no_faults(scenes, tmp_path, caplog):
    caplog.set_level("INFO")
    table = tmp_path / "t.csv"
    status, rows = run(scenes / "instances_train.json", "--root", scenes / "images" / "train", table=table)
    assert status == 0 and len(rows) == 12 and "12 entries, 0 with a fault" in caplog.text
    content = json.loads((scenes / "instances_train.json").read_text())
    assert sum(int(row["objects"]) for row in rows) == len(content["annotations"])
    assert {(row["width"], row["height"]) for row in rows} <= {("64", "48"), ("48", "64")}
    for arguments in (
        [scenes / "train.txt", "--num-classes", "7"],
        [scenes / "train.txt", "--class-names", scenes / "mapping_table.txt"],
        [scenes / "images" / "train", "--labels", scenes / "labels" / "train", "--num-classes", "7"],
        [scenes / "images" / "train"],
    ):
        status, rows = run(*arguments, table=table)
        assert status == 0 and len(rows) == 12
    assert "% are ignored" in caplog.text and "pixels: ground" in caplog.text


def test_classes_without_a_pixel_are_named(tmp_path, caplog):
    caplog.set_level("INFO")
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images/a.png")
    labels = np.zeros((8, 8), np.uint8)
    labels[:2] = 255  # a mask of 0 and 255
    Image.fromarray(labels).save(tmp_path / "labels/a.png")
    arguments = (tmp_path / "images", "--labels", tmp_path / "labels", "--num-classes", "2")
    assert run(*arguments, table=tmp_path / "t.csv")[0] == 0
    assert "pixels: class 0 75.0 %, class 1 0.0 %; 25.0 % are ignored" in caplog.text
    assert "no pixel of 1 of 2 classes: class 1" in caplog.text


def test_the_table_lies_beside_the_source_by_default(scenes):
    main([str(scenes / "instances_val.json"), "--root", str(scenes / "images" / "val"), "--workers", "1"])
    assert (scenes / "instances_val.json.checked.csv").is_file()


def test_every_fault_of_a_coco_file_is_listed(tmp_path, caplog):
    caplog.set_level("INFO")
    for name in ("good", "other_size", "cut"):
        noise = np.random.default_rng(1).integers(0, 255, (40, 50, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{name}.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:900])
    entries = [
        ({"bbox": [10, 5, 20, 20], "segmentation": SQUARE}, ""),
        ({"bbox": [10, 5, 0.2, 20]}, "annotation 1: its box is degenerate: 0.2 x 20 pixels"),
        ({"bbox": [60, 5, 20, 20]}, "annotation 2: its box [60, 5, 20, 20] is outside the image of 50 x 40"),
        ({"bbox": [40, 5, 20, 20]}, "annotation 3: its box [40, 5, 20, 20] reaches beyond the image of 50 x 40"),
        ({"bbox": [1, 2, 3]}, "annotation 4: its bbox is [1, 2, 3]; expected [x, y, width, height]"),
        ({"bbox": [1, 2, 3, 4], "segmentation": [[1, 2, 3]]}, "annotation 5: a polygon has 3 numbers, an odd count"),
        (
            {"bbox": [1, 2, 3, 4], "segmentation": {"size": [40, 50], "counts": "0"}},
            "annotation 6: its run lengths add up to 0 pixels",
        ),
        (
            {"bbox": [1, 2, 3, 4], "segmentation": {"size": [40, 50], "counts": [2000]}},
            "annotation 7: its mask is empty",
        ),
        ({"bbox": [1, 2, 3, 4], "category_id": 9}, "annotation 8: its category_id is 9, which is not among"),
        ({"bbox": [1, 2, 3, 4], "image_id": 9}, "annotation 9: it is of image 9, which is not among the images"),
    ]
    entries.append(({"bbox": [1, 2, 3, 4], "image_id": [1]}, "annotation 10: it is of image [1], which is not among"))
    base = {"image_id": 1, "category_id": 1}
    size = {"height": 40, "width": 50}
    content = {
        "images": [
            {"id": 1, "file_name": "good.jpg", **size},
            {"id": 2, "file_name": "other_size.jpg", "height": 50, "width": 40},
            {"id": 3, "file_name": "cut.jpg", **size},
            {"id": 4, "file_name": "gone.jpg", **size},
            {"id": 4, "file_name": "twice.jpg", **size},
            {"id": 5, "file_name": "./good.jpg", **size},
        ],
        "annotations": [{"id": number, **base, **entry} for number, (entry, _) in enumerate(entries)],
        "categories": [{"id": 1, "name": "thing"}],
    }
    (tmp_path / "set.json").write_text(json.dumps(content))
    status, rows = run(tmp_path / "set.json", table=tmp_path / "t.csv")
    assert rows.pop()["fault"] == "image 5: it is the file of image 1; list each file once"
    faults = {row["path"].split("/")[-1]: row["fault"] for row in rows}
    together = "\n".join(row["fault"] for row in rows)
    assert status == 1 and "8 entries, 8 with a fault" in caplog.text
    for _, fault in entries:
        assert fault in together
    assert "annotation 0" not in together and len(faults["good.jpg"].split("; annotation ")) == 8
    assert faults["other_size.jpg"] == "is 50 x 40 pixels, but its entry says 40 x 50"
    assert "truncated" in faults["cut.jpg"] and faults["gone.jpg"] == "No such file or directory"
    assert "image id 4 appears twice; ids must differ" in together


@pytest.mark.parametrize(
    ("box", "fault"),
    [
        ([10, 5, 20, 20], ""),
        ([8, 3, 22, 22], ""),  # within two pixels
        ([4, 0, 26, 25], ""),  # a loose box
        ([31, 5, 9, 20], "its box [31, 5, 9, 20] and that of its mask, [10, 5, 20, 20], overlap by 0 %"),
        ([5, 5, 10, 10], "its box [5, 5, 10, 10] and that of its mask, [10, 5, 20, 20], overlap by 11 %"),
        (
            [10, 5, 30, 25],
            "its box [10, 5, 30, 25] and that of its mask, [10, 5, 20, 20], overlap by 53 %; are they x1, y1, x2, y2? "
            "COCO's are x, y, width, height",
        ),
    ],
)
def test_boxes_are_around_their_masks(tmp_path, box, fault):
    Image.new("RGB", (50, 40)).save(tmp_path / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 40, "width": 50}],
        "annotations": [{"id": 3, "image_id": 1, "category_id": 1, "bbox": box, "segmentation": SQUARE}],
        "categories": [{"id": 1, "name": "thing"}],
    }
    (tmp_path / "set.json").write_text(json.dumps(content))
    (entry,) = check.coco_entries(tmp_path / "set.json", tmp_path)
    assert check.check_entry(entry)["faults"] == ([f"annotation 3: {fault}"] if fault else [])


def test_faults_of_label_maps_are_listed(tmp_path):
    (tmp_path / "images").mkdir(), (tmp_path / "labels").mkdir()
    maps = {
        "good": np.full((20, 30), 1, np.uint8),
        "range": np.full((20, 30), 9, np.uint8),
        "size": np.zeros((20, 31), np.uint8),
        "color": np.zeros((20, 30, 3), np.uint8),
        "deep": np.zeros((20, 30), np.uint16),
        "void": np.full((20, 30), 255, np.uint8),
    }
    for name, labels in maps.items():
        Image.new("RGB", (30, 20)).save(tmp_path / f"images/{name}.jpg")
        Image.fromarray(labels).save(tmp_path / f"labels/{name}.png")
    options = ["--labels", tmp_path / "labels", "--num-classes", "3"]
    status, rows = run(tmp_path / "images", *options, table=tmp_path / "t.csv")
    faults = {row["path"].split("/")[-1].removesuffix(".jpg"): row["fault"] for row in rows}
    assert status == 1 and faults.pop("good") == ""
    expected = {
        "range": "has label 9 in 600 pixels; expected 0 to 2",
        "size": "is 31 x 20, but its image is 30 x 20",
        "color": "is RGB; a label map has one channel",
        "deep": "is of 16 bits; a label map has one channel",
        "void": "ignores every pixel",
    }
    assert faults.keys() == expected.keys()
    for name, fault in faults.items():
        assert fault.startswith(str(tmp_path / f"labels/{name}.png")) and expected[name] in fault


def test_plain_folders_and_lists_of_classification_are_read(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (30, 20)).save(tmp_path / "images/good.png")
    (tmp_path / "images/bad.png").write_bytes(b"no image")
    (tmp_path / "list.txt").write_text("1\t0\tgood.png\n2\t3,5\tbad.png\n")
    for source in (["images"], ["list.txt", "--root", tmp_path / "images"]):
        status, rows = run(tmp_path / source[0], *source[1:], table=tmp_path / "t.csv")
        faults = {row["path"].split("/")[-1]: row["fault"] for row in rows}
        assert status == 1 and faults["good.png"] == "" and "cannot identify image file" in faults["bad.png"]


def test_images_of_16_bits_that_hold_fewer_are_told(tmp_path, caplog):
    caplog.set_level("INFO")
    values = np.linspace(0, 65535, 600).reshape(20, 30).astype(np.uint16)
    (tmp_path / "images").mkdir()
    for name, image in (("whole", values), ("twelve", values >> 4), ("black", values * 0), ("eight", values >> 8)):
        Image.fromarray(image if name != "eight" else image.astype(np.uint8)).save(tmp_path / f"images/{name}.png")
    status, rows = run(tmp_path / "images", table=tmp_path / "t.csv")
    faults = {row["path"].split("/")[-1]: row["fault"] for row in rows if row["fault"]}
    assert status == 1 and list(faults) == ["twelve.png"]
    said = "holds 16-bit values of at most {}, which are read as nearly black, up to {} of {}; scale them"
    assert faults["twelve.png"].startswith(said.format(4095, 15, 255)) and said.format("N", "N", "N") in caplog.text


def test_images_that_are_turned_are_told(tmp_path, caplog):
    caplog.set_level("INFO")
    for folder, size in (("images", (30, 20)), ("labels", (20, 30))):
        (tmp_path / folder).mkdir()
        for name in ("plain", "turned"):
            shape = size if name == "turned" else (30, 20)
            exif = Image.Exif()
            exif[0x0112] = 6 if (name, folder) == ("turned", "images") else 1
            Image.new("RGB" if folder == "images" else "L", shape).save(tmp_path / folder / f"{name}.png", exif=exif)
    images, labels = tmp_path / "images", tmp_path / "labels"
    status, rows = run(images, "--labels", labels, "--num-classes", "2", table=tmp_path / "t.csv")
    assert status == 0 and [row["turned"] for row in rows] == ["0", "1"]
    assert f"turned upright as EXIF says: 1, first {images / 'turned.png'}; boxes, masks" in caplog.text


def test_what_a_file_brings_about_is_a_fault(tmp_path, monkeypatch):
    def fail(path):
        raise MemoryError("too much")

    monkeypatch.setattr(check, "read_image", fail)
    assert check.check_entry(check.Entry("x.png"))["faults"] == ["cannot be checked: MemoryError: too much"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}, "lists no images"),
        ({"annotations": [], "categories": []}, "has no images"),
        ({"images": [{}], "annotations": [], "categories": []}, "has no categories"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, content, message):
    (tmp_path / "set.json").write_text(json.dumps(content))
    with pytest.raises(SettingsError, match=message):
        main([str(tmp_path / "set.json")])


def test_the_source_is_not_replaced(tmp_path):
    for name in ("set.json", "names.txt"):
        (tmp_path / name).write_text("{}")
        options = ["--class-names", str(tmp_path / "names.txt"), "--table", str(tmp_path / name)]
        with pytest.raises(SettingsError, match=f"{name} is the input .*; choose another one with --table"):
            main([str(tmp_path / "set.json"), *options])
        assert (tmp_path / name).read_text() == "{}"


def test_wrong_arguments(tmp_path):
    with pytest.raises(SettingsError, match="no set of images at"):
        main([str(tmp_path / "gone"), "--table", str(tmp_path / "t.csv")])
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--workers", "0"])
    with pytest.raises(SettingsError, match=r"cannot write .*it is a folder; choose another one with --table"):
        main([str(tmp_path), "--table", str(tmp_path)])
