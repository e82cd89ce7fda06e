"""Keeps the memory that a network frees in the process, so that the next step can reuse it.

glibc returns large blocks to the kernel when they are freed and requests them again at the next layer, and each time
the kernel has to clear their pages. docs/speed.md gives the speedup of keeping them and the cost in peak memory.
"""

import ctypes
import os
import platform
import threading
import time

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -2, -3, -4  # malloc.h
MIB = 2**20
KEEPING = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: -1, M_TOP_PAD: 64 * MIB}
RETURNING = {M_MMAP_MAX: 65536, M_MMAP_THRESHOLD: 32 * MIB, M_TRIM_THRESHOLD: 64 * MIB, M_TOP_PAD: 0}
"""The values that glibc's own thresholds reach in a process with large blocks. It adapts them only until one is set."""
LOOK_SECONDS = 1.0
GROWTH, LOOKS = 8 * MIB, 60
"""Free memory is returned when the heap has grown this far beyond its previous maximum, and after this many looks.

The next training step requests all of it again, which costs up to half a second: negligible once a minute.
"""


class _HeapFacts(ctypes.Structure):
    """struct mallinfo2 of malloc.h. Only the first field is read: the bytes obtained from the kernel."""

    _fields_ = [("arena", ctypes.c_size_t), ("others", ctypes.c_size_t * 9)]


def allocator() -> str:
    """Which library allocates the memory of this process: jemalloc, tcmalloc, glibc, or "" where it is unknown."""
    process = ctypes.CDLL(None) if platform.system() == "Linux" else None
    for name, symbol in (("jemalloc", "mallctl"), ("tcmalloc", "MallocExtension_GetNumericProperty")):
        if hasattr(process, symbol):  # preloaded, so its malloc comes before glibc's
            return name
    return "glibc" if process is not None and platform.libc_ver()[0] == "glibc" else ""


def keep_freed_memory() -> bool:
    """Tells glibc to keep freed memory in this process -> whether it does. Other allocators keep theirs anyway.

    Live blocks fragment the free memory, so the heap of a long stream would grow for hours. A thread therefore returns
    free memory when the heap reaches a new maximum, and once a minute, which is rare compared with a network's steps.
    Forked processes, such as dataloader workers, do not have the thread and return memory as before.
    """
    if allocator() != "glibc" or not hasattr(ctypes.CDLL(None), "mallinfo2") or not _set(KEEPING):
        return False
    if not any(thread.name == _trim.__name__ for thread in threading.enumerate()):
        threading.Thread(target=_trim, name=_trim.__name__, daemon=True).start()
        os.register_at_fork(after_in_child=lambda: _set(RETURNING))
    return True


def _set(options: dict[int, int]) -> bool:
    return all([ctypes.CDLL(None).mallopt(option, value) == 1 for option, value in options.items()])


def _trim() -> None:
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = _HeapFacts
    greatest = libc.mallinfo2().arena
    while True:
        for _ in range(LOOKS):
            time.sleep(LOOK_SECONDS)
            size = libc.mallinfo2().arena
            if size > greatest + GROWTH:
                break
        greatest = max(size, greatest)
        libc.malloc_trim(0)
