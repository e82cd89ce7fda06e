"""Checkpoints are written atomically, and damaged files are reported."""

import errno
import logging
import os
import threading
import time

import pytest
import safetensors.torch
import torch

from engine.checkpoint import (
    CheckpointError,
    CheckpointFolder,
    CopyOnCpu,
    cannot_write,
    read_checkpoint,
    write_atomically,
    write_checkpoint,
)


@pytest.fixture
def folder(tmp_path):
    return CheckpointFolder(tmp_path / "checkpoints")


def state(step):
    return {"model": {"weight": torch.full((1000,), float(step))}, "progress": {"step": step, "window": {}}}


def test_the_two_newest_checkpoints_are_kept(folder):
    assert folder.read_newest() is None
    for step in (1, 2, 3):
        folder.write(step, state(step))
    assert read_checkpoint(folder.last)["progress"]["step"] == 3
    assert read_checkpoint(folder.previous)["progress"]["step"] == 2
    assert sorted(path.name for path in folder.last.parent.iterdir()) == ["last.pt", "previous.pt"]


@pytest.mark.parametrize("size", [0, 100, 3000])
def test_a_damaged_checkpoint_is_reported_and_the_previous_one_is_used(folder, size, caplog):
    for step in (1, 2):
        folder.write(step, state(step))
    folder.last.write_bytes(folder.last.read_bytes()[:size])
    with caplog.at_level(logging.WARNING):
        assert folder.read_newest()["progress"]["step"] == 1
    assert "last.pt is damaged" in caplog.text
    folder.previous.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"last\.pt is damaged.*no older checkpoint is left"):
        folder.read_newest()


def test_a_kill_between_the_renames_loses_nothing(folder):
    folder.write(1, state(1))
    folder.last.rename(folder.last.with_name("next.pt"))  # written, but not renamed yet
    assert folder.read_newest()["progress"]["step"] == 1


def test_temporary_files_of_a_killed_write_are_removed(folder):
    folder.write(1, state(1))
    leftover = folder.last.with_name(".next.pt.1.partial")
    leftover.write_bytes(b"half")
    assert folder.read_newest()["progress"]["step"] == 1
    folder.write(2, state(2))
    assert not leftover.exists()


def test_a_full_disk_raises_a_clear_error_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "last.pt"
    path.write_text("old")

    def write(temporary):
        temporary.write_text("ne")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(CheckpointError, match=r"cannot write .*last\.pt: No space left on device.*are untouched"):
        write_atomically(path, write)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.needs("proc")
def test_a_full_disk_is_named_as_such_whatever_library_writes(tmp_path, folder):
    """torch itself says `enforce fail at inline_container.cc`."""
    (tmp_path / f".last.pt.{os.getpid()}.partial").symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match=r"cannot write .*: No space left on device\. Earlier .* free some space"):
        write_checkpoint(tmp_path / "last.pt", state(1))
    assert os.listdir(tmp_path) == []
    rust = safetensors.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert "best.safetensors: No space left on device. Earlier" in str(cannot_write(folder.best, rust))


def test_a_folder_that_is_not_writable_is_no_full_disk(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"Not a directory\. .* make .*/file/below writable and run"):
        CheckpointFolder(tmp_path / "file/below").write(1, state(1))


def test_code_in_a_checkpoint_is_not_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return (exec, ("raise SystemExit('ran')",))

    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        read_checkpoint(tmp_path / "evil.pt")


def test_best_weights_are_saved_with_metadata(folder):
    model = torch.nn.Conv3d(2, 2, 3).to(memory_format=torch.channels_last_3d)
    folder.write_best(model.state_dict(), {"step": "7"})
    (plain := folder.best.with_name("plain")).touch()
    assert folder.best.stat().st_mode == plain.stat().st_mode  # others may read it, as any file
    assert torch.equal(safetensors.torch.load_file(folder.best)["weight"], model.weight)
    with safetensors.safe_open(folder.best, "pt") as file:
        assert file.metadata() == {"step": "7"}


def test_older_checkpoints_are_kept_on_request(tmp_path):
    folder = CheckpointFolder(tmp_path, num_kept=3, keep_every_steps=4)
    for step in range(1, 10):
        folder.write(step, state(step))
    names = sorted(path.name for path in tmp_path.iterdir())
    numbered = [f"step-0000000{step}.pt" for step in (4, 7, 8, 9)]  # the three newest and the multiples of four
    assert names == ["last.pt", "previous.pt", *numbered]
    for path in (folder.last, folder.previous):  # truncates steps 9 and 8, too: hard links
        path.write_bytes(b"")
    assert folder.read_newest()["progress"]["step"] == 7
    alone = CheckpointFolder(tmp_path / "alone", num_kept=1)
    for step in (1, 2):
        alone.write(step, state(step))
    assert [path.name for path in (tmp_path / "alone").iterdir()] == ["last.pt"]


def test_a_background_write_saves_the_state_at_the_time_of_the_call(folder, monkeypatch):
    """Updates that happen while the thread writes do not reach the file."""
    may_write, write = threading.Event(), folder.write
    monkeypatch.setattr(folder, "write", lambda *arguments: may_write.wait(10) and write(*arguments))
    changing = state(1)
    folder.start_writing(1, changing)
    folder.wait_for_copy()
    changing["model"]["weight"] += 1
    changing["progress"]["step"] = 2
    folder.check()  # still being written
    assert not folder.last.exists()
    may_write.set()
    folder.wait()
    saved = read_checkpoint(folder.last)
    assert saved["progress"]["step"] == 1 and (saved["model"]["weight"] == 1).all()


def test_wait_for_copy_blocks_until_the_state_is_copied(folder, monkeypatch):
    may_copy, copy = threading.Event(), CopyOnCpu.start
    monkeypatch.setattr(CopyOnCpu, "start", lambda *arguments: may_copy.wait(10) and copy(*arguments))
    folder.wait_for_copy()  # nothing is being copied
    folder.start_writing(1, state(1))
    waiting = threading.Thread(target=folder.wait_for_copy)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    may_copy.set()
    waiting.join(10)
    assert not waiting.is_alive()
    folder.wait()
    assert read_checkpoint(folder.last)["progress"]["step"] == 1


def test_check_raises_an_error_of_the_background_thread(folder):
    folder.last.parent.parent.joinpath("checkpoints").write_text("a file where the folder should be")
    folder.start_writing(1, state(1))
    with pytest.raises(CheckpointError, match="cannot write"):
        for _ in range(1000):
            folder.check()
            time.sleep(0.01)
    folder.check()  # raised only once
