"""Images and label maps in each layout, what the values mean, and one error for each fault."""

import struct
import unicodedata
import zlib

import numpy as np
import pytest
from PIL import Image

from datasets.dense.label_maps import read_label_maps
from datasets.dense.label_values import CITYSCAPES, ade20k_values, cityscapes_values, own_values, read_label_file
from datasets.image_file import ImageError

NAMES = ("road", "sky", "tree")
ADE20K_HEADER = "Idx\tRatio\tTrain\tVal\tStuff\tName\n"


def save(path, array, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array)).convert(mode or Image.fromarray(np.asarray(array)).mode).save(path)
    return path


def save_pair(root, image, labels, values=((0, 1), (2, 255))):
    values = np.uint8(values)
    save(root / image, np.zeros((*values.shape, 3), np.uint8))
    save(root / labels, values)


def labels_of(files, index=0):
    return files.read_labels(files[index], Image.open(files[index].path).size[::-1])


def test_a_list(tmp_path):
    save_pair(tmp_path, "a b/x.jpg", "m/x.png")
    save_pair(tmp_path, "y.jpg", "m/y.png", ((2, 2), (1, 11), (0, 0)))
    (tmp_path / "list.txt").write_text("a b/x.jpg\tm/x.png\n\ny.jpg m/y.png\n")
    files = read_label_maps(tmp_path / "list.txt", class_names=NAMES, ignored_label=11)
    assert len(files) == 2 and files.num_classes == 3 and files.class_names == NAMES
    assert labels_of(files).tolist() == [[0, 1], [2, 255]]
    assert labels_of(files, 1).tolist() == [[2, 2], [1, 255], [0, 0]]
    assert files.subset([1])[0].path == files[1].path and not files.missing()
    assert list(files.identities())[1] == "y.jpg\ty.png"


def test_lists_that_begin_with_a_slash_are_below_the_root(tmp_path):
    """SegNet's lists of CamVid: /SegNet/CamVid/train/x.png /SegNet/CamVid/trainannot/x.png"""
    save_pair(tmp_path, "data/SegNet/CamVid/train/x.png", "data/SegNet/CamVid/trainannot/x.png")
    (tmp_path / "train.txt").write_text("/SegNet/CamVid/train/x.png /SegNet/CamVid/trainannot/x.png\n")
    files = read_label_maps(tmp_path / "train.txt", root=tmp_path / "data", num_classes=3)
    assert labels_of(files).tolist() == [[0, 1], [2, 255]] and files.class_names[2] == "class 2"


def test_parallel_folders_also_behind_a_link(tmp_path):
    save_pair(tmp_path, "far/images/a/x.jpg", "labels/a/x.png")
    save_pair(tmp_path, "far/images/y.png", "labels/y.png")
    (tmp_path / "images").symlink_to(tmp_path / "far" / "images")
    files = read_label_maps(tmp_path / "images", labels=tmp_path / "labels", num_classes=3)
    assert [item.path.split("/")[-1] for item in files] == ["x.jpg", "y.png"]
    assert labels_of(files).tolist() == labels_of(files, 1).tolist() == [[0, 1], [2, 255]]


def test_ade20k(tmp_path):
    save_pair(tmp_path, "images/training/ADE_1.jpg", "annotations/training/ADE_1.png", ((0, 1), (150, 2)))
    save_pair(tmp_path, "images/validation/ADE_2.jpg", "annotations/validation/ADE_2.png", ((151, 1), (150, 2)))
    rows = [f"{number}\t0.1\t1\t1\t0\tname {number}, other" for number in range(1, 151)]
    (tmp_path / "objectInfo150.txt").write_text(ADE20K_HEADER + "\n".join(rows) + "\n")
    files = read_label_maps(tmp_path, split="train")
    assert labels_of(files).tolist() == [[255, 0], [149, 1]]
    assert files.num_classes == 150 and files.class_names[149] == "name 150"
    with pytest.raises(ImageError, match=r"ADE_2\.png: has label 151 in 1 pixels; expected ADE20K's values, 1 to 150"):
        labels_of(read_label_maps(tmp_path, split="val"))
    with pytest.raises(ValueError, match=r"has several splits; set split to train or val"):
        read_label_maps(tmp_path)
    with pytest.raises(ValueError, match=r"is ADE20K, which defines its own labels; leave out labels"):
        read_label_maps(tmp_path, split="train", ignored_label=3)
    assert read_label_maps(tmp_path, split="train", num_classes=150).num_classes == 150
    with pytest.raises(ValueError, match=r"is ADE20K with 150 classes, but num_classes is 19"):
        read_label_maps(tmp_path, split="train", num_classes=19)
    with pytest.raises(ValueError, match=r"is ADE20K with 150 classes, but 2 names"):
        read_label_maps(tmp_path, split="train", class_names=("a", "b"))
    with pytest.raises(ValueError, match=r"ADE20K has no split 'test'; expected train or val"):
        read_label_maps(tmp_path, split="test")
    (tmp_path / "objectInfo150.txt").write_text(ADE20K_HEADER + "\n".join(rows[:149]) + "\n")
    with pytest.raises(ValueError, match=r"149 classes; expected ADE20K's table, a header and lines 1 to 150"):
        read_label_maps(tmp_path, split="train")


