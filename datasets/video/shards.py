"""Finds videos inside tar files: `shard.tar#folder/clip.mp4` is a member of `shard.tar`, read in place.

A slow network disk serves few large files faster than many small ones. Members are found as extraction would leave
them: of two with the same name the later one counts, and links lead to the member that they name. Tar files of any
format (ustar, GNU, PAX) are read, but must not be compressed.
"""

import os
import posixpath
import re
import tarfile
from functools import lru_cache
from typing import NamedTuple

from datasets.file_list import FileError
from datasets.find_files import why_unopened

COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK": "zip"}
_MEMBER = re.compile(r"(.*?\.(?:tar(?:\.(?:gz|bz2|xz|zst|lz4))?|tgz|tbz2?|txz|tzst))#(.+)", re.IGNORECASE | re.DOTALL)
MAX_LINKS = 40  # as many as Linux follows


class _Contents(NamedTuple):
    """The members of a tar file (first byte and the one after the last) and its links."""

    ranges: dict[str, tuple[int, int]]
    links: dict[str, str]  # name -> the name that a symbolic link leads to
    unfit: dict[str, str]  # name -> why it cannot be read in place


def split_member(path: str) -> tuple[str, str] | None:
    """`shard.tar#member` -> (shard.tar, member); None for any other path, or if a file with this whole name exists.

    Compressed tar files are split, too; `find_member` reports what is wrong with them.
    """
    match = _MEMBER.fullmatch(str(path))
    return (match[1], match[2]) if match and not os.path.exists(path) else None


def find_member(shard: str, member: str) -> tuple[int, int]:
    """A member's first byte and the one after its last. Raises FileError if it cannot be read there."""
    path = f"{shard}#{member}"
    try:
        status = os.stat(shard)
    except (OSError, ValueError) as error:  # a NUL character is a ValueError
        raise FileError(path, why_unopened(shard, error)) from error
    try:
        contents = _read_contents(shard, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise FileError(path, error.strerror or str(error)) from error
    except Exception as error:  # a damaged tar file may raise anything
        raise FileError(path, _why_unreadable(shard) or f"not a tar file: {error}") from error
    name = _follow(_plain(member), contents.links)
    if name in contents.unfit:
        raise FileError(path, contents.unfit[name])
    if name not in contents.ranges:
        led = "" if name == _plain(member) else f" as {name!r}, to which it leads"
        raise FileError(path, f"the tar file has no such member{led}; it has {len(contents.ranges)} files")
    start, end = contents.ranges[name]
    if end > status.st_size:
        raise FileError(path, "the tar file is cut short before the member ends")
    if start == end:
        raise FileError(path, "is empty (0 bytes)")
    return start, end


@lru_cache(maxsize=64)
def _read_contents(shard: str, size: int, time: int) -> _Contents:
    """The members of a tar file. `size` and `time` are part of the cache's key: a changed file is read again."""
    contents = _Contents({}, {}, {})
    with tarfile.open(shard, "r:", encoding="utf-8", errors="surrogateescape") as tar:
        for member in tar:
            name = _plain(member.name)
            for table in contents:
                table.pop(name, None)  # a later member replaces an earlier one
            if member.issparse():
                contents.unfit[name] = "is a sparse member, which is not in one piece; pack it without --sparse"
            elif member.isreg():
                contents.ranges[name] = (member.offset_data, member.offset_data + member.size)
            elif member.issym():
                contents.links[name] = member.linkname
            elif member.islnk():
                _link(contents, name, _plain(member.linkname))
    return contents


def _link(contents: _Contents, name: str, other: str) -> None:
    """A hard link: `name` is what `other` is at this point in the tar file."""
    for table in contents:
        if other in table:
            table[name] = table[other]
            return
    contents.unfit[name] = f"is a link to {other!r}, which is not in the tar file before it"


def _follow(name: str, links: dict[str, str]) -> str:
    """The member that a name leads to through symbolic links, its own or those of its folders."""
    for _ in range(MAX_LINKS):
        parts = name.split("/")
        prefixes = ("/".join(parts[:count]) for count in range(1, len(parts) + 1))
        link = next((prefix for prefix in prefixes if prefix in links), None)
        if link is None:
            return name
        name = _plain(posixpath.join(posixpath.dirname(link), links[link]) + name[len(link) :])
    return name


def _plain(name: str) -> str:
    """A member's name without `./` and the like."""
    return posixpath.normpath(name).lstrip("/")


def _why_unreadable(shard: str) -> str | None:
    """Whether a tar file is compressed, in words; None if it is not."""
    with open(shard, "rb") as file:
        start = file.read(6)
    found = next((name for mark, name in COMPRESSIONS.items() if start.startswith(mark)), None)
    return found and f"the tar file is compressed ({found}), so its members cannot be read where they lie; unpack it"
