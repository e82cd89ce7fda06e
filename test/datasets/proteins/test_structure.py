"""Structures: what counts as a residue, the same from PDB and mmCIF, and what is said of files that cannot be used."""

import gzip

import numpy as np
import pytest
from structures import Atom, as_cif, as_pdb, walk

from datasets.file_list import FileError
from datasets.proteins import read_backbone, split_chain

FORMATS = {"pdb": as_pdb, "cif": as_cif}


def written(folder, atoms, kind="pdb"):
    path = folder / f"made.{kind}"
    path.write_text(FORMATS[kind](atoms))
    return path


@pytest.mark.parametrize("kind", FORMATS)
def test_residues_are_those_with_a_c_alpha(tmp_path, kind):
    """First model, first alternate location, insertion codes; no calcium, no water, no ligand."""
    first = [
        Atom("GLY", 7, (0, 0, 0)),
        Atom("GLY", 7, (1, 0, 0), name="CB"),
        Atom("SER", 8, (3.8, 0, 0), altloc="A"),
        Atom("SER", 8, (4.8, 0, 0), altloc="B"),
        Atom("THR", 8, (7.6, 0, 0), insertion="A"),
        Atom("TRP", 12, (11.4, 0, 0), chain="B"),
        Atom("MSE", 13, (15.2, 0, 0), chain="B", hetero=True),
        Atom("ALA", 14, (19.0, 0, 0), name="C", chain="B"),
        Atom("CA", 90, (0, 9, 0), element="Ca", hetero=True),
        Atom("HOH", 91, (0, 9, 9), name="O", element="O", hetero=True),
    ]
    second = [atom._replace(model=2, position=(50, 50, 50)) for atom in first]
    backbone = read_backbone(written(tmp_path, first + second, kind))
    assert backbone.types.tolist() == [0, 2, 5, 19, 20]
    assert backbone.positions[:, 0].tolist() == [0, 3.8, 7.6, 11.4, 15.2]
    assert (backbone.chain_names, backbone.chains.tolist()) == (("A", "B"), [0, 0, 0, 1, 1])
    assert backbone.numbers == ("7", "8", "8A", "12", "13")
    of_chain = read_backbone(f"{tmp_path}/made.{kind}:B")
    assert (of_chain.chain_names, of_chain.numbers) == (("B",), ("12", "13"))


def test_two_residues_at_one_place_are_alternatives(tmp_path):
    atoms = [Atom("SER", 5, (0, 0, 0), altloc="A"), Atom("THR", 5, (1, 0, 0), altloc="B"), Atom("GLY", 6, (4, 0, 0))]
    assert read_backbone(written(tmp_path, atoms)).types.tolist() == [2, 0]


def test_copies_of_a_chain_are_chains_and_what_belongs_to_it_is_not(tmp_path):
    chain = [line for line in as_pdb(walk(4)).splitlines() if line.startswith("ATOM")]
    other = [line[:22] + "   9" + line[26:] for line in chain[-1:]]  # one more residue, behind the end of its chain
    path = tmp_path / "copies.pdb"
    path.write_text("\n".join([*chain, "TER", *chain, "TER", *other, "END", ""]))
    backbone = read_backbone(path)
    assert backbone.chain_names == ("A", "A-2") and backbone.chains.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]
    assert backbone.numbers[4] == "9" and read_backbone(f"{path}:A-2").numbers == backbone.numbers[:4]
    path.write_text("\n".join([*chain, *chain, "END", ""]))
    with pytest.raises(FileError, match=r"residue 1 of chain A is there twice; end copies of a chain by TER"):
        read_backbone(path)


def test_gzip_and_plain_files_are_read_alike(tmp_path):
    plain = written(tmp_path, walk(20))
    packed = tmp_path / "packed.pdb.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    for one, other in zip(read_backbone(plain), read_backbone(f"{packed}:A"), strict=True):
        assert np.array_equal(one, other)


def test_a_chain_is_picked_behind_a_colon():
    assert split_chain("x/1aki.pdb:A") == ("x/1aki.pdb", "A")
    assert split_chain("1aki.cif.gz:AAA") == ("1aki.cif.gz", "AAA")
    assert split_chain("C:/x/1aki.pdb") == ("C:/x/1aki.pdb", None)
    assert split_chain("1aki.pdb") == ("1aki.pdb", None)


DNA = [Atom(name, number, (number, 0, 0), name="P", element="P") for number, name in enumerate(("DA", "DG"), 1)]
CALCIUM = [Atom("CA", 1, (0, 0, 0), element="Ca", hetero=True)]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("atoms", "chain", "message"),
    [
        ([Atom("LIG", 1, (0, 0, 0), name="C8", hetero=True)], "", r"no residue with a C-alpha \(1 residues of other"),
        (DNA, "", "it is DNA or RNA, not a protein"),
        (CALCIUM, "", "no residue with a C-alpha"),
        (walk(5), ":Q", "no chain Q; its chains with residues: A"),
        ([*walk(5), *(atom._replace(chain="D") for atom in DNA)], ":D", "it is DNA or RNA"),
    ],
)
def test_structures_without_residues_say_why(tmp_path, kind, atoms, chain, message):
    path = f"{written(tmp_path, atoms, kind)}{chain}"
    with pytest.raises(FileError, match=message) as error:
        read_backbone(path)
    assert error.value.path == path


def test_a_chain_without_a_name_cannot_be_picked(tmp_path):
    path = written(tmp_path, [atom._replace(chain=" ") for atom in walk(2)])
    assert len(read_backbone(path).types) == 2
    with pytest.raises(FileError, match="no chain A; its one chain has no name: leave out :A"):
        read_backbone(f"{path}:A")
    written(
        tmp_path, [*(atom._replace(chain=" ") for atom in walk(2)), *(atom._replace(chain="B") for atom in walk(2))]
    )
    with pytest.raises(FileError, match="no chain A; its chains with residues: one without a name, B"):
        read_backbone(f"{path}:A")


def test_damaged_files_say_so(tmp_path):
    whole, cif = as_pdb(walk(30)), as_cif(walk(30))
    packed = gzip.compress(whole.encode())
    files = {
        "cut.pdb": whole[:1000].encode(),
        "cut.cif": cif[: len(cif) // 2].encode(),
        "cut.pdb.gz": packed[: len(packed) // 2],
        "binary.pdb.gz": bytes(range(256)),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FileError, match=r"cannot be read as PDB or mmCIF; is it complete\?"):
            read_backbone(tmp_path / name)
    for name, text, message in (
        ("empty.pdb", "", "the file is empty"),
        ("head.cif", "data_x\n_entry.id x\n", "no atom"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(FileError, match=message):
            read_backbone(tmp_path / name)
    line = next(line for line in whole.splitlines() if line.startswith("ATOM") and " CA " in line)
    for name, lost in (("lost.pdb", "********"), ("lost.pdb.gz", " " * 8)):
        content = whole.replace(line, line[:30] + lost + line[38:]).encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
        with pytest.raises(FileError, match=r"line \d+: a C-alpha has no coordinates, but"):
            read_backbone(tmp_path / name)
    with pytest.raises(FileError, match="there is no such file"):
        read_backbone(tmp_path / "absent.cif:A")
