"""Images of every depth, mode and orientation become upright 8-bit RGB, or a sentence says why not."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from datasets.image_file import MAX_SIDE, ImageError, read_image

RAMP = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)


def big_endian(values):
    return Image.frombytes("I;16B", values.shape[::-1], values.astype(">u2").tobytes())


@pytest.mark.parametrize(
    ("suffix", "make"),
    [*((suffix, Image.fromarray) for suffix in ("png", "tif", "jp2", "pgm")), ("png", big_endian), ("tif", big_endian)],
)
def test_sixteen_bits_keep_the_high_byte(suffix, make, tmp_path):
    make(RAMP).save(path := str(tmp_path / f"ramp.{suffix}"))
    assert np.array_equal(read_image(path), np.repeat((RAMP >> 8).astype(np.uint8)[..., None], 3, axis=2))


def test_sixteen_bits_of_gray_equal_sixteen_bits_of_color(tmp_path):
    rows = b"".join(b"\0" + np.repeat(row[:, None], 3, axis=1).astype(">u2").tobytes() for row in RAMP)
    write_png(tmp_path / "color.png", 64, 48, rows, bits=16, color=2)
    Image.fromarray(RAMP).save(tmp_path / "gray.png")
    assert np.array_equal(read_image(str(tmp_path / "color.png")), read_image(str(tmp_path / "gray.png")))


@pytest.mark.parametrize(("header", "white"), [(b"P5 2 1 1000\n", b"\x03\xe8"), (b"P2 2 1 1000\n0 1000", b"")])
def test_a_maximum_of_its_own_is_white(header, white, tmp_path):
    (tmp_path / "two.pgm").write_bytes(header + (b"\0\0" + white if white else b""))
    assert np.asarray(read_image(str(tmp_path / "two.pgm")))[0].tolist() == [[0] * 3, [255] * 3]


@pytest.mark.parametrize("suffix", ["tif", "pfm"])
def test_floats_go_from_0_to_1(suffix, tmp_path):
    values = np.array([[0, 0.25, 0.5, 1]], np.float32)
    Image.fromarray(values).save(path := str(tmp_path / f"float.{suffix}"))
    assert np.asarray(read_image(path))[0, :, 0].tolist() == [0, 64, 128, 255]
    for wrong, found in ((-0.5, "numbers from -0.5 to 1"), (255, "from 0 to 255"), (np.inf, "to inf"), (np.nan, "NaN")):
        values[0, 2] = wrong
        Image.fromarray(values).save(path)
        with pytest.raises(ImageError, match=rf"{found}; expected floats from 0 \(black\) to 1"):
            read_image(path)


def test_numbers_without_an_agreed_white_are_refused(tmp_path):
    path = str(tmp_path / "numbers.tif")
    wide, signed = RAMP.astype(np.int32), {339: 2}
    for values, tags, what in (
        (wide, {}, "signed numbers"),
        (RAMP, signed, "signed numbers"),
        ((RAMP >> 8).astype(np.uint8), signed, "signed numbers"),
        (wide, {}, "whole numbers of 32 bits"),
    ):
        Image.fromarray(values).save(path, tiffinfo=tags)
        if what != "signed numbers":
            clear_sign(path)
        with pytest.raises(ImageError, match=f"holds {what}, which have no agreed black and white; save it with 8 or"):
            read_image(path)


def clear_sign(path):
    """Makes the sample format of a TIFF unsigned; Pillow cannot write such a file with 32 bits."""
    entry = struct.pack("<HHI", 339, 3, 1)  # tag, type, count
    with open(path, "r+b") as file:
        content = file.read()
        assert content.count(entry + b"\2") == 1
        file.seek(0)
        file.write(content.replace(entry + b"\2", entry + b"\1"))


@pytest.mark.parametrize("values", [RAMP, (RAMP >> 8).astype(np.uint8), (RAMP / 65535).astype(np.float32)])
def test_in_a_tiff_white_may_be_0(values, tmp_path):
    Image.fromarray(values).save(path := str(tmp_path / "negative.tif"), tiffinfo={262: 0})
    Image.fromarray(values).save(plain := str(tmp_path / "plain.tif"))
    negative, plain = (np.asarray(read_image(name)).astype(int) for name in (path, plain))
    # Pillow itself turns 8 bits around when it writes them.
    assert np.array_equal(negative, plain if values.dtype == np.uint8 else 255 - plain)


def test_a_name_in_another_unicode_form(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "cafe\u0301.png")
    with pytest.raises(
        ImageError, match=r"No such file or directory; its name exists in another Unicode form \(NFC, NFD"
    ):
        read_image(str(tmp_path / "caf\u00e9.png"))


def test_transparency_is_dropped(tmp_path, recwarn):
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (9, 12, 3), dtype=np.uint8)).quantize(16)
    expected = np.asarray(image.convert("RGB"))
    for name, options in (("bytes.png", {"transparency": bytes(range(16))}), ("one.gif", {"transparency": 3})):
        image.save(tmp_path / name, **options)
        assert np.array_equal(read_image(str(tmp_path / name)), expected)
    assert not recwarn.list


@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg"])
def test_every_orientation_is_undone(suffix, tmp_path):
    shown = np.zeros((32, 48, 3), np.uint8)
    shown[:16, :16], shown[:16, 32:], shown[16:, :16] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    stored = {  # by EXIF's table: where row 0 and column 0 are shown
        1: shown,
        2: shown[:, ::-1],
        3: shown[::-1, ::-1],
        4: shown[::-1],
        5: shown.swapaxes(0, 1),
        6: np.rot90(shown),
        7: shown[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(shown, -1),
        0: shown,  # no orientation
    }
    for orientation, pixels in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = str(tmp_path / f"{orientation}.{suffix}")
        Image.fromarray(np.ascontiguousarray(pixels)).save(path, exif=exif, quality=95)
        found = np.asarray(read_image(path)).astype(int)
        assert found.shape == shown.shape and np.abs(found - shown).mean() < 5, orientation


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_spoils_no_image(tmp_path):
    Image.new("RGB", (4, 6), "red").save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff garbage")
    assert read_image(str(tmp_path / "a.jpg")).size == (4, 6)


def write_png(path, width, height, rows, bits=1, color=0):
    """A PNG of any claimed size, from filtered `rows`."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)), (b"IDAT", zlib.compress(rows)))
    content = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (*chunks, (b"IEND", b""))
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


@pytest.mark.parametrize("size", [(12_000, 12_000), (50_000, 50_000), (1, MAX_SIDE + 1)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_huge_images_are_refused_before_they_are_decoded(size, tmp_path):
    write_png(tmp_path / "bomb.png", *size, b"\0")
    with pytest.raises(ImageError, match=r"bomb\.png: has .* pixels; the limit is 100 million, 65,535 on a side"):
        read_image(str(tmp_path / "bomb.png"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="is not a regular file"):
        read_image(str(tmp_path / "pipe.png"))
