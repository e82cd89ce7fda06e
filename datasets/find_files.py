"""Finds the files of a kind below a folder, even if it was copied, unpacked or linked together."""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

log = logging.getLogger(__name__)

SYSTEM_NAMES = {
    *("__macosx", "@eadir", "#recycle", "@recycle", "lost+found", "$recycle.bin", "recycler"),
    *("system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini", "__pycache__"),
}
"""What operating systems, network disks and archives leave behind; in lower case."""
OWN_NAMES = {"conversion_failures.csv", "mapping_table.txt", "groups.txt"}
"""Tables that the suite itself writes among a person's files."""
MOST_SUFFIXES = 8  # in a message


class FileKind(NamedTuple):
    """A kind of file: its name in messages, and its suffixes."""

    name: str
    suffixes: tuple[str, ...]
    frame_suffixes: tuple[str, ...] = ()
    """Of images: where no file is of the kind, a folder of several numbered images takes the place of one."""

    @property
    def expected(self) -> str:
        """What is looked for, in words."""
        frames = ", or folders of numbered images such as clip/img_00001.jpg" if self.frame_suffixes else ""
        return f"files that end in {' '.join(self.suffixes)}{frames}"


def is_passed_over(name: str) -> bool:
    """Whether a file or folder of this name is hidden or not part of a data set: `.git`, `._a.mp4`, `__MACOSX`."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def class_folders(folder: Path) -> list[str]:
    """The names of the subfolders that may be classes, sorted."""
    places = _places_above(folder)
    return sorted(
        entry.name
        for entry in os.scandir(folder)
        if not is_passed_over(entry.name) and _is_folder(entry) and not _leads_up(entry, places)
    )


def find_files(folder: Path, kind: FileKind) -> list[str]:
    """Paths, relative to `folder`, of the files of a kind anywhere in it; sorted. If it has none: folders of frames.

    Links to folders are followed, except to a folder that they are in. Logs the number of files with other suffixes.
    """
    found, others, num_frames = [], {}, Counter()
    for path in _walk(folder):
        if path.lower().endswith(kind.suffixes):
            found.append(path)
        elif os.path.basename(path) not in OWN_NAMES:
            suffix = os.path.splitext(path)[1].lower()
            count, example = others.get(suffix, (0, path))
            others[suffix] = count + 1, min(example, path)
            if suffix in kind.frame_suffixes and re.search(r"\d", os.path.basename(path)):
                num_frames[os.path.dirname(path) or "."] += 1
    folders = sorted(place for place, number in num_frames.items() if number > 1)
    if folders and not found:
        if folders != ["."]:
            log.info("%s: its %s are folders of frames: %d, for example %r",
                     folder, kind.name, len(folders), folders[0])  # fmt: skip
        return folders
    if others:
        common = sorted(others, key=lambda suffix: (-others[suffix][0], suffix))
        named = [f"{suffix or 'no suffix'} ({others[suffix][0]})" for suffix in common[:MOST_SUFFIXES]]
        log.warning(
            "%s: files skipped, because %s have other suffixes: %d, for example %r; %s%s",
            folder, kind.name, sum(count for count, _ in others.values()), others[common[0]][1], ", ".join(named),
            ", ..." if len(common) > MOST_SUFFIXES else "",
        )  # fmt: skip
    return sorted(found)


def why_unopened(path: str | Path, error: Exception) -> str:
    """Why a file cannot be opened; also, whether there is one whose name only looks the same.

    Disks differ in the Unicode form of names: é may be one character (NFC), or e and an accent (NFD).
    """
    reason = getattr(error, "strerror", None) or str(error)
    if not isinstance(error, FileNotFoundError) or str(path).isascii():
        return reason
    found = Path()
    for part in Path(path).parts:
        places = [found / part, *(found / normalize(form, part) for form in ("NFC", "NFD"))]
        found = next(filter(os.path.exists, places), None)
        if found is None:
            return reason
    return f"{reason}; its name exists in another Unicode form (NFC, NFD): rename that file, or the entry of the list"


def _walk(folder: Path) -> Iterator[str]:
    """The paths of all files in a folder, relative to it. Raises OSError for a folder that cannot be read."""
    loops, repeats = [], []  # links
    waiting = [("", _places_above(folder))]
    root = os.path.join(os.path.realpath(folder), "")
    while waiting:
        place, places = waiting.pop()
        with os.scandir(os.path.join(folder, place)) as entries:
            for entry in entries:
                path = os.path.join(place, entry.name)
                if is_passed_over(entry.name):
                    continue
                if not _is_folder(entry):
                    yield path
                elif not entry.is_symlink():
                    waiting.append((path, places))
                else:
                    places_here = (os.path.realpath(os.path.join(folder, place)), *places)
                    if _leads_up(entry, places_here):
                        loops.append(path)
                        continue
                    waiting.append((path, places_here))
                    if os.path.realpath(entry.path).startswith(root):
                        repeats.append(path)
    if loops:
        log.warning(
            "%s: links skipped, because they lead to a folder that they are in: %d, for example %r",
            folder, len(loops), min(loops),
        )  # fmt: skip
    if repeats:
        log.warning(
            "%s: links to folders that are in it as well, so that their files are listed again: %d, for example %r",
            folder, len(repeats), min(repeats),
        )  # fmt: skip


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _places_above(folder: Path) -> tuple[str, ...]:
    """The real places of a folder and of those it is in, by its path as it is given."""
    folder = Path(folder).absolute()
    return tuple(os.path.realpath(place) for place in (folder, *folder.parents))


def _leads_up(entry: os.DirEntry, places: Iterable[str]) -> bool:
    """Whether a folder is a link to one of `places`, or to a folder that one of them is in: a loop."""
    if not entry.is_symlink():
        return False
    inside = os.path.join(os.path.realpath(entry.path), "")
    return any(os.path.join(place, "").startswith(inside) for place in places)
