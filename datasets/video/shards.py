"""Videos inside of tar files: `shard.tar#folder/clip.mp4` is a member of `shard.tar`, read in its place.

A slow network disk gives few large files faster than many small ones. The tar must not be compressed.
"""

import os
import tarfile
from functools import lru_cache

from datasets.file_list import FileError


def split_member(path: str) -> tuple[str, str] | None:
    """`shard.tar#member` -> (shard.tar, member); None for any other path, or if there is a file of this whole name."""
    shard, mark, member = str(path).partition(".tar#")
    return (f"{shard}.tar", member) if mark and not os.path.exists(path) else None


def find_member(shard: str, member: str) -> tuple[int, int]:
    """The first byte of a member and the one after its last. Raises FileError if there is no such shard or member."""
    try:
        status = os.stat(shard)
        places = _read_places(shard, status.st_size, status.st_mtime_ns)
    except (OSError, tarfile.TarError) as error:
        raise FileError(f"{shard}#{member}", getattr(error, "strerror", None) or f"no tar file: {error}") from error
    if member not in places:
        raise FileError(f"{shard}#{member}", f"the tar file has no such member; it has {len(places)} files")
    return places[member]


@lru_cache(maxsize=64)
def _read_places(shard: str, size: int, time: int) -> dict[str, tuple[int, int]]:
    """Where each member lies. A changed file, of another size or time, is read anew."""
    with tarfile.open(shard, "r:") as tar:
        return {m.name.removeprefix("./"): (m.offset_data, m.offset_data + m.size) for m in tar if m.isreg()}
