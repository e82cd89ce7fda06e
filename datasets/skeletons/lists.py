"""Lists of skeletons with labels: list files, class folders, and sets whose file names encode action and subject."""

import re
from collections.abc import Sequence
from pathlib import Path

from datasets.class_table import class_names_from
from datasets.file_list import FileList, find_unlabeled, read_folder, read_list
from datasets.skeletons.files import SKELETONS, sequences_in
from datasets.text_files import existing_path, whole_number
from settings import did_you_mean

NAMES = {
    "msr_action3d": r"a(?P<action>\d+)_s(?P<group>\d+)_e\d+",
    "utkinect": r"s(?P<group>\d+)_e\d+_(?P<action>\w+)",
    "ntu_subject": r"S\d+C\d+P(?P<group>\d+)R\d+A(?P<action>\d+)",
    "ntu_view": r"S\d+C(?P<group>\d+)P\d+R\d+A(?P<action>\d+)",
}
"""How sequence names encode the action (`action`), and the subject or camera (`group`)."""


def read_skeletons(
    source: str | Path,
    root: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    split: str | None = None,
    names: str | None = None,
) -> FileList:
    """The skeletons that `source` names.

    Args:
        source: one of
            - a list file: `id label path` per line, label -1 for unknown; "set.npz:walk" is a sequence of an NPZ file;
            - a folder with one subfolder per class, labels in sorted order of their names;
            - with `names`, an NPZ file or a folder of files: the name of each sequence has its action and its group.
        root: folder that paths are relative to; None: the folder of `source`, or `source` if it is a folder.
        class_names: names in order of their labels; None: from `source`. With `names`, they are the actions as in the
           sequence names, some of which may be missing, or other names for these in sorted order.
        split: with `names`, the groups to keep: "1,3,5", or "not 1,3,5".
        names: a key of `NAMES`, or a pattern of your own with groups called action and group.

    Raises:
        FileNotFoundError: no such source or root; suggests a similar name.
        ValueError: a malformed line, a label out of range, a name without action, or nothing to keep.
    """
    source = existing_path(Path(source).expanduser(), "list of skeletons")
    root = None if root is None else existing_path(Path(root).expanduser(), "root folder of the skeletons")
    if class_names is not None:
        class_names = class_names_from(class_names, "class_names")
    if names is not None:
        return _read_named(source, class_names, split, _pattern(names))
    if split is not None:
        raise ValueError(f"split={split!r} needs data.names, which says how sequence names encode subjects")
    if source.is_dir():
        return read_folder(source, root or source, class_names, SKELETONS)
    if source.suffix.lower() == ".npz":
        raise ValueError(f"{source} holds sequences without labels; set data.names, such as data.names=msr_action3d")
    return read_list(source, root or source.parent, class_names)


def _pattern(names: str) -> re.Pattern:
    if names in NAMES:
        return re.compile(NAMES[names])
    try:
        pattern = re.compile(names)
    except re.error as error:
        raise ValueError(f"names={names!r} is not a regular expression: {error}") from None
    if not {"action", "group"} <= pattern.groupindex.keys():
        known, hint = ", ".join(NAMES), did_you_mean(names, NAMES)
        form = "a pattern with (?P<action>...) and (?P<group>...)"
        raise ValueError(f"names={names!r} is not one of {known}, nor {form}{hint}")
    return pattern


def _read_named(source: Path, class_names: Sequence[str] | None, split: str | None, pattern: re.Pattern) -> FileList:
    files = [item.path for item in find_unlabeled([source], SKELETONS)]
    paths = [path for file in files for path in sequences_in(file)]
    ids = [path.rpartition(":")[2] if ".npz:" in path.lower() else Path(path).stem for path in paths]
    found = [pattern.fullmatch(name) for name in ids]
    for path, match in zip(paths, found, strict=True):
        if match is None or None in (match["action"], match["group"]):
            raise ValueError(f"{path}: its name is not of the form {pattern.pattern}")
    actions = sorted({match["action"] for match in found})
    if class_names is not None and not set(actions).isdisjoint(class_names):  # as a training list without names has it
        if unknown := [action for action in actions if action not in class_names]:
            raise ValueError(f"{source}: action {unknown[0]!r} is not one of the {len(class_names)} class names")
        actions = list(class_names)
    elif class_names is not None and len(class_names) != len(actions):
        raise ValueError(f"{source} has {len(actions)} actions, but there are {len(class_names)} class names")
    keep = _groups(split, sorted({match["group"] for match in found}))
    rows = [row for row, match in enumerate(found) if match["group"] in keep]
    labels = [actions.index(found[row]["action"]) for row in rows]
    return FileList([ids[row] for row in rows], labels, [paths[row] for row in rows], class_names or actions)


def _groups(split: str | None, groups: Sequence[str]) -> set[str]:
    """The `groups` that a split keeps; numbers may be written without leading zeros."""
    if split is None:
        return set(groups)
    chosen: set[str] = set()
    for part in split.removeprefix("not ").split(","):
        named = {group for group in groups if group == part.strip()}
        number = whole_number(part.strip())
        alike = {group for group in groups if group.isdecimal() and int(group) == number}
        if not named and not alike:
            there = ", ".join(group.lstrip("0") or group for group in groups)
            first = groups[0].lstrip("0") or groups[0]
            raise ValueError(f"split={split!r}; expected some of the groups {there}, such as {first} or `not {first}`")
        chosen |= named or alike
    kept = set(groups) - chosen if split.startswith("not ") else chosen
    if not kept:
        raise ValueError(f"split={split!r} keeps nothing")
    return kept
