"""What happens to video files on large disks, done to one on purpose."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

NOBODY = 65534  # the user who may read nothing


def cut(path: Path, tenths: int) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * tenths // 10])


def flip_bits(path: Path, seed: int, count: int = 20) -> None:
    """So many bits anywhere."""
    rng, content = np.random.default_rng(seed), np.frombuffer(path.read_bytes(), np.uint8).copy()
    content[rng.integers(len(content), size=count)] ^= (1 << rng.integers(8, size=count)).astype(np.uint8)
    path.write_bytes(content.tobytes())


def copies_with_a_flipped_bit(path: Path, count: int) -> Iterator[Path]:
    """Copies of a file beside it, each with one bit that is not its own: `0-facts.txt.gz`, ..."""
    for number in range(count):
        copy = Path(shutil.copy(path, path.with_name(f"{number}-{path.name}")))
        flip_bits(copy, number, 1)
        yield copy


def zero(path: Path) -> None:
    """As many bytes as before, all of them zero: a copy that was begun."""
    path.write_bytes(bytes(path.stat().st_size))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


FAULTS: dict[str, Callable[[Path], None]] = {
    **{f"cut at {10 * tenths} %": partial(cut, tenths=tenths) for tenths in range(1, 10)},
    **{f"flipped bits {seed}": partial(flip_bits, seed=seed) for seed in range(3)},
    "zeros": zero,
    "empty": empty,
    "folder": make_folder,
    "pipe": make_pipe,
    "gone": Path.unlink,
    "forbidden": partial(Path.chmod, mode=0),
}
UNREADABLE = ("zeros", "empty", "folder", "pipe", "gone", "forbidden")


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Inside, files are opened as by a user without rights, also where root runs the tests."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
