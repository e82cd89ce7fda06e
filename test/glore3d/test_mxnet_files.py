"""Files of MXNet: what is written comes back, and every way in which one can be broken is said."""

import json
import struct

import numpy as np
import pytest
from mxnet_network import write_params

from glore3d.mxnet_files import MXNetFileError, read_params, read_symbol

ARRAYS = {
    "arg:conv_weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "arg:conv_bias": np.array([1.5, -2], np.float64),
    "aux:bn_moving_mean": np.array([[0.25]], np.float16),
    "arg:count": np.array([7, 8, 9], np.int32),
    "arg:bytes": np.array([255, 0], np.uint8),
}


@pytest.fixture
def path(tmp_path):
    return write_params(tmp_path / "net-0000.params", ARRAYS)


def test_arrays_come_back_without_their_prefix(path):
    params = read_params(path)
    assert list(params) == [name[4:] for name in ARRAYS]
    for name, array in ARRAYS.items():
        assert params[name[4:]].dtype == array.dtype and np.array_equal(params[name[4:]], array)
    params["count"] += 1  # they are the caller's own


def test_a_file_cut_anywhere_says_so(path):
    content = path.read_bytes()
    for size in range(8, len(content), 5):
        path.write_bytes(content[:size])
        with pytest.raises(MXNetFileError, match=r"net-0000\.params: cut short: .* but the file has"):
            read_params(path)
    path.write_bytes(content[:60])
    with pytest.raises(MXNetFileError, match=r"array 1 of 5, of shape \[2, 3, 2, 2\], would end at byte 152"):
        read_params(path)


def replaced(path, offset, layout, *values):
    content = bytearray(path.read_bytes())
    struct.pack_into(layout, content, offset, *values)
    path.write_bytes(content)
    return path


def test_what_is_no_such_file_is_named(path, tmp_path):
    with pytest.raises(MXNetFileError, match=r"none\.params: No such file or directory; expected a \.params file"):
        read_params(tmp_path / "none.params")
    (tmp_path / "net.tar").write_bytes(b"resnet50/\0\0\0\0\0\0\0")
    with pytest.raises(
        MXNetFileError, match=r"begins with 0x.*, not 0x112\. If it is from the authors' archive, unpack"
    ):
        read_params(tmp_path / "net.tar")
    (tmp_path / "empty.params").write_bytes(b"")
    with pytest.raises(MXNetFileError, match="begins with 0 bytes, not 0x112"):
        read_params(tmp_path / "empty.params")


@pytest.mark.parametrize(
    "offset, layout, value, message",
    [
        (16, "<Q", 2**40, "broken: the number of arrays is 1,099,511,627,776, more than the file has room for"),
        (24, "<I", 0, "broken: array 1 of 5 has 0 dimensions"),
        (24, "<I", 0xF993FAC9, r"written by MXNet 0\.11 or later"),
        (52, "<i", 6, "array 1 of 5 is of type 6; known types are 0 float32, 1 float64, 2 float16, 3 uint8, 4 int32"),
    ],
)
def test_wrong_numbers_are_named(path, offset, layout, value, message):
    with pytest.raises(MXNetFileError, match=message):
        read_params(replaced(path, offset, layout, value))


def test_bytes_after_the_end_are_counted(path):
    path.write_bytes(path.read_bytes() + b"123")
    with pytest.raises(MXNetFileError, match="broken: 3 bytes follow the last name"):
        read_params(path)


def test_names_must_be_a_networks(tmp_path):
    path = write_params(tmp_path / "net.params", {"weight": np.zeros(1, np.float32)})
    with pytest.raises(MXNetFileError, match="'weight' begins with neither arg: nor aux:"):
        read_params(path)
    path = write_params(path, {"arg:a": np.zeros(1, np.float32), "aux:a": np.zeros(1, np.float32)})
    with pytest.raises(MXNetFileError, match="broken: holds two arrays called a"):
        read_params(path)
    content = path.read_bytes()
    path.write_bytes(content[:-26] + struct.pack("<Q", 1) + content[-18:-13])
    with pytest.raises(MXNetFileError, match="cut short"):
        read_params(path)
    path.write_bytes(content[:-34] + struct.pack("<QQ", 1, 5) + b"arg:a")
    with pytest.raises(MXNetFileError, match="broken: 2 arrays, but 1 names"):
        read_params(path)


def symbol(path, nodes):
    path.write_text(json.dumps({"nodes": nodes}))
    return path


@pytest.mark.parametrize("key", ["attr", "attrs", "param"])
def test_operators_keep_their_attributes_under_any_of_their_keys(tmp_path, key):
    attributes = {"kernel": "(3, 3)", "stride": "(2L, 2L)", "num_filter": "8", "no_bias": "True", "pad": "[1,1]"}
    rows = [{"op": "null", "name": "data", "inputs": []}]
    rows += [{"op": "Convolution", "name": "conv", key: attributes, "inputs": [[0, 0, 0]]}]
    data, conv = read_symbol(symbol(tmp_path / "net-symbol.json", rows))
    assert data.op == "null" and conv.inputs == (0,)
    assert conv.numbers("kernel", "") == (3, 3) and conv.number("stride") == 2 and conv.number("num_filter") == 8
    assert conv.numbers("pad", "") == (1, 1) and conv.flag("no_bias", False) and conv.flag("absent", True)


def test_broken_symbols_are_named(tmp_path):
    path = tmp_path / "net-symbol.json"
    with pytest.raises(MXNetFileError, match=r"No such file or directory; expected the -symbol\.json beside the"):
        read_symbol(path)
    for text in ("{", "[]", '{"nodes": [{"op": "null"}]}', '{"nodes": [1]}', '{"arg_nodes": []}'):
        path.write_text(text)
        with pytest.raises(MXNetFileError, match=r"not the -symbol\.json of an MXNet network \("):
            read_symbol(path)
    rows = [{"op": "null", "name": "data", "inputs": []}, {"op": "Activation", "name": "relu", "inputs": [[1, 0]]}]
    with pytest.raises(MXNetFileError, match="relu takes the output of a node that does not come before it"):
        read_symbol(symbol(path, rows))
