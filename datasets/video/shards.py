"""Finds videos inside tar files: `shard.tar#folder/clip.mp4` is a member of `shard.tar`, read where it lies.

A slow network disk serves few large files faster than many small ones. The tar file must not be compressed.
"""

import os
import tarfile
from functools import lru_cache

from datasets.file_list import FileError


def split_member(path: str) -> tuple[str, str] | None:
    """`shard.tar#member` -> (shard.tar, member); None for any other path, or if a file with this whole name exists."""
    shard, mark, member = str(path).partition(".tar#")
    return (f"{shard}.tar", member) if mark and not os.path.exists(path) else None


def find_member(shard: str, member: str) -> tuple[int, int]:
    """A member's first byte and the one after its last. Raises FileError if there is no such shard or member."""
    try:
        status = os.stat(shard)
        ranges = _read_ranges(shard, status.st_size, status.st_mtime_ns)
    except (OSError, tarfile.TarError) as error:
        raise FileError(f"{shard}#{member}", getattr(error, "strerror", None) or f"not a tar file: {error}") from error
    if member not in ranges:
        raise FileError(f"{shard}#{member}", f"the tar file has no such member; it has {len(ranges)} files")
    return ranges[member]


@lru_cache(maxsize=64)
def _read_ranges(shard: str, size: int, time: int) -> dict[str, tuple[int, int]]:
    """The bytes of each member. `size` and `time` are part of the cache's key: a changed file is read again."""
    with tarfile.open(shard, "r:") as tar:
        return {m.name.removeprefix("./"): (m.offset_data, m.offset_data + m.size) for m in tar if m.isreg()}
