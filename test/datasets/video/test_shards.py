"""Members of tar files are found as an extraction would leave them, or it is said why not."""

import bz2
import gzip
import io
import lzma
import subprocess
import tarfile

import pytest

from datasets.file_list import FileError
from datasets.video.shards import find_member, split_member


def write_tar(path, *members, format=tarfile.PAX_FORMAT):
    """`members`: (name, bytes), or (name, type of link, target)."""
    with tarfile.open(path, "w", format=format) as tar:
        for name, *rest in members:
            info = tarfile.TarInfo(name)
            if len(rest) == 1:
                info.size = len(rest[0])
                tar.addfile(info, io.BytesIO(rest[0]))
            else:
                info.type, info.linkname = rest
                tar.addfile(info)
    return path


def read(path, member):
    start, end = find_member(str(path), member)
    return path.read_bytes()[start:end]


@pytest.fixture
def shard(tmp_path):
    hard, soft = tarfile.LNKTYPE, tarfile.SYMTYPE
    return write_tar(
        tmp_path / "a.tar",
        ("x.mp4", b"old"),
        ("hard.mp4", hard, "./x.mp4"),
        ("d/soft.mp4", soft, "../x.mp4"),
        ("x.mp4", b"new!"),
        ("chain.mp4", soft, "d/soft.mp4"),
        ("folder", soft, "d"),
        ("./odd//name.mp4", b"odd"),
        ("caf\udce9.mp4", b"latin"),
        ("loop.mp4", soft, "loop.mp4"),
        ("outside.mp4", soft, "/etc/passwd"),
        ("early.mp4", hard, "later.mp4"),
        ("later.mp4", b"later"),
        ("empty.mp4", b""),
        ("was_a_file.mp4", b"file"),
        ("was_a_file.mp4", soft, "x.mp4"),
    )


@pytest.mark.parametrize(
    ("member", "content"),
    [
        ("x.mp4", b"new!"),
        ("./x.mp4", b"new!"),
        ("hard.mp4", b"old"),
        ("d/soft.mp4", b"new!"),
        ("chain.mp4", b"new!"),
        ("folder/soft.mp4", b"new!"),
        ("odd/name.mp4", b"odd"),
        ("caf\udce9.mp4", b"latin"),
        ("was_a_file.mp4", b"new!"),
    ],
)
def test_members_and_links(shard, member, content):
    assert read(shard, member) == content


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("gone.mp4", "the tar file has no such member; it has 6 files"),
        ("loop.mp4", "the tar file has no such member"),
        ("outside.mp4", "the tar file has no such member as 'etc/passwd', to which it leads"),
        ("early.mp4", "is a link to 'later.mp4', which is not in the tar file before it"),
        ("empty.mp4", r"is empty \(0 bytes\)"),
        ("d", "the tar file has no such member"),
    ],
)
def test_members_that_cannot_be_read(shard, member, message):
    with pytest.raises(FileError, match=f"a.tar#{member}: {message}"):
        find_member(str(shard), member)


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names(tmp_path, format):
    name = "/".join(["f" * 40] * (2 if format == tarfile.USTAR_FORMAT else 8)) + "/\u00e9.mp4"
    path = write_tar(tmp_path / "a.tar", (name, b"long"), ("link", tarfile.LNKTYPE, name), format=format)
    assert read(path, name) == read(path, "link") == b"long"


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("name", ["b.tar", "b.tar.gz", "b.tgz"])
def test_compressed_tar_files_are_named_as_such(shard, compress, name):
    path = shard.with_name(name)
    path.write_bytes(compress(shard.read_bytes()))
    assert split_member(f"{path}#x.mp4") == (str(path), "x.mp4")
    with pytest.raises(FileError, match=r"x\.mp4: the tar file is compressed \((gzip|bzip2|xz)\)"):
        find_member(str(path), "x.mp4")


@pytest.mark.parametrize("format", ["gnu", "posix"])
def test_sparse_members(tmp_path, format):
    with open(tmp_path / "a.mp4", "wb") as file:
        file.truncate(1 << 20)
        file.seek(0, 2)
        file.write(b"end")
    done = subprocess.run(
        ["tar", "--sparse", f"--format={format}", "-cf", "a.tar", "a.mp4"], cwd=tmp_path, capture_output=True
    )
    if done.returncode or (tmp_path / "a.tar").stat().st_size > 1 << 20:
        pytest.skip("this tar program or disk makes no sparse members")
    with pytest.raises(FileError, match=r"a\.mp4: is a sparse member"):
        find_member(str(tmp_path / "a.tar"), "a.mp4")


def test_damaged_tar_files(tmp_path):
    path = write_tar(tmp_path / "a.tar", ("x", b"x" * 5000), ("y", b"y" * 5000))
    content = path.read_bytes()
    for kept, message in (
        (content[:700], "not a tar file|cut short"),
        (b"text" * 500, "not a tar file"),
        (b"", "empty"),
    ):
        path.write_bytes(kept)
        with pytest.raises(FileError, match=message):
            find_member(str(path), "x")
    with pytest.raises(FileError, match="null"):
        find_member("a\0.tar", "x")
