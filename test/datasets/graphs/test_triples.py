"""Facts from files in every accepted form, and what is wrong with a file."""

import gzip
import re

import numpy as np
import pytest
from faults import copies_with_a_flipped_bit

from datasets.graphs import Columns, Names, knowledge_graph, read_triples
from datasets.graphs import triples as module

FACTS = [("aspirin", "treats", "pain"), ("pain", "symptom of", "flu"), ("aspirin", "treats", "flu")]


def write(path, rows, separator="\t", header=()):
    lines = [separator.join(row) for row in [*([header] if header else []), *rows]]
    content = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def facts_of(read):
    entities, relations = read.entities.names, read.relations.names
    return [(entities[head], relations[relation], entities[tail]) for head, relation, tail in read.triples.tolist()]


@pytest.mark.parametrize(
    "name, separator, header, columns",
    [
        ("facts.tsv", "\t", (), Columns()),
        ("facts.txt.gz", "\t", (), Columns()),
        ("facts.csv", ",", (), Columns()),
        ("facts.CSV.gz", ",", ("head", "relation", "tail"), Columns(header=True)),
        ("facts.tsv", "\t", ("head", "relation", "tail"), Columns(("head", "relation", "tail"))),
    ],
)
def test_every_form_gives_the_same_facts(tmp_path, monkeypatch, name, separator, header, columns):
    monkeypatch.setattr(module, "CHUNK", 2)
    read = read_triples(write(tmp_path / name, FACTS, separator, header), columns)
    assert facts_of(read) == FACTS and read.triples.dtype == np.int64
    assert read.entities.names == ("aspirin", "pain", "flu")  # numbered as they are read
    assert read.triples.tolist() == [[0, 0, 1], [1, 1, 2], [0, 0, 2]]


def test_columns_by_name_in_any_order_among_others(tmp_path):
    rows = [(tail, "0.9", head, relation) for head, relation, tail in FACTS]
    path = write(tmp_path / "facts.csv", rows, ",", ("object", "weight", "subject", "predicate"))
    assert facts_of(read_triples(path, Columns(("subject", "predicate", "object")))) == FACTS
    with pytest.raises(
        ValueError, match=r"facts.csv:1: no column 'verb' in the header, which has \['object', 'weight'"
    ):
        read_triples(path, Columns(("subject", "verb", "object")))


def test_quotes_spaces_blank_lines_and_windows_files(tmp_path):
    path = tmp_path / "facts.csv"
    path.write_bytes(b'\xef\xbb\xbf"Smith, John",  knows,  Eve\r\n\r\n  \r\n,,\r\nEve,knows,"Smith, John"\r\n')
    assert facts_of(read_triples(path)) == [("Smith, John", "knows", "Eve"), ("Eve", "knows", "Smith, John")]


def test_the_last_suffix_tells_the_form(tmp_path):
    path = tmp_path / "facts.csv.tsv"
    path.write_text("Smith, John\tknows\tEve\n")
    assert facts_of(read_triples(path)) == [("Smith, John", "knows", "Eve")]


def test_a_repeated_fact_counts_once(tmp_path):
    read = read_triples(write(tmp_path / "facts.txt", [*FACTS, FACTS[1], FACTS[0]]))
    assert facts_of(read) == FACTS
    assert read.notes == (f"{tmp_path}/facts.txt: 2 lines repeat a fact, which counts once",)


