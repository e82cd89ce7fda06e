"""Memory that a network frees stays with the process, for the next step to use.

glibc hands large blocks back to the kernel as they are freed, and takes them again at the next layer: each time the
kernel has to clear their pages. docs/speed.md says what keeping them gains, and what it costs in peak memory.
"""

import ctypes
import platform

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h
TOP_PAD_BYTES = 64 * 2**20


def allocator() -> str:
    """Which library allocates the memory of this process: jemalloc, tcmalloc, glibc, or "" where it is unknown."""
    process = ctypes.CDLL(None) if platform.system() == "Linux" else None
    for name, symbol in (("jemalloc", "mallctl"), ("tcmalloc", "MallocExtension_GetNumericProperty")):
        if hasattr(process, symbol):  # preloaded, so its malloc comes before glibc's
            return name
    return "glibc" if process is not None and platform.libc_ver()[0] == "glibc" else ""


def keep_freed_memory() -> bool:
    """Tells glibc to keep freed memory -> whether it does. Other allocators keep theirs anyway."""
    if allocator() != "glibc":
        return False
    options = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, TOP_PAD_BYTES))
    return all([ctypes.CDLL(None).mallopt(option, value) == 1 for option, value in options])
