"""Tables of structures and DeepFRI's annotations: what is read, and what is said of lines that do not fit."""

from pathlib import Path

import pytest
from structures import as_pdb, walk

from datasets.proteins.labels import (
    Annotations,
    chains_below,
    find_structures,
    label_counts,
    missing,
    read_table,
    split_off,
)

EC = """### EC-numbers
1.1.1.-\t2.7.4.3\t3.1.4.-
### PDB-chain\tEC-numbers
1AAA-A\t2.7.4.3,1.1.1.-
2BBB-B\t3.1.4.-
3CCC-C\t2.7.4.3
"""
GO = """### GO-terms (molecular_function)
GO:1\tGO:2
### GO-names (molecular_function)
one\ttwo
### GO-terms (biological_process)
GO:3
### GO-names (biological_process)
three
### GO-terms (cellular_component)
GO:4\tGO:5
### GO-names (cellular_component)
four\tfive
### PDB-chain\tGO-terms (molecular_function)\tGO-terms (biological_process)\tGO-terms (cellular_component)
1AAA-A\tGO:2\t\tGO:4,GO:5
2BBB-B\t\tGO:3\t
"""


def labels_of(files):
    return [files.labels_of(row) for row in range(len(files))]


def test_a_table_names_files_and_labels(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("file,labels\nx.pdb,kinase;membrane\ny.cif.gz:A, kinase\nz.pdb,\n")
    files = read_table(path, tmp_path)
    assert files.class_names == ("kinase", "membrane") and labels_of(files) == [(0, 1), (0,), ()]
    assert [item.path for item in files] == [f"{tmp_path}/{name}" for name in ("x.pdb", "y.cif.gz:A", "z.pdb")]
    assert label_counts(files, 2).tolist() == [2, 1]
    (tmp_path / "y.cif.gz").touch()
    assert [item.id for item in missing(files)] == ["x.pdb", "z.pdb"]
    given = read_table(path, tmp_path, ("membrane", "other", "kinase"))
    assert labels_of(given) == [(0, 2), (2,), ()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x.pdb\n", r"labels.csv:1: expected `file,label;label`; found 'x.pdb'"),
        ("x.pdb,a\ny.pdb,a,b\n", r"labels.csv:2: expected `file,label;label`"),
        ("x.pdb,kinase\nx.pdb,kinase\n", r"labels.csv:2: the file is already on line 1"),
        ("x.pdb,kinaze\n", r"labels.csv:1: 'kinaze' is not one of the 1 labels; did you mean 'kinase'\?"),
        ("file,label\n", "has no line `file,label;label`"),
    ],
)
def test_lines_that_do_not_fit(tmp_path, text, message):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / "labels.csv", tmp_path, ("kinase",))


def test_ec_numbers_of_chains_and_where_their_files_are(tmp_path):
    for name, text in (("annot.tsv", EC), ("list.txt", "1AAA-A\n2BBB-B\n3CCC-C\n")):
        (tmp_path / name).write_text(text)
    root = tmp_path / "structures/deeper"
    root.mkdir(parents=True)
    (root / "1AAA-A.pdb").touch()
    (root / "2bbb.cif.gz").touch()
    files = Annotations(tmp_path / "annot.tsv", "ec").read_list(tmp_path / "list.txt", root.parent)
    assert files.class_names == ("1.1.1.-", "2.7.4.3", "3.1.4.-") and labels_of(files) == [(0, 1), (2,), (1,)]
    paths = [item.path.removeprefix(f"{root.parent}/") for item in files]
    assert paths == ["deeper/1AAA-A.pdb", "deeper/2bbb.cif.gz:B", "3CCC-C.pdb"]
    assert [item.id for item in missing(files)] == ["3CCC-C"]


def test_chains_that_differ_only_in_case_have_their_own_files(tmp_path):
    """3J7Y-A and 3J7Y-a are two chains; a name in another case counts only where one file and one chain have it."""
    chains = ("3J7Y-A", "3J7Y-a", "1AAA-A", "2BBB-B", "4DDD-D", "5EEE-E", "5EEE-e")
    (tmp_path / "annot.tsv").write_text(
        "### EC-numbers\n1.1\n### PDB-chain\tEC-numbers\n" + "\t1.1\n".join([*chains, ""])
    )
    (tmp_path / "list.txt").write_text("\n".join(chains))
    root = tmp_path / "structures"
    root.mkdir()
    for name in (
        "3J7Y-A.pdb",
        "3J7Y-a.pdb",
        "1aaa-A.PDB",
        "2bbb.cif",
        "2BbB.cif",
        "4DDD.cif",
        "4ddd.cif",
        "5EEE-E.pdb",
    ):
        (root / name).touch()
    files = Annotations(tmp_path / "annot.tsv", "ec").read_list(tmp_path / "list.txt", root)
    paths = [Path(item.path).name for item in files]
    assert paths[:3] == ["3J7Y-A.pdb", "3J7Y-a.pdb", "1aaa-A.PDB"] and paths[4:6] == ["4DDD.cif:D", "5EEE-E.pdb"]
    assert [item.id for item in missing(files)] == ["2BBB-B", "5EEE-e"]