def test_names_of_another_file_keep_their_numbers(tmp_path):
    first = read_triples(write(tmp_path / "first.txt", FACTS))
    second = write(tmp_path / "second.txt", [("flu", "treats", "love")])
    read = read_triples(second, Columns(), first.entities, first.relations, new_relations=False)
    assert read.triples.tolist() == [[2, 0, 3]] and len(first.entities) == 4


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "facts.txt has no facts; expected lines head, relation, tail"),
        (b"\n \n", "has no facts"),
        (b"a\tb\tc\na\tb\n", r"facts.txt:2: expected head, relation and tail, found 2 column\(s\): \['a', 'b'\]"),
        (b"a,b,c\n", "columns are separated by tabs, or by commas in a file called .csv"),
        (b"a\tb\tc\n\na\t \tc\n", "facts.txt:3: .* one of them is empty"),
        (b"a\tb\t\xff\n", "facts.txt is not UTF-8 text; save it as UTF-8"),
        (b"a\ttreat\tc\n", "facts.txt:1: no relation is called 'treat'; did you mean 'treats'?"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_line(tmp_path, content, message):
    (tmp_path / "facts.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_triples(tmp_path / "facts.txt", relations=Names(["treats", "b"], "relation"), new_relations=False)


@pytest.mark.parametrize(
    "content, message",
    [
        (b'a,is,b\n"5" pipe,is,thing\n', r"facts.csv:2: not valid CSV: .*; is a quote missing\?"),
        (b"a,is,b\n\n" + b"a" * 131_073 + b",is,b\n", "facts.csv:3: not valid CSV: field larger than field limit"),
        ("a,is,b\n".encode("utf-16"), "facts.csv is UTF-16 text; expected UTF-8: save it as UTF-8"),
    ],
)
def test_csv_that_cannot_be_read_is_named_as_in_other_tables(tmp_path, content, message):
    for name, pack in (("facts.csv", bytes), ("facts.csv.gz", gzip.compress)):
        (tmp_path / name).write_bytes(pack(content))
        with pytest.raises(ValueError, match=message.replace("facts.csv", name)):
            read_triples(tmp_path / name)


def test_a_header_is_the_first_line_that_is_not_blank(tmp_path):
    path = tmp_path / "facts.csv"
    path.write_text('\n"sub\nject",predicate,object,source\nflu,has,fever,x\nflu,has,pain,y\n')
    columns = Columns(("sub\nject", "object", "source"))
    assert facts_of(read_triples(path, columns)) == [("flu", "fever", "x"), ("flu", "pain", "y")]
    assert facts_of(read_triples(path, Columns(header=True))) == [("flu", "has", "fever"), ("flu", "has", "pain")]
    with pytest.raises(ValueError, match=r"columns=\['object', 'source', 'object'\] names a column twice"):
        read_triples(path, Columns(("object", "source", "object")))
    path.write_text("a,b,a\nx,y,z\n")
    with pytest.raises(ValueError, match=r"facts.csv:1: the column 'a' appears 2 times; expected it once"):
        read_triples(path, Columns(("a", "b", "a")))


def test_a_header_that_was_read_as_a_fact_is_told(tmp_path):
    facts = [(f"e{n}", "r", f"e{n + 1}") for n in range(12)]
    (note,) = read_triples(write(tmp_path / "facts.txt", [("subject", "predicate", "object"), *facts])).notes
    assert note.endswith("subject, predicate, object, is read as a fact; for a header set data.header=true")
    assert read_triples(write(tmp_path / "facts.txt", facts)).notes == ()


def test_a_fact_that_was_skipped_as_a_header_is_told(tmp_path):
    (note,) = read_triples(write(tmp_path / "facts.txt", FACTS), Columns(header=True)).notes
    assert note.endswith(
        "the first line, aspirin, treats, pain, is skipped as a header; for a fact set data.header=false"
    )
    for header, columns in (
        (("Subject", "Predicate", "Object"), Columns(header=True)),
        (("a", "b", "c"), Columns(("a", "b", "c"), header=True)),
    ):
        assert read_triples(write(tmp_path / "facts.txt", FACTS, header=header), columns).notes == ()


def test_files_that_were_joined_and_names_that_are_no_part_of_a_line(tmp_path):
    path = tmp_path / "facts.csv"
    path.write_text("\ufeffflu,has,fever\n\ufeffflu,has,pain\n")
    assert read_triples(path).entities.names == ("flu", "fever", "pain")
    for name in ('"has\nhad"', "has\0"):
        path.write_text(f"flu,{name},fever\n")
        with pytest.raises(ValueError, match=r"facts.csv: the name 'has.* has a line break or NUL"):
            read_triples(path)


def test_an_archive_with_flipped_bits_is_read_or_named(tmp_path):
    intact, num_named = write(tmp_path / "facts.txt.gz", [(f"e{n}", "r", f"e{n * n}") for n in range(300)]), 0
    for path in copies_with_a_flipped_bit(intact, 200):
        try:
            read_triples(path)
        except ValueError as error:
            num_named += str(path) in str(error)
    assert num_named > 150


def test_a_cut_archive_and_a_missing_file_are_named(tmp_path):
    path = write(tmp_path / "facts.txt.gz", FACTS * 50)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(ValueError, match=re.escape(f"{path} cannot be read")):
        read_triples(path)
    with pytest.raises(FileNotFoundError, match=r"has no 'fact.txt.gz'; did you mean 'facts.txt.gz'"):
        read_triples(tmp_path / "fact.txt.gz")


def test_the_nearest_of_many_names_is_found_fast():
    names = Names([f"/m/{number:05x}" for number in range(40_000)] + ["Marie Curie"])
    with pytest.raises(ValueError, match=r"no entity is called 'marie curie'; did you mean 'Marie Curie'\?"):
        names.number("marie curie")
    assert names.number("/m/00003") == 3 and "/m/00003" in names and names[4] == "/m/00004"


def test_every_fact_is_an_edge_and_its_inverse():
    triples = np.array([[0, 1, 2], [2, 0, 2]])
    graph = knowledge_graph(triples, num_entities=4, num_relations=2)
    assert graph.edge_index.tolist() == [[0, 2, 2, 2], [2, 2, 0, 2]]
    assert graph.edge_type.tolist() == [1, 0, 3, 2] and graph.num_nodes == 4


def test_numbers_that_do_not_fit_are_refused():
    with pytest.raises(OverflowError, match=r"more than 2\^63 facts"):
        module.fact_keys(np.zeros((1, 3), dtype=np.int64), 2**31, 4)
