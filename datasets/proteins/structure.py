"""C-alpha atoms of a protein, from a PDB or mmCIF file, also gzip-compressed. Files are read by gemmi.

What is read: the first model; the first of alternate locations; chains and residue numbers as the authors name them;
residues with insertion codes are separate residues. Chains of one name, separated by TER and with the same numbers,
are copies: A, A-2, A-3. Modified residues (MSE, SEP ...) are residues of unknown type.
"""

import gzip
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple

import gemmi
import numpy as np

from datasets.file_list import FileError
from datasets.find_files import FileKind

STRUCTURES = FileKind("structures", (".pdb", ".ent", ".cif", ".mmcif", ".pdb.gz", ".ent.gz", ".cif.gz", ".mmcif.gz"))
"""PDB and mmCIF files."""

RESIDUES = (
    *("GLY", "ALA", "SER", "PRO", "VAL", "THR", "CYS", "ILE", "LEU", "ASN"),
    *("ASP", "GLN", "LYS", "GLU", "MET", "HIS", "PHE", "ARG", "TYR", "TRP"),
)
"""The amino acids, in the order of their types; all others have the type 20."""
UNKNOWN = len(RESIDUES)
NUM_TYPES = UNKNOWN + 1

_TYPE_OF = {name: number for number, name in enumerate(RESIDUES)}


class Backbone(NamedTuple):
    """The N residues of a structure that have a C-alpha, in file order."""

    types: np.ndarray
    """int64 [N]: residue types, 0 to 20."""
    positions: np.ndarray
    """float64 [N, 3]: of the C-alpha atoms, in angstroms."""
    chains: np.ndarray
    """int64 [N]: number of the residue's chain, rising from 0."""
    chain_names: tuple[str, ...]
    """The authors' names of the chains that have residues."""
    numbers: tuple[str, ...]
    """The authors' residue numbers, with insertion codes: "52A"."""


def split_chain(path: str) -> tuple[str, str | None]:
    """A path and the chain that it picks: "1aki.pdb:A" -> "1aki.pdb", "A"; without one, None."""
    file, colon, chain = path.rpartition(":")
    if colon and is_structure(file) and chain and "/" not in chain:
        return file, chain
    return path, None


def is_structure(path: str | Path) -> bool:
    """Whether a file name is that of a structure."""
    return str(path).lower().endswith(STRUCTURES.suffixes)


def read_backbone(path: str | Path) -> Backbone:
    """The C-alpha atoms of the file at `path`, of a single chain for "file.pdb:A".

    Raises FileError if there is no such file or chain, the file is damaged, or no residue has a C-alpha.
    """
    path = str(path)
    file, wanted = split_chain(path)
    model = _first_model(file)
    found = {name: residues for name, residues in _chains(model).items() if wanted in (None, name)}
    types, positions, chains, numbers = [], [], [], []
    for number, (name, residues) in enumerate(found.items()):
        if twice := next((place for place, residue in residues.items() if _is_there_twice(residue)), None):
            raise FileError(path, f"residue {twice} of chain {name} is there twice; end copies of a chain by TER")
        types += [_TYPE_OF.get(residue.name, UNKNOWN) for residue in residues.values()]
        positions += [_alpha_carbon(residue).pos.tolist() for residue in residues.values()]
        chains += [number] * len(residues)
        numbers += residues
    if not types:
        raise FileError(path, _why_empty(model, wanted))
    columns = np.array(types), np.array(positions, dtype=np.float64), np.array(chains)
    if not np.isfinite(columns[1]).all():
        raise FileError(path, "a C-alpha has a coordinate that is NaN or infinite")
    return Backbone(*columns, tuple(found), tuple(numbers))


def _chains(model: gemmi.Model) -> dict[str, dict[str, gemmi.Residue]]:
    """The residues that have a C-alpha, by chain and number."""
    chains = {}
    for part in model:
        residues = {}
        for residue in part:
            if _alpha_carbon(residue):
                residues.setdefault(str(residue.seqid), residue)  # the first of alternatives at one position counts
        for copy in count(1):
            chain = chains.setdefault(part.name if copy == 1 else f"{part.name}-{copy}", {})
            if residues.keys().isdisjoint(chain):
                chain.update(residues)
                break
    return {name: residues for name, residues in chains.items() if residues}


def _first_model(file: str) -> gemmi.Model:
    if not Path(file).is_file():
        raise FileError(file, "there is no such file")
    if not Path(file).stat().st_size:
        raise FileError(file, "the file is empty")
    try:
        structure = gemmi.read_structure(file, format=gemmi.CoorFormat.Detect)
    except Exception as error:  # gemmi raises RuntimeError, ValueError, UnicodeDecodeError, IndexError
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise FileError(file, f"cannot be read as PDB or mmCIF; is it complete? ({reason[0]})") from error
    if not len(structure):
        raise FileError(file, "no atom in it; expected a structure in PDB or mmCIF format")
    if structure.input_format == gemmi.CoorFormat.Pdb:
        _check_coordinates(file)
        structure = gemmi.read_pdb(file, split_chain_on_ter=True)
    return structure[0]


def _check_coordinates(file: str) -> None:
    """Raises FileError if a C-alpha in a PDB file has no coordinates, which gemmi takes for 0."""
    with gzip.open(file) if file.lower().endswith(".gz") else open(file, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if line[12:16].strip() == b"CA" and line.startswith((b"ATOM", b"HETATM")):
                try:
                    list(map(float, (line[30:38], line[38:46], line[46:54])))
                except ValueError:
                    found = line[30:54].decode("ascii", "replace")
                    raise FileError(file, f"line {number}: a C-alpha has no coordinates, but {found!r}") from None


def _alpha_carbon(residue: gemmi.Residue) -> gemmi.Atom | None:
    """The first C-alpha of a residue."""
    return next(_alpha_carbons(residue), None)


def _alpha_carbons(residue: gemmi.Residue) -> Iterator[gemmi.Atom]:
    """The C-alphas of all alternate locations; a calcium ion, also called CA, is not one."""
    return (atom for atom in residue if atom.name == "CA" and atom.element.name == "C")


def _is_there_twice(residue: gemmi.Residue) -> bool:
    """Whether two C-alphas are no alternatives: gemmi joins residues of one number that nothing separates."""
    return sum(atom.altloc == "\0" for atom in _alpha_carbons(residue)) > 1


def _why_empty(model: gemmi.Model, wanted: str | None) -> str:
    if wanted is not None and wanted not in [chain.name for chain in model]:
        names = list(_chains(model))
        if names == [""]:
            return f"no chain {wanted}; its one chain has no name: leave out :{wanted}"
        there = ", ".join(name or "one without a name" for name in names)
        return f"no chain {wanted}; its chains with residues: {there or 'none'}"
    residues = [residue.name for chain in model if wanted in (None, chain.name) for residue in chain]
    if any(gemmi.find_tabulated_residue(name).is_nucleic_acid() for name in residues):
        return "no residue with a C-alpha: it is DNA or RNA, not a protein"
    where = "" if wanted is None else f" in chain {wanted}"
    return f"no residue with a C-alpha{where} ({len(residues)} residues of other kinds)"
