"""Boxes in VOC's XML and masks with a value for each object, as COCO's form."""

import json
import unicodedata

import numpy as np
import pytest
from PIL import Image

from datasets.dense.coco import read_coco
from datasets.dense.convert import coco_from_instances, coco_from_voc, split_content
from datasets.file_list import FileError

SIZE = "<size><width>{}</width><height>{}</height><depth>3</depth></size>"
OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>"
    "<ymax>{}</ymax></bndbox></object>"
)


def write_xml(path, *objects, name="a.jpg"):
    body = "".join(OBJECT.format(*entry) for entry in objects)
    path.write_text(f"<annotation><filename>{name}</filename>{body}</annotation>")


@pytest.fixture
def voc(tmp_path):
    (tmp_path / "xml").mkdir(), (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (40, 30)).save(tmp_path / "images" / f"{name}.jpg")
    write_xml(tmp_path / "xml/a.xml", ("cell", 0, 1, 1, 2, 2), ("ant", 1, 11, 6, 45, 30), ("ant", 0, 3, 3, 2, 9))
    write_xml(tmp_path / "xml/b.xml", name="b.jpg")
    return tmp_path


def test_voc(voc, caplog):
    content = coco_from_voc(voc / "xml", voc / "images")
    assert f"boxes that reach beyond their image, cut at its border: 1, first {voc / 'xml/a.xml'}: ant" in caplog.text
    assert f"boxes without a pixel of their image, left out: 1, first {voc / 'xml/a.xml'}: ant, xmin" in caplog.text
    assert [category["name"] for category in content["categories"]] == ["ant", "cell"]
    assert content["images"][0] == {"id": 1, "file_name": "a.jpg", "width": 40, "height": 30}
    assert [(entry["bbox"], entry["iscrowd"]) for entry in content["annotations"]] == [
        ([0, 0, 2, 2], 0), ([10, 5, 30, 25], 1)
    ]  # fmt: skip
    (voc / "set.json").write_text(json.dumps(content))
    images = read_coco(voc / "set.json", voc / "images")
    assert len(images) == 2 and images.objects(0).labels.tolist() == [1] and len(images.objects(0).ignored) == 1
    assert len(coco_from_voc(voc / "xml", voc / "images", ["b"], ["cell"])["images"]) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation><filename>a.jpg</filename><object><name>x</name></object></annotation>", "is not VOC's XML"),
        ("<annotation></annotation>", "is not VOC's XML: expected filename, and objects with name and bndbox"),
        ("<annotation>", "is not VOC's XML"),
        (f"<a><filename>a.jpg</filename>{OBJECT.format('x', 0, 'nan', 1, 2, 3)}</a>", "a box is"),
        (f"<a><filename>a.jpg</filename>{SIZE.format(400, 300)}</a>", "its image is 400 x 300, but a.jpg is 40 x 30$"),
        (
            f"<a><filename>a.jpg</filename>{SIZE.format(30, 40)}</a>",
            "is 40 x 30, turned upright as EXIF says",
        ),
        ("<a><filename>gone.jpg</filename></a>", r"gone\.jpg: No such file"),
        (
            f"<a><filename>a.jpg</filename>{OBJECT.format('cel', 0, 1, 1, 2, 3)}</a>",
            r"'cel', which is not one of the 1",
        ),
    ],
)
def test_faults_of_voc(voc, text, message):
    (voc / "xml/a.xml").write_text(text)
    with pytest.raises(FileError, match=message):
        coco_from_voc(voc / "xml", voc / "images", class_names=["cell"])


def test_renamed_files_of_voc_that_name_their_old_image(voc, caplog):
    write_xml(voc / "xml/b.xml", name="a.jpg")
    with pytest.raises(
        FileError, match=r"b\.xml: names the image a\.jpg, as .*a\.xml does; correct the filename in one"
    ):
        coco_from_voc(voc / "xml", voc / "images")
    assert len(coco_from_voc(voc / "xml", voc / "images", ["b"])["images"]) == 1
    xml = voc / "xml/b.xml"
    assert f"that name another image than that of their own name: 1, first {xml}, which names a.jpg" in caplog.text


def test_hidden_files_are_passed_over(voc):
    for name in ("xml/._a.xml", "masks/._a.png", "images/._a.jpg"):
        (voc / name).parent.mkdir(exist_ok=True)
        (voc / name).write_bytes(b"\0\5\x16\7")  # as macOS leaves on disks of other systems
    assert len(coco_from_voc(voc / "xml", voc / "images")["images"]) == 2
    Image.new("L", (40, 30)).save(voc / "masks/a.png")
    assert len(coco_from_instances(voc / "masks", voc / "images", "cell")["images"]) == 1


