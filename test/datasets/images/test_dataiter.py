"""Images of every mode become RGB, and broken ones raise one error."""

import numpy as np
import pytest
from PIL import Image

from datasets.images.dataiter import ImageError, read_image
from datasets.synthetic.image_shapes import draw_image


@pytest.fixture(scope="module")
def image():
    return Image.fromarray(draw_image("ring", np.random.default_rng(1), (40, 52)))


@pytest.mark.parametrize(
    ("mode", "suffix"), [("RGB", "png"), ("CMYK", "jpg"), ("L", "jpg"), ("P", "png"), ("RGBA", "png"), ("I;16", "png")]
)
def test_any_colors_become_rgb(image, tmp_path, mode, suffix):
    path = str(tmp_path / f"image.{suffix}")
    image.convert("L" if mode == "I;16" else mode).convert(mode).save(path)
    found = read_image(path)
    assert (found.mode, found.size) == ("RGB", (52, 40))
    if mode in ("RGB", "RGBA"):
        assert np.array_equal(found, image)


def test_broken_files_say_why(image, tmp_path):
    path = tmp_path / "image.jpg"
    image.save(path, quality=90)
    whole = path.read_bytes()
    for content, reason in (
        (whole[:300], "(?i)truncated"),
        (b"", "cannot identify image file"),
        (b"text", "cannot identify"),
    ):
        path.write_bytes(content)
        with pytest.raises(ImageError, match=reason) as error:
            read_image(str(path))
        assert error.value.path == str(path)
    with pytest.raises(ImageError, match=r"gone\.jpg: No such file"):
        read_image(str(tmp_path / "gone.jpg"))
    with pytest.raises(ImageError, match="Is a directory"):
        read_image(str(tmp_path))