def test_cityscapes(tmp_path):
    stem = "ulm/ulm_000000_000019"
    image = f"leftImg8bit/train/{stem}_leftImg8bit.png"
    save_pair(tmp_path, image, f"gtFine/train/{stem}_gtFine_labelIds.png", ((7, 0), (33, 26)))
    files = read_label_maps(tmp_path, split="train")
    assert labels_of(files).tolist() == [[0, 255], [18, 13]] and files.class_names[13] == "car"
    save_pair(tmp_path, image, f"gtFine/train/{stem}_gtFine_labelTrainIds.png", ((0, 255), (18, 13)))
    ready = read_label_maps(tmp_path, split="train")
    assert labels_of(ready).tolist() == labels_of(files).tolist() and "labelTrainIds" in ready[0].label_path
    save(tmp_path / "leftImg8bit/train/bonn/bonn_1_leftImg8bit.png", np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match=r"bonn_1_leftImg8bit\.png has no label map .*bonn_1_gtFine_labelIds\.png"):
        read_label_maps(tmp_path, split="train")
    with pytest.raises(FileNotFoundError, match=r"no split of Cityscapes at .*did you mean 'train'\?"):
        read_label_maps(tmp_path, split="trian")


def test_what_values_mean():
    values = np.arange(256, dtype=np.uint8)
    own = own_values(3, ignored_label=1)(np.uint8([0, 1, 2, 255]), "x")
    assert own.tolist() == [0, 255, 2, 255]
    cityscapes = cityscapes_values()(values[:34], "x")
    assert [int(cityscapes[number]) for number in CITYSCAPES] == list(range(19)) and (cityscapes == 255).sum() == 15
    assert ade20k_values()(values[:151], "x").tolist() == [255, *range(150)]
    assert own_values(255)(values, "x").tolist() == list(range(256))
    for wrong, message in ((256, "256 classes; label maps of 8 bits hold 1 to 255"), (0, "0 classes")):
        with pytest.raises(ValueError, match=message):
            own_values(wrong)
    with pytest.raises(ValueError, match=r"ignored_label is 256; expected a value of the label maps, 0 to 255"):
        own_values(3, 256)


@pytest.fixture
def folders(tmp_path):
    for name in ("a", "b"):
        save_pair(tmp_path, f"images/{name}.jpg", f"labels/{name}.png")
    return tmp_path


def read(folders, **options):
    return read_label_maps(folders / "images", labels=folders / "labels", **{"num_classes": 3, **options})


def test_a_label_out_of_range_names_file_and_value(folders):
    with pytest.raises(ImageError, match=r"a\.png: has label 2 in 1 pixels; expected 0 to 1 for 2 classes, or 255 for"):
        labels_of(read(folders, num_classes=2))
    save(folders / "labels/a.png", np.uint8([[9, 8], [7, 6]]))
    with pytest.raises(ImageError, match=r"has label 6, 7, 8, 9 in 4 pixels; .*or 11 or 255 for ignored"):
        labels_of(read(folders, ignored_label=11))


def test_a_label_map_of_another_size(folders):
    save(folders / "labels/a.png", np.zeros((3, 2), np.uint8))
    with pytest.raises(ImageError, match=r"labels/a\.png: is 2 x 3, but its image .*images/a\.jpg is 2 x 2"):
        labels_of(read(folders))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 2), np.uint16), r"is of 16 bits; a label map has one channel of 8 bits, whose values are"),
        (np.zeros((2, 2, 3), np.uint8), r"is RGB; a label map has one channel of 8 bits.*save it as gray or palette"),
        (np.zeros((2, 2, 4), np.uint8), r"is RGBA; a label map has one channel"),
    ],
)
def test_label_maps_of_other_kinds(folders, array, message):
    Image.fromarray(array).save(folders / "labels/a.png")
    with pytest.raises(ImageError, match=message):
        labels_of(read(folders))


