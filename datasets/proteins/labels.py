"""Proteins and their known functions: your own table, or DeepFRI's annotations of PDB chains.

Tables have a line `file,label;label` for each structure. The annotations of EC numbers and of GO terms are those of
Gligorijevic et al., Structure-based protein function prediction using graph convolutional networks (DeepFRI), Nature
Communications 2021: files nrPDB-EC_2020.04_annot.tsv and nrPDB-GO_2019.06.18_annot.tsv with lists of chains, and a
table of the identity of test chains to training chains.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from datasets.file_list import UNLABELED, FileItem, FileList, Given, find_unlabeled
from datasets.find_files import find_files
from datasets.held_out import held_out
from datasets.proteins.structure import STRUCTURES, split_chain
from datasets.text_files import bad_line, csv_rows, existing_path, numbered_lines, read_csv, shorten
from settings import did_you_mean

log = logging.getLogger(__name__)

Source = Literal["file", "ec", "go_mf", "go_bp", "go_cc"]
ONTOLOGIES = {
    "ec": "EC-numbers",
    "go_mf": "GO-terms (molecular_function)",
    "go_bp": "GO-terms (biological_process)",
    "go_cc": "GO-terms (cellular_component)",
}
"""Headings of the annotation files."""
Identity = Literal[30, 40, 50, 70, 95]
SEPARATOR = ";"


def read_table(path: Path, root: Path, label_names: Sequence[str] | None = None) -> FileList:
    """The structures of a table, a line `file,label;label` each; no label: it has none of them.

    Args:
        path: CSV file; a first line whose file has no dot or slash, such as `file,labels`, is a header.
        root: folder of the structures; "1aki.pdb:A" is chain A of a file.
        label_names: the labels; None: those of the table, sorted.

    Raises ValueError for a line of another form, a label that is not among `label_names`, or a repeated file.
    """
    rows, seen = [], {}
    for row, (number, fields) in enumerate(csv_rows(existing_path(path, "table of structures and labels"))):
        if row == 0 and not set("./\\") & set(fields[0]):
            log.info("%s:%d: the header, not a structure: %s", path, number, shorten(",".join(fields)))
            continue
        if len(fields) != 2 or not fields[0]:
            raise bad_line(path, number, ",".join(fields), "expected `file,label;label`")
        file, labels = fields[0], [label.strip() for label in fields[1].split(SEPARATOR) if label.strip()]
        if file in seen:
            raise bad_line(path, number, ",".join(fields), f"the file is already on line {seen[file]}")
        seen[file] = number
        rows.append((number, file, labels))
    if not rows:
        raise ValueError(f"{path} has no line `file,label;label`")
    names = label_names or sorted({label for _, _, labels in rows for label in labels})
    if not names:
        raise ValueError(f"{path}: no structure has a label; expected lines `file,label;label`")
    numbers = {name: label for label, name in enumerate(names)}
    sets = [_numbers(labels, numbers, f"{path}:{number}") for number, _, labels in rows]
    files = [file for _, file, _ in rows]
    return FileList(files, sets, files, names, str(root))


def _numbers(labels: Sequence[str], numbers: dict[str, int], where: str) -> int | tuple[int, ...]:
    """Numbers of the labels of a structure, as `FileList` takes them."""
    for label in labels:
        if label not in numbers:
            hint = did_you_mean(label, numbers)
            raise ValueError(f"{where}: {shorten(label)} is not one of the {len(numbers)} labels{hint}")
    found = tuple(sorted({numbers[label] for label in labels}))
    return found[0] if len(found) == 1 else found or UNLABELED


class Annotations:
    """An annotation file: the labels of one ontology, and which of them each chain has.

    Args:
        path: the file: lines that begin with ### are headings; the line below `### EC-numbers` has the labels, and
            below the last heading is a line for each chain, with a column of comma-separated labels for each ontology.
        source: which ontology: "ec", "go_mf", "go_bp" or "go_cc".

    Raises ValueError if the file has no such ontology, or a chain has a label that is not in its list.
    """

    def __init__(self, path: Path, source: Source):
        self.path = path
        heading = ONTOLOGIES[source]
        lines = list(numbered_lines(existing_path(path, "annotation file")))
        headings = {line[3:].strip(): place for place, (_, line) in enumerate(lines) if line.startswith("###")}
        columns = next((text.split("\t") for text in reversed(headings) if text.startswith("PDB-chain")), [])
        if heading not in headings or heading not in columns:
            raise ValueError(f"{path} has no {heading}; its headings: {', '.join(headings) or 'none'}")
        self.label_names = tuple(lines[headings[heading] + 1][1].split("\t"))
        numbers = {name: number for number, name in enumerate(self.label_names)}
        column = columns.index(heading)
        self.labels: dict[str, int | tuple[int, ...]] = {}
        for number, line in lines[headings["\t".join(columns)] + 1 :]:
            fields = line.split("\t")
            cell = fields[column] if column < len(fields) else ""
            labels = [label.strip() for label in cell.split(",") if label.strip()]
            self.labels[fields[0].strip()] = _numbers(labels, numbers, f"{path}:{number}")

    def read_list(self, path: Path, root: Path, keep: Collection[str] | None = None) -> FileList:
        """The chains in a list, a line `PDB-chain` each; of `keep` only, if given.

        Chain 1AKI-A is a file called 1AKI-A, or the chain A of a file called 1AKI, anywhere in `root`. Lower and upper
        case may differ only where that leaves one file for one chain: 3J7Y-A and 3J7Y-a are two chains.

        Raises ValueError for a chain without annotation.
        """
        chains = []
        for number, line in numbered_lines(existing_path(path, "list of chains")):
            chain = line.strip()
            if chain not in self.labels:
                raise bad_line(path, number, line, f"the chain is not in {self.path}")
            if keep is None or chain in keep:
                chains.append(chain)
        if not chains:
            raise ValueError(f"{path}: no chain is left")
        places = _StructureFolder(root, self.labels)
        labels = [self.labels[chain] for chain in chains]
        return FileList(chains, labels, [places.find(chain) for chain in chains], self.label_names, str(root))


class _StructureFolder:
    """Where the structures of `chains` are."""

    def __init__(self, root: Path, chains: Iterable[str]):
        self._files: dict[str, str] = {}
        for path in find_files(existing_path(root, "folder of structures"), STRUCTURES):
            name = Path(path).name
            suffix = max((end for end in STRUCTURES.suffixes if name.lower().endswith(end)), key=len)
            self._files.setdefault(name[: -len(suffix)], path)
        num_files, num_chains = (Counter(map(str.lower, names)) for names in (self._files, chains))
        unique = {name: name.lower() for name in self._files if num_files[name.lower()] == 1}
        self._any_case = {low: self._files[name] for name, low in unique.items() if num_chains[low] <= 1}

    def find(self, chain: str) -> str:
        """The path of "1AKI-A"; if there is none, of a missing file, which counts as unreadable."""
        name, _, letters = chain.rpartition("-")
        if file := self._file(chain):
            return file
        return f"{file}:{letters}" if (file := self._file(name)) else f"{chain}.pdb"

    def _file(self, name: str) -> str | None:
        return self._files.get(name) or self._any_case.get(name.lower())


def chains_below(path: Path, identity: Identity) -> set[str]:
    """The test chains with less than `identity` % identity to every training chain, from DeepFRI's table.

    Columns: PDB-chain,<30%,<40%,<50%,<70%,<95%, with 1 or 0 in each.
    """
    column = f"<{identity}%"
    what = "DeepFRI's table of test chains, such as nrPDB-EC_2020.04_test.csv"
    rows = read_csv(existing_path(path, "table of test chains"), ["PDB-chain", column], what)
    return {row["PDB-chain"] for _, row in rows if row[column] == "1"}


def split_off(files: FileList, share: float, seed: int) -> tuple[FileList, FileList]:
    """The files without a held-out fraction, and that fraction (`held_out`). A file's chains are held out together."""
    held = held_out([split_chain(item.id)[0] for item in files], share, seed)
    return files.subset(np.flatnonzero(~held)), files.subset(np.flatnonzero(held))


def missing(files: FileList) -> list[FileItem]:
    """The structures whose file does not exist."""
    return [item for item in files if not Path(split_chain(item.path)[0]).is_file()]


def label_counts(files: FileList, num_labels: int) -> np.ndarray:
    """Number of structures with each label, [num_labels]."""
    return files.targets(range(len(files)), num_labels).sum(axis=0)


def find_structures(places: Iterable[Any]) -> FileList:
    """Structures without labels: files, "file.pdb:A", or folders, which mean all structures in them."""
    paths: list[str] = []
    for place in places:
        if isinstance(place, Given):
            raise ValueError(f"{place.name}: expected the path of a structure, not an open file or an array")
        file, chain = split_chain(str(place))
        found = [item.path for item in find_unlabeled([file], STRUCTURES)]
        paths += found if chain is None else [f"{path}:{chain}" for path in found]
    return FileList(paths, [UNLABELED] * len(paths), paths) if paths else find_unlabeled([], STRUCTURES)
