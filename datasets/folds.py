"""Folds for cross-validation: a list divided into folds stratified by class.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD 2011,
algorithm 1): classes are dealt from the rarest to the most frequent, and each item goes to the fold that needs most
items of the class. With one class per item, folds differ by at most one item in every class. Here an item may also be a
group of files that must stay together.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets.file_list import FileList
from datasets.text_files import bad_line, existing_path, numbered_lines


def assign_folds(files: FileList, num_folds: int, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """The fold [N], from 0, of each file; a function of the list, the seed and the groups.

    Args:
        files: the list; each file has at least one label.
        num_folds: how many folds, at least 2.
        seed: of the order in which items of a class are dealt.
        groups: number [N] of each file's group, from 0; None: every file is its own group.

    Raises:
        ValueError: there are fewer files or groups than folds.
    """
    rows, labels = files.labeled_rows()
    groups = np.arange(len(files)) if groups is None else groups
    num_groups = int(groups.max(initial=-1)) + 1
    if num_groups < num_folds:
        raise ValueError(f"{num_groups} files or groups cannot be divided into {num_folds} folds; set fewer")
    order = np.random.default_rng(seed).permutation(num_groups)  # position in the deal -> group
    place = np.argsort(order)
    pairs = np.stack([labels, place[groups[rows]]], axis=1)  # (class, position), one per label of a file
    pairs, counts = np.unique(pairs, axis=0, return_counts=True)
    num_classes = int(labels.max(initial=0)) + 1
    by_class = np.split(np.arange(len(pairs)), np.searchsorted(pairs[:, 0], np.arange(1, num_classes)))
    by_group = _rows_by(pairs[:, 1], num_groups)
    size = np.bincount(groups, minlength=num_groups)[order]  # files of each position

    totals = np.bincount(pairs[:, 0], counts, num_classes)
    wanted = np.tile(totals / num_folds, (num_folds, 1))  # [F, C]: what each fold still lacks of each class
    room = np.full(num_folds, len(files) / num_folds)
    fold = np.full(num_groups, -1)
    left = totals.astype(float)
    for _ in range(num_classes):
        label = int(np.where(left > 0, left, np.inf).argmin())
        members = pairs[by_class[label], 1]
        for at in sorted(members[fold[members] < 0].tolist(), key=lambda at: -size[at]):  # the largest groups first
            best = max(range(num_folds), key=lambda f: (wanted[f, label], room[f], -f))
            fold[at] = best
            of_group = by_group[at]
            wanted[best, pairs[of_group, 0]] -= counts[of_group]
            left[pairs[of_group, 0]] -= counts[of_group]
            room[best] -= size[at]
        left[label] = 0
    return fold[place[groups]]


def sources_from_table(path: str | Path, files: FileList) -> list[str]:
    """The source of each file, from a table with lines `id source`; a tab ends an id that holds spaces.

    Files missing from the table have their own source. Raises ValueError for a malformed line, and for an id that
    appears twice or is not in the list.
    """
    path = existing_path(Path(path).expanduser(), "table of groups")
    table: dict[str, str] = {}
    for number, line in numbered_lines(path):
        fields = [field.strip() for field in line.strip().split("\t" if "\t" in line.strip() else None, 1)]
        if len(fields) != 2:
            raise bad_line(path, number, line, "expected `id group`")
        if fields[0] in table:
            raise bad_line(path, number, line, f"{fields[0]!r} has a group in a line above; expected each id once")
        table[fields[0]] = f"group\t{fields[1]}"  # cannot be an id: ids have no tabs
    ids = [item.id for item in files]
    if unknown := sorted(table.keys() - set(ids)):
        advice = "; put a tab after ids that hold spaces" if any(" " in name for name in ids) else ""
        raise ValueError(f"{path}: {len(unknown)} of its ids are not in the list, for example {unknown[0]!r}{advice}")
    return [table.get(name, name) for name in ids]


def number_sources(sources: Sequence[str]) -> np.ndarray:
    """The number [N] of each file's source, from 0, in the order in which they first occur."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in sources])


def _rows_by(keys: np.ndarray, num_keys: int) -> Sequence[np.ndarray]:
    """For each key from 0, the rows [..] of `keys` [N] that have it."""
    order = np.argsort(keys, kind="stable")
    return np.split(order, np.searchsorted(keys[order], np.arange(1, num_keys)))
