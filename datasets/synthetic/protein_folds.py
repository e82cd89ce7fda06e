"""Synthetic backbones of distinct folds as PDB files, with C-alpha atoms only and residues drawn at random.

Helices have 1.5 angstroms and 100 degrees from residue to residue and a radius of 2.3; strands have 3.3 angstroms and
a pleat. Loops connect their ends. Only the shape reveals the fold; positions have noise and any orientation.
"""

from pathlib import Path

import numpy as np
from pydantic import Field

from datasets.proteins.structure import RESIDUES
from datasets.synthetic.folder import SPLITS, make_folder_once
from settings import Settings

FOLDS = {
    "bundle": ("helices",),
    "sheet": ("strands",),
    "barrel": ("barrel", "strands"),
    "layers": ("helices", "strands"),
}
"""Fold -> its labels."""
NOISE = 0.4
"""Standard deviation of the positions, in angstroms."""


class ProteinFoldsSettings(Settings):
    """A synthetic set of structures."""

    num_train: int = Field(160, gt=0, le=100_000, description="training structures")
    num_val: int = Field(60, gt=0, le=100_000, description="validation structures")
    seed: int = Field(0, ge=0, description="of the set")


def make_protein_folds(folder: str | Path, num_train: int, num_val: int, seed: int = 0) -> Path:
    """Writes `folder/<split>/NNNN.pdb` and the tables `folder/<split>.csv`, unless they exist; returns the folder.

    Raises FileExistsError if the folder holds other files, or a set made with other arguments.
    """
    arguments = {"num_train": num_train, "num_val": num_val, "seed": seed}

    def build(staging: Path) -> None:
        for number, (split, count) in enumerate(zip(SPLITS, (num_train, num_val), strict=True)):
            (staging / split).mkdir(parents=True)
            rows = ["file,labels\n"]
            for row in range(count):
                fold = list(FOLDS)[row % len(FOLDS)]
                path = f"{split}/{row:04d}.pdb"
                (staging / path).write_text(as_pdb(make_backbone(fold, np.random.default_rng((seed, number, row)))))
                rows.append(f"{path},{';'.join(FOLDS[fold])}\n")
            (staging / f"{split}.csv").write_text("".join(rows))

    return make_folder_once(folder, arguments, build)


def make_backbone(fold: str, rng: np.random.Generator) -> np.ndarray:
    """C-alpha positions of a structure of one of `FOLDS`: float64 [N, 3], in angstroms."""
    elements = _elements(fold, rng)
    chain = [elements[0]]
    for element in elements[1:]:
        chain += [_loop(chain[-1][-1], element[0]), element]
    positions = np.concatenate(chain)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation[:, 0] *= np.sign(np.linalg.det(rotation))  # no mirror image
    return (positions - positions.mean(axis=0)) @ rotation.T + rng.normal(scale=NOISE, size=positions.shape)


def _elements(fold: str, rng: np.random.Generator) -> list[np.ndarray]:
    """Helices and strands, alternately up and down, in chain order."""
    if fold == "bundle":
        places = [(10.0 * np.cos(a), 10.0 * np.sin(a)) for a in np.arange(rng.integers(3, 6)) * 1.4]
        return [_helix(rng.integers(12, 20), *place, turn) for turn, place in enumerate(places)]
    number = int(rng.integers(5, 9))
    if fold == "barrel":
        radius = 4.8 / (2 * np.sin(np.pi / (number + 3)))
        angles = 2 * np.pi * np.arange(number + 3) / (number + 3)
        places = [(radius * np.cos(angle), radius * np.sin(angle)) for angle in angles]
    else:
        places = [(4.8 * strand, 0.0) for strand in range(number)]
    length = int(rng.integers(6, 10))
    strands = [_strand(length, *place, turn) for turn, place in enumerate(places)]
    if fold != "layers":
        return strands
    helices = [_helix(rng.integers(10, 16), 9.0 * helix, 10.0, helix + len(strands)) for helix in range(number // 2)]
    return strands + helices


def _helix(length: int, x: float, y: float, turn: int) -> np.ndarray:
    residue = np.arange(length)
    angle = np.deg2rad(100) * residue
    z = 1.5 * (residue - (length - 1) / 2)
    element = np.stack([x + 2.3 * np.cos(angle), y + 2.3 * np.sin(angle), z], axis=1)
    return element if turn % 2 == 0 else _turned(element, x)


def _strand(length: int, x: float, y: float, turn: int) -> np.ndarray:
    residue = np.arange(length)
    z = 3.3 * (residue - (length - 1) / 2)
    element = np.stack([np.full(length, x), y + 0.9 * (-1.0) ** residue, z], axis=1)
    return element if turn % 2 == 0 else _turned(element, x)


def _turned(element: np.ndarray, x: float) -> np.ndarray:
    """The element upside down: a half turn, which keeps its handedness."""
    return np.stack([2 * x - element[:, 0], element[:, 1], -element[:, 2]], axis=1)


def _loop(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Residues between two ends, about 3.8 angstroms apart, on an arc away from the center."""
    number = max(2, round(1.3 * float(np.linalg.norm(end - start)) / 3.8))
    share = (np.arange(number) + 1)[:, None] / (number + 1)
    outward = np.array([0.0, 0.0, np.sign(start[2] + end[2])])
    return start + share * (end - start) + 4.0 * np.sin(np.pi * share) * outward


def as_pdb(positions: np.ndarray, residues: list[str] | None = None) -> str:
    """A PDB file with the C-alpha atoms of chain A; residues are drawn at random, from the positions, unless given."""
    if residues is None:
        rng = np.random.default_rng(np.abs(np.round(1000 * positions)).astype(np.int64).ravel())
        residues = [RESIDUES[number] for number in rng.integers(len(RESIDUES), size=len(positions))]
    lines = [
        f"ATOM  {number:5d}  CA  {name} A{number:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           C\n"
        for number, (name, (x, y, z)) in enumerate(zip(residues, positions, strict=True), 1)
    ]
    return "".join([*lines, "TER\nEND\n"])