def test_missing_and_damaged_label_maps(folders):
    files = read(folders)
    (folders / "labels/a.png").write_bytes(b"not a picture")
    with pytest.raises(ImageError, match=r"a\.png: cannot be read as a label map: cannot identify image file"):
        labels_of(files)
    (folders / "labels/a.png").unlink()
    with pytest.raises(ImageError, match=r"a\.png: cannot be read as a label map: No such file or directory"):
        labels_of(files)
    assert files.missing() == [files[0].label_path]


def test_palettes_and_two_levels_are_read_by_their_values(tmp_path):
    palette = Image.fromarray(np.uint8([[0, 1], [2, 3]])).convert("P")
    palette.putdata([0, 1, 2, 3])
    palette.putpalette([200, 0, 0] * 256)
    palette.save(tmp_path / "p.png")
    assert read_label_file(str(tmp_path / "p.png")).tolist() == [[0, 1], [2, 3]]
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "b.png")
    assert read_label_file(str(tmp_path / "b.png")).tolist() == [[1, 0]]


@pytest.mark.parametrize("bits", [2, 4])
def test_gray_of_a_few_bits_is_read_by_its_values(tmp_path, bits):
    values = np.arange(2**bits, dtype=np.uint8).reshape(2, -1)
    packed = np.packbits(np.unpackbits(values[..., None], axis=2)[..., -bits:].reshape(2, -1), axis=1)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", values.shape[1], 2, bits, 0, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in packed))
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    (tmp_path / "g.png").write_bytes(png)
    assert np.array_equal(read_label_file(str(tmp_path / "g.png")), values)


def test_a_tiff_of_four_bits_is_read_by_its_values(tmp_path):
    pixels = bytes([0x01, 0x23, 0x45, 0x67])  # 2 rows of 4
    short = {256: 4, 257: 2, 258: 4, 259: 1, 262: 1, 277: 1, 278: 2}  # width, height, bits, ...
    entries = [struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in short.items()]
    start = 8 + 2 + 12 * (len(entries) + 2) + 4
    entries.insert(5, struct.pack("<HHII", 273, 4, 1, start))
    entries.append(struct.pack("<HHII", 279, 4, 1, len(pixels)))
    header = b"II*\0" + struct.pack("<IH", 8, len(entries))
    (tmp_path / "g.tif").write_bytes(header + b"".join(entries) + struct.pack("<I", 0) + pixels)
    assert read_label_file(str(tmp_path / "g.tif")).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_may_be_stored_in_two_ways(tmp_path, form):
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    names = [unicodedata.normalize(form, "images/é.jpg"), unicodedata.normalize(other, "labels/é.png")]
    assert len(names[0]) != len(names[1])
    save_pair(tmp_path, *names)
    (item,) = read(tmp_path)
    assert [item.path, item.label_path] == [str(tmp_path / name) for name in names] and not read(tmp_path).missing()


def test_an_image_without_label_map_and_the_reverse(folders):
    (folders / "labels/b.png").rename(folders / "labels/c.png")
    with pytest.raises(ValueError, match=r"images/b\.jpg has no label map .*labels/b\.png; 1 of 2 images have none"):
        read(folders)
    (folders / "images/b.jpg").unlink()
    with pytest.raises(ValueError, match=r"labels/c\.png has no image c in .*images; 1 of 2 label maps have none"):
        read(folders)
    save_pair(folders, "images/c.png", "labels/c.png")
    save_pair(folders, "images/c.jpg", "labels/c.png")
    with pytest.raises(ValueError, match=r"images has both c\.\w+ and c\.\w+; remove one of them"):
        read(folders)


def test_wrong_arguments(folders, tmp_path):
    with pytest.raises(ValueError, match=r"how many classes are there\? Set class_names, or num_classes"):
        read(folders, num_classes=None)
    with pytest.raises(ValueError, match=r"num_classes is 4, but there are 3 class names"):
        read(folders, num_classes=4, class_names=NAMES)
    with pytest.raises(ValueError, match=r"is a folder of images; set labels to the folder of their label maps"):
        read_label_maps(folders / "images", num_classes=3)
    (tmp_path / "list.txt").write_text("a.jpg b.png c.png\n")
    with pytest.raises(ValueError, match=r"list\.txt:1: expected `image label_map`, separated by a tab or a blank"):
        read_label_maps(tmp_path / "list.txt", num_classes=3)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"has no images with label maps; training and validation need at least one"):
        read_label_maps(tmp_path / "empty", labels=tmp_path / "empty", num_classes=3)
