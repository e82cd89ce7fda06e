"""Files of MXNet 0.9 and 0.10, in which GloRe's image networks were released: `.params` and `-symbol.json`.

Authors' code: https://github.com/cypw/mxnet at commit 92053bd (src/ndarray/ndarray.cc writes the former, the nnvm
library the latter)

Done differently here: only NumPy and json are needed, not MXNet; a file is checked to its last byte.
"""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

MAGIC = 0x112
LATER_MAGICS = (0xF993FAC8, 0xF993FAC9)  # of each array, from MXNet 0.11 on
DTYPES = {0: np.float32, 1: np.float64, 2: np.float16, 3: np.uint8, 4: np.int32}
KINDS = ("arg:", "aux:")  # parameters, and statistics of batch norms
MAX_DIMS = 32


class MXNetFileError(ValueError):
    """A file is missing, broken or of the wrong kind; the message says which, where, and what to try."""


class _Reader:
    """Takes numbers and bytes from the front of a file, little-endian, and says where it ends too early."""

    def __init__(self, path: Path, data: bytes):
        self.path, self.data, self.offset = path, data, 0

    def take(self, size: int, what: str) -> bytes:
        if self.offset + size > len(self.data):
            raise MXNetFileError(
                f"{self.path}: cut short: {what} would end at byte {self.offset + size:,}, but the file has "
                f"{len(self.data):,}; copy or download it again"
            )
        self.offset += size
        return self.data[self.offset - size : self.offset]

    def numbers(self, layout: str, what: str) -> tuple[int, ...]:
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout), what))

    def count(self, what: str) -> int:
        """A count of items of at least 4 bytes each."""
        (number,) = self.numbers("Q", what)
        if number > len(self.data) // 4:
            raise MXNetFileError(f"{self.path}: broken: {what} is {number:,}, more than the file has room for")
        return number


def read_params(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays in a `.params` file by name, without the `arg:` or `aux:` before it.

    The layout, little-endian: uint64 0x112, uint64 0; uint64 n and n arrays, each as uint32 number of dimensions,
    uint32 dimensions, int32 device type, int32 device, int32 type, values; uint64 n and n names, each as uint64 length,
    bytes.

    Raises:
        MXNetFileError: the file is missing, cut short, longer than its content, or not of this layout.
    """
    path = Path(path)
    try:
        reader = _Reader(path, path.read_bytes())
    except OSError as error:
        raise MXNetFileError(f"{path}: {error.strerror}; expected a .params file of MXNet") from error
    if len(reader.data) < 8 or (magic := reader.numbers("Q", "the first number")[0]) != MAGIC:
        found = f"0x{magic:x}" if len(reader.data) >= 8 else f"{len(reader.data)} bytes"
        raise MXNetFileError(
            f"{path}: not a .params file of MXNet: it begins with {found}, not 0x{MAGIC:x}. If it is from the authors' "
            "archive, unpack the archive first"
        )
    reader.numbers("Q", "the second number")
    count = reader.count("the number of arrays")
    arrays = [_read_array(reader, f"array {i + 1} of {count}") for i in range(count)]
    names = [_read_name(reader, f"name {i + 1}") for i in range(reader.count("the number of names"))]
    if len(names) != count:
        raise MXNetFileError(f"{path}: broken: {count} arrays, but {len(names)} names")
    if reader.offset != len(reader.data):
        excess = len(reader.data) - reader.offset
        raise MXNetFileError(f"{path}: broken: {excess:,} bytes follow the last name; download it again")
    params: dict[str, np.ndarray] = {}
    for name, array in zip(names, arrays, strict=True):
        if not name.startswith(KINDS):
            raise MXNetFileError(f"{path}: {name!r} begins with neither arg: nor aux:; expected the file of a network")
        if name[4:] in params:
            raise MXNetFileError(f"{path}: broken: holds two arrays called {name[4:]}")
        params[name[4:]] = array
    return params


def _read_array(reader: _Reader, what: str) -> np.ndarray:
    (num_dims,) = reader.numbers("I", f"the number of dimensions of {what}")
    if num_dims in LATER_MAGICS:
        raise MXNetFileError(
            f"{reader.path}: written by MXNet 0.11 or later, which lays out arrays differently; this reads files of "
            "0.9 and 0.10, like the authors'"
        )
    if not 0 < num_dims <= MAX_DIMS:
        raise MXNetFileError(f"{reader.path}: broken: {what} has {num_dims} dimensions")
    shape = reader.numbers(f"{num_dims}I", f"the shape of {what}")
    *_, kind = reader.numbers("3i", f"the type of {what}")
    if kind not in DTYPES:
        known = ", ".join(f"{number} {dtype.__name__}" for number, dtype in DTYPES.items())
        raise MXNetFileError(f"{reader.path}: {what} is of type {kind}; known types are {known}")
    size = int(np.prod(shape, dtype=np.float64)) * np.dtype(DTYPES[kind]).itemsize
    values = reader.take(size, f"{what}, of shape {list(shape)},")
    return np.frombuffer(values, np.dtype(DTYPES[kind]).newbyteorder("<")).reshape(shape).astype(DTYPES[kind])


def _read_name(reader: _Reader, what: str) -> str:
    (length,) = reader.numbers("Q", f"the length of {what}")
    return reader.take(length, what).decode(errors="replace")


class Node(NamedTuple):
    """One operator of a network."""

    op: str
    """`Convolution`, `BatchNorm` and so on; `null`: a parameter or the input."""
    name: str
    attributes: Mapping[str, str]
    inputs: tuple[int, ...]
    """Indices of the nodes that it takes outputs of; all come before it."""

    def numbers(self, key: str, default: str) -> tuple[int, ...]:
        """An attribute such as `kernel`, "(3, 3)", as numbers."""
        text = self.attributes.get(key, default).strip("()[] ")
        return tuple(int(part.strip(" L")) for part in text.split(",") if part.strip())

    def number(self, key: str, default: str = "0") -> int:
        return self.numbers(key, default)[0]

    def flag(self, key: str, default: bool) -> bool:
        return self.attributes.get(key, str(default)) in ("True", "true", "1")


def read_symbol(path: str | Path) -> list[Node]:
    """The operators in a `-symbol.json` file, in an order in which they can be computed.

    Raises:
        MXNetFileError: the file is missing, not JSON, or not such a graph.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text())
        rows = content["nodes"]
        nodes = [
            Node(
                row["op"],
                row["name"],
                {**row.get("param", {}), **row.get("attr", {}), **row.get("attrs", {})},
                tuple(int(entry[0]) for entry in row["inputs"]),
            )
            for row in rows
        ]
    except OSError as error:
        raise MXNetFileError(f"{path}: {error.strerror}; expected the -symbol.json beside the .params") from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise MXNetFileError(f"{path}: not the -symbol.json of an MXNet network ({reason})") from error
    for number, node in enumerate(nodes):
        if any(source not in range(number) for source in node.inputs):
            raise MXNetFileError(f"{path}: broken: {node.name} takes the output of a node that does not come before it")
    return nodes
