"""Made structures for tests, as PDB and as mmCIF text, with atoms listed one by one."""

from typing import NamedTuple

import numpy as np

COLUMNS = (
    *("group_PDB", "id", "type_symbol", "label_atom_id", "label_alt_id", "label_comp_id", "label_asym_id"),
    *("label_entity_id", "label_seq_id", "pdbx_PDB_ins_code", "Cartn_x", "Cartn_y", "Cartn_z", "occupancy"),
    *("B_iso_or_equiv", "auth_seq_id", "auth_comp_id", "auth_asym_id", "auth_atom_id", "pdbx_PDB_model_num"),
)


class Atom(NamedTuple):
    """An atom of a structure."""

    residue: str
    number: int
    position: tuple[float, float, float]
    name: str = "CA"
    element: str = "C"
    chain: str = "A"
    altloc: str = " "
    insertion: str = " "
    model: int = 1
    hetero: bool = False


def walk(length: int, seed: int = 0, **fields) -> list[Atom]:
    """C-alphas of a random walk with steps of 3.8 angstroms, rounded as in files."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(length, 3))
    positions = np.cumsum(3.8 * steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0).round(3)
    names = rng.choice(["GLY", "ALA", "TRP", "LYS"], size=length)
    return [
        Atom(str(name), number, tuple(position), **fields)
        for number, (name, position) in enumerate(zip(names, positions.tolist(), strict=True), 1)
    ]


def as_pdb(atoms: list[Atom]) -> str:
    models = sorted({atom.model for atom in atoms})
    lines = []
    for model in models:
        lines += [f"MODEL     {model:4d}"] * (len(models) > 1)
        for serial, a in enumerate((atom for atom in atoms if atom.model == model), 1):
            name = f" {a.name:<3}" if len(a.element) == 1 else f"{a.name:<4}"
            x, y, z = a.position
            lines.append(
                f"{'HETATM' if a.hetero else 'ATOM  '}{serial:5d} {name}{a.altloc}{a.residue:>3} {a.chain}{a.number:4d}"
                f"{a.insertion}   {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00          {a.element.upper():>2}"
            )
        lines += ["ENDMDL"] * (len(models) > 1)
    return "\n".join([*lines, "END", ""])


def as_cif(atoms: list[Atom]) -> str:
    """Labels of chains and residues that differ from the authors', as in real files."""
    lines = ["data_made", "loop_", *(f"_atom_site.{name}" for name in COLUMNS)]
    for serial, a in enumerate(atoms, 1):
        x, y, z = a.position
        altloc, insertion = (value if value != " " else missing for value, missing in
                             ((a.altloc, "."), (a.insertion, "?")))  # fmt: skip
        lines.append(
            f"{'HETATM' if a.hetero else 'ATOM'} {serial} {a.element} {a.name} {altloc} {a.residue} X{a.chain} 1 "
            f"{'.' if a.hetero else serial} {insertion} {x:.3f} {y:.3f} {z:.3f} 1.0 0.0 {a.number} {a.residue} "
            f"{a.chain} {a.name} {a.model}"
        )
    return "\n".join([*lines, "#", ""])
