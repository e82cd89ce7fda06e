"""One process at a time trains in a run directory."""

import errno
import fcntl
import logging
import os
import socket
import time
from pathlib import Path
from typing import BinaryIO

from settings import SettingsError

log = logging.getLogger(__name__)

NAME = ".lock"
SECONDS_TO_END = 10.0
"""How long a process of this run that was just killed may take to exit."""
NOT_SUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


def lock_run(folder: Path, seconds: float = SECONDS_TO_END) -> BinaryIO:
    """The open lock of a run directory. Whatever ends the process releases it, and so does closing the file.

    This is a POSIX lock: child processes do not inherit it, and network file systems support it. Logs a warning where
    locks are not supported.

    Raises SettingsError if another process holds the lock for `seconds`.
    """
    file = open(folder / NAME, "a+b")  # noqa: SIM115 - open as long as it is locked
    patience = time.monotonic() + seconds
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError as error:
            if error.errno in NOT_SUPPORTED:
                log.warning("%s: locks do not work here; do not start a second command in this folder", folder)
                return file
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
        if time.monotonic() > patience:
            file.seek(0)
            holder = file.read(200).decode(errors="replace").strip() or "another process"
            file.close()
            raise SettingsError(f"{folder} is in use by {holder}; wait until it ends, or choose another run.dir")
        time.sleep(0.2)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    file.flush()
    return file
