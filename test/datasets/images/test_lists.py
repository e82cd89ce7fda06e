"""Lists of images in ImageNet's layouts and in ours."""

import json

import pytest
from PIL import Image, features

from datasets.images import find_images, read_images
from datasets.images.dataiter import read_image
from datasets.images.lists import IMAGES


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def rows(files):
    return [(item.label, item.path) for item in files]


def test_folders_of_classes(tmp_path):
    touch(tmp_path, "n02/b.JPEG", "n01/a.jpg", "n01/deep/c.PNG", "n01/notes.txt", ".git/x.png")
    files = read_images(tmp_path)
    assert rows(files) == [
        (0, f"{tmp_path}/n01/a.jpg"),
        (0, f"{tmp_path}/n01/deep/c.PNG"),
        (1, f"{tmp_path}/n02/b.JPEG"),
    ]
    assert files.class_names == ("n01", "n02")
    with pytest.raises(ValueError, match=r"subfolder 'n02' is not one of the 1 class names; did you mean 'n01'\?"):
        read_images(tmp_path, class_names=["n01"])


def test_flat_validation_images_with_kaggles_table(tmp_path):
    """The authors' layout, ILSVRC/Data/CLS-LOC/{train,val}, as Kaggle's archive unpacks."""
    data = touch(tmp_path / "ILSVRC/Data/CLS-LOC", "train/n01/a.JPEG", "train/n02/b.JPEG", "val/1.JPEG", "val/2.JPEG")
    with pytest.raises(ValueError, match=r"val has no subfolders, one for each class.*LOC_val_solution\.csv into it"):
        read_images(data / "val")
    table = tmp_path / "LOC_val_solution.csv"
    table.write_text("ImageId,PredictionString\n1,n02 3 4 5 6 \n2,n01 1 2 3 4 n01 5 6 7 8 \n")
    assert rows(read_images(data / "val")) == [(1, f"{data}/val/1.JPEG"), (0, f"{data}/val/2.JPEG")]
    assert rows(read_images(data / "val", class_names=["n02", "n01"]))[0] == (0, f"{data}/val/1.JPEG")
    table.write_text("ImageId,PredictionString\n1,n03 3 4 5 6 \n")
    with pytest.raises(ValueError, match=r"LOC_val_solution\.csv: 1: class 'n03' is not one of the 2 class names"):
        read_images(data / "val")


def test_the_list_of_imagenet_22k(tmp_path):
    path = tmp_path / "ILSVRC2011fall_whole_map_train.txt"
    path.write_text(json.dumps([["n00004475/n00004475_32.JPEG", 0, "n00004475"], ["n02/x.JPEG", 21840]]))
    files = read_images(path)
    assert rows(files) == [(0, f"{tmp_path}/n00004475/n00004475_32.JPEG"), (21840, f"{tmp_path}/n02/x.JPEG")]
    assert files.num_classes == 21841
    for text in ("[[1]]", "[oops", "[]", '[["a", 1.5]]', '[["a", true]]', '[["a", NaN]]', "[3]"):
        path.write_text(text)
        with pytest.raises(
            ValueError, match=r"expected JSON of the form \[\[path, label|is not valid JSON|lists no images"
        ):
            read_images(path)


@pytest.mark.parametrize("suffix", IMAGES.suffixes)
def test_files_with_a_listed_suffix_are_images(tmp_path, suffix):
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    picture = Image.new("RGB", (16, 16), (200, 100, 50))
    picture.save(tmp_path / f"a{suffix}") if suffix != ".pbm" else picture.convert("1").save(tmp_path / "a.pbm")
    (item,) = find_images([tmp_path])
    assert read_image(item.path).size == (16, 16)


def test_what_is_no_folder_of_a_class(tmp_path):
    touch(tmp_path, "n02/b.jfif", "n01/a.JPE", "__MACOSX/n01/._a.JPE", "@eaDir/a.jpg", ".x/a.jpg", "n01/Thumbs.db")
    assert read_images(tmp_path).class_names == ("n01", "n02")
    data = touch(tmp_path / "imagenet", "train/n01/a.JPEG", "train/.x/a.JPEG", "val/1.JPEG", "val/@eaDir/1.JPEG")
    (data / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n1,n01 3 4 5 6 \n")
    assert read_images(data / "val").class_names == ("n01",)
    (data / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n1,\n")
    with pytest.raises(ValueError, match=r"LOC_val_solution\.csv:2: expected `image,class box"):
        read_images(data / "val")


def test_our_own_lists(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("a 1 images/a b.jpg\nb\t0\timages/b.png\n")
    assert rows(read_images(path, tmp_path)) == [(1, f"{tmp_path}/images/a b.jpg"), (0, f"{tmp_path}/images/b.png")]
    with pytest.raises(FileNotFoundError, match=r"no list of images at .*; did you mean 'train\.txt'\?"):
        read_images(tmp_path / "trian.txt")


def test_images_without_labels(tmp_path):
    touch(tmp_path, "b/2.webp", "a.jpg", "c.txt")
    assert rows(find_images([tmp_path])) == [(-1, f"{tmp_path}/a.jpg"), (-1, f"{tmp_path}/b/2.webp")]
    with pytest.raises(ValueError, match="no images in it; expected files that end in"):
        find_images([touch(tmp_path / "empty", "x.txt")])
