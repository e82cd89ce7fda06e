"""The synthetic images: their class is the shape, and lists and folders describe the same data set."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from datasets.images import read_images
from datasets.synthetic import image_shapes
from datasets.synthetic.drawing import SHAPES
from datasets.synthetic.image_shapes import draw_image, make_image_shapes

SMALL = {"num_train": 13, "num_val": 8, "seed": 1, "size": 36}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_image_shapes(tmp_path_factory.mktemp("demo") / "image_shapes", **SMALL)


def test_an_image_is_a_function_of_shape_and_random_state():
    picture = draw_image("star", np.random.default_rng(1), (40, 52))
    assert (picture.shape, picture.dtype) == ((40, 52, 3), np.uint8)
    assert np.array_equal(picture, draw_image("star", np.random.default_rng(1), (40, 52)))
    assert not np.array_equal(picture, draw_image("star", np.random.default_rng(2), (40, 52)))


def test_pictures_of_two_shapes_differ_in_the_shape_alone():
    disc, ring, cross = (draw_image(kind, np.random.default_rng(5)).astype(int) for kind in ("disc", "ring", "cross"))
    in_disc = (disc != ring).any(2)
    assert 0 < in_disc.mean() < 0.2  # the hole of the ring
    outside = (disc == cross).all(2)
    assert outside.mean() > 0.5 and not np.array_equal(disc, cross)


def test_lists_and_folders_agree(folder):
    names = tuple(SHAPES)
    for split, number in (("train", 13), ("val", 8)):
        listed = read_images(folder / f"{split}.txt", class_names=names)
        sub_folders = read_images(folder / split, class_names=names)
        assert len(listed) == number and not listed.missing()
        assert {(image.path, image.label) for image in listed} == {(i.path, i.label) for i in sub_folders}
        counts = Counter(listed.labels.tolist())
        assert len(counts) == len(SHAPES) and max(counts.values()) - min(counts.values()) == 1
    assert (folder / "mapping_table.txt").read_text().split("\n")[0] == "0\tdisc"


def test_every_picture_decodes(folder):
    paths = [path for path in folder.glob("*/*/*") if path.suffix in image_shapes.FORMATS]
    assert len(paths) == 21 and {path.suffix for path in paths} == {".jpg", ".png"}
    sizes = set()
    for path in paths:
        with Image.open(path) as image:
            assert np.asarray(image).std() > 5 and image.mode == "RGB"
            sizes.add(image.size)
    assert sizes == {(36, 36), (36, 48), (48, 36)}


def test_a_complete_set_is_reused_and_other_arguments_are_refused(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(image_shapes, "_make_split", None)
    assert make_image_shapes(folder, **SMALL) == folder
    with pytest.raises(FileExistsError, match=r"was made with .*'seed': 1.*, not with .*'seed': 2"):
        make_image_shapes(folder, **{**SMALL, "seed": 2})


def test_the_same_arguments_make_the_same_pictures(folder, tmp_path):
    again = make_image_shapes(tmp_path / "again", **SMALL)
    paths = [path.relative_to(folder) for path in folder.rglob("*.png")]
    assert paths and all((folder / path).read_bytes() == (again / path).read_bytes() for path in paths)


def test_masks_are_where_the_shapes_are(folder, monkeypatch):
    arguments = (SMALL["seed"], "val", SMALL["size"])
    monkeypatch.setattr(image_shapes, "draw_shape", lambda *_: None)
    for index, item in enumerate(read_images(folder / "val.txt", class_names=tuple(SHAPES))):
        mask = image_shapes.mask_of_image(folder, "val", index)
        rng, _, size = image_shapes._draw_file(*arguments[:2], index, arguments[2])
        background = draw_image(list(SHAPES)[item.label], rng, size).astype(int)
        picture = np.asarray(Image.open(item.path)).astype(int)
        assert mask.shape == picture.shape[:2] and 0.03 < mask.mean() < 0.6
        changed = np.abs(picture - background).max(2)
        assert changed[mask == 0].mean() < 12 < changed[mask == 1].min(initial=255) + 12  # JPEG changes all a little
        assert changed[mask == 1].mean() > 60


def test_other_folders_have_no_masks(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no synthetic set: it has no complete.json"):
        image_shapes.mask_of_image(tmp_path, "val", 0)