@pytest.mark.parametrize(
    ("source", "names", "labels"),
    [
        ("go_mf", ("GO:1", "GO:2"), [(1,), ()]),
        ("go_bp", ("GO:3",), [(), (0,)]),
        ("go_cc", ("GO:4", "GO:5"), [(0, 1), ()]),
    ],
)
def test_each_branch_of_go_has_its_own_labels(tmp_path, source, names, labels):
    """A chain without a term of a branch stays, with no label."""
    (tmp_path / "annot.tsv").write_text(GO)
    (tmp_path / "list.txt").write_text("1AAA-A\n2BBB-B\n")
    files = Annotations(tmp_path / "annot.tsv", source).read_list(tmp_path / "list.txt", tmp_path)
    assert (files.class_names, labels_of(files)) == (names, labels)


def test_annotations_that_do_not_fit(tmp_path):
    path = tmp_path / "annot.tsv"
    path.write_text(EC.replace("3CCC-C\t2.7.4.3", "3CCC-C\t2.7.4.9"))
    message = r"annot.tsv:6: '2.7.4.9' is not one of the 3 labels; did you mean '2.7.4.3'\?"
    with pytest.raises(ValueError, match=message):
        Annotations(path, "ec")
    with pytest.raises(ValueError, match=r"has no GO-terms \(molecular_function\); its headings: EC-numbers"):
        Annotations(path, "go_mf")
    path.write_text(EC)
    (tmp_path / "list.txt").write_text("9ZZZ-A\n")
    with pytest.raises(ValueError, match=r"list.txt:1: the chain is not in .*annot.tsv; found '9ZZZ-A'"):
        Annotations(path, "ec").read_list(tmp_path / "list.txt", tmp_path)


def test_test_chains_by_identity(tmp_path):
    path = tmp_path / "test.csv"
    path.write_text("PDB-chain,<30%,<40%,<50%,<70%,<95%\n1AAA-A,0,0,1,1,1\n2BBB-B,1,1,1,1,1\n3CCC-C,0,0,0,0,0\n")
    counts = [len(chains_below(path, identity)) for identity in (30, 40, 50, 70, 95)]
    assert counts == [1, 1, 2, 2, 2] and chains_below(path, 30) == {"2BBB-B"}
    path.write_text("PDB-chain,<30%\n1AAA-A,1\n")
    with pytest.raises(ValueError, match=r"no column <40%; expected DeepFRI's table"):
        chains_below(path, 40)


def test_a_first_line_without_a_structure_is_a_header(tmp_path, caplog):
    caplog.set_level("INFO", "datasets.proteins.labels")
    (tmp_path / "labels.csv").write_text("structure,function\n1aki.PDB:A,kinase\n")
    files = read_table(tmp_path / "labels.csv", tmp_path)
    assert files.class_names == ("kinase",) and [item.id for item in files] == ["1aki.PDB:A"]
    assert "labels.csv:1: the header, not a structure: 'structure,function'" in caplog.text


@pytest.mark.parametrize("first", ["x.xyz", "folder/x", "x.xyz:A"])
def test_only_a_first_line_may_be_a_header(tmp_path, first):
    """Other lines that name no structure are kept, and count as unreadable."""
    path = tmp_path / "labels.csv"
    path.write_text(f"{first},kinase\ny,kinase\nz.pdb,kinase\n")
    assert [item.id for item in read_table(path, tmp_path)] == [first, "y", "z.pdb"]
    path.write_text("file,labels\ny,kinase\nx.xyz,kinase\n")
    assert [item.id for item in read_table(path, tmp_path)] == ["y", "x.xyz"]


def test_a_share_is_a_function_of_seed_and_file(tmp_path):
    path = tmp_path / "labels.csv"
    rows = [f"{number}.pdb:{chain},a\n" for number in range(50) for chain in "AB"]
    path.write_text("".join(rows))
    train, val = split_off(read_table(path, tmp_path), 0.2, seed=1)
    assert len(train) + len(val) == 100 and 4 <= len(val) <= 40
    assert not {item.id[:-2] for item in train} & {item.id[:-2] for item in val}  # chains of a file stay together
    path.write_text("".join(rows[:60]))  # other files change nothing
    fewer = split_off(read_table(path, tmp_path), 0.2, seed=1)[1]
    assert {item.id for item in fewer} == {item.id for item in val} & {row.split(",")[0] for row in rows[:60]}
    path.write_text("".join(reversed(rows)))
    again = split_off(read_table(path, tmp_path), 0.2, seed=1)[1]
    other = split_off(read_table(path, tmp_path), 0.2, seed=2)[1]
    ids = [{item.id for item in files} for files in (val, again, other)]
    assert ids[0] == ids[1] != ids[2] and not ids[0] & {item.id for item in train}
    with pytest.raises(ValueError, match=r"a fraction of 0.001 holds out none of 100 files from 50 sources"):
        split_off(read_table(path, tmp_path), 0.001, seed=1)


def test_structures_are_found_by_file_chain_and_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    for name in ("one.pdb", "folder/two.cif", "folder/three.PDB.gz", "folder/notes.txt", "folder/notes.txt.gz"):
        (tmp_path / name).write_text(as_pdb(walk(3)))
    found = [item.path.removeprefix(f"{tmp_path}/") for item in find_structures([tmp_path / "folder",
                                                                                f"{tmp_path}/one.pdb:A"])]  # fmt: skip
    assert found == ["folder/three.PDB.gz", "folder/two.cif", "one.pdb:A"]
    with pytest.raises((OSError, ValueError), match=r"absent\.pdb"):
        find_structures([tmp_path / "absent.pdb"])