def test_missing_files_of_voc(voc):
    with pytest.raises(FileError, match=r"c\.xml: does not exist"):
        coco_from_voc(voc / "xml", voc / "images", ["c"])
    with pytest.raises(FileError, match="has no XML files"):
        coco_from_voc(voc / "images", voc / "images")


@pytest.fixture
def instances(tmp_path):
    (tmp_path / "masks").mkdir(), (tmp_path / "images").mkdir()
    mask = np.zeros((30, 40), np.uint8)
    mask[3:9, 5:20] = 1
    mask[12:20, 30:40] = mask[20:25, 1:3] = 7
    for name in "abc":
        Image.new("RGB", (40, 30)).save(tmp_path / "images" / f"{name}.jpg")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{name}_mask.png")
    return tmp_path, mask


def test_instances(instances):
    folder, mask = instances
    content = coco_from_instances(folder / "masks", folder / "images", "person", "_mask")
    (folder / "set.json").write_text(json.dumps(content))
    images = read_coco(folder / "set.json", folder / "images", masks=True)
    objects = images.objects(1)
    assert images.class_names == ("person",) and objects.boxes.tolist() == [[5, 3, 20, 9], [1, 12, 40, 25]]
    assert np.array_equal(objects.masks, [mask == 1, mask == 7])
    part = split_content(content, [2, 0])
    assert [image["file_name"] for image in part["images"]] == ["c.jpg", "a.jpg"] and len(part["annotations"]) == 4


def test_faults_of_instances(instances):
    folder, _ = instances
    with pytest.raises(FileError, match=r"a_mask\.png: has no image a_mask in "):
        coco_from_instances(folder / "masks", folder / "images", "person")
    Image.new("L", (40, 31)).save(folder / "masks/b_mask.png")
    with pytest.raises(FileError, match=r"b_mask\.png: is 40 x 31, but its image is 40 x 30"):
        coco_from_instances(folder / "masks", folder / "images", "person", "_mask")
    with pytest.raises(FileError, match="has no PNG files whose names end in _m"):
        coco_from_instances(folder / "masks", folder / "images", "person", "_m")
    (folder / "masks/b_mask.png").unlink()
    Image.new("RGB", (40, 30)).save(folder / "images/c.bmp")
    with pytest.raises(FileError, match=r"c\.jpg: has the name of c\.bmp; which one do masks belong to"):
        coco_from_instances(folder / "masks", folder / "images", "person", "_mask")


def test_accents_may_be_stored_in_two_ways(instances):
    folder, _ = instances
    (folder / "masks/b_mask.png").rename(folder / "masks" / unicodedata.normalize("NFC", "é_mask.png"))
    (folder / "images/b.jpg").rename(folder / "images" / (name := unicodedata.normalize("NFD", "é.jpg")))
    content = coco_from_instances(folder / "masks", folder / "images", "person", "_mask")
    assert [image["file_name"] for image in content["images"]] == ["a.jpg", "c.jpg", name]


def test_images_and_masks_may_share_a_folder(instances):
    folder, _ = instances
    for path in (folder / "masks").iterdir():
        Image.new("L", (40, 30)).save(folder / f"masks/{path.name.removesuffix('_mask.png')}.png")
    (folder / "masks/a.txt").write_text("a note")
    shared = coco_from_instances(folder / "masks", folder / "masks", "person", "_mask")
    assert [image["file_name"] for image in shared["images"]] == ["a.png", "b.png", "c.png"]
    assert len(shared["annotations"]) == 6


def test_borders_are_no_objects_and_masks_may_have_16_bits(tmp_path, caplog):
    for name in ("a", "b", "c"):
        Image.new("RGB", (8, 6)).save(tmp_path / f"{name}.jpg")
    masks = np.zeros((3, 6, 8), np.uint16)
    masks[0, :3, :3], masks[0, 3, :4] = 1, 255  # as VOC's
    masks[1, :3, :3], masks[1, 3, :4] = 700, 255
    masks[2, :3] = 255  # a single object
    for name, values, kind in zip("abc", masks, (np.uint8, np.uint16, np.uint8), strict=True):
        Image.fromarray(values.astype(kind)).save(tmp_path / f"{name}.png")
    content = coco_from_instances(tmp_path, tmp_path, "cell")
    assert [(one["image_id"], one["area"]) for one in content["annotations"]] == [(1, 9), (2, 4), (2, 9), (3, 24)]
    assert "255 is taken for a border, and no object, in 1 PNGs" in caplog.text
