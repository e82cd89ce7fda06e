"""Files, folders and pairs of folders, under every protocol."""

import numpy as np
import pytest

from datasets.graphs import read_splits

OTHER = {"train": ["u r v", "v s w"], "valid": ["u s w"], "test": ["w r u", "v r u"]}
SAME = {"train": ["a r b", "b s c", "c r d"], "valid": ["a s c"], "test": ["a r d", "d s x"]}


def write(folder, parts, suffix=".txt"):
    folder.mkdir(parents=True)
    for part, facts in parts.items():
        (folder / f"{part}{suffix}").write_text("".join("\t".join(fact.split()) + "\n" for fact in facts))
    return folder


def named(facts, entities, relations):
    return {f"{entities[head]} {relations[relation]} {entities[tail]}" for head, relation, tail in facts.tolist()}


def parts_of(questions, splits):
    return [
        named(part, questions.entities, splits.relations)
        for part in (questions.facts, questions.asked, questions.known)
    ]


def test_a_folder_with_all_parts(tmp_path):
    splits = read_splits(write(tmp_path / "set", SAME))
    train, valid, test = (set(SAME[part]) for part in ("train", "valid", "test"))
    assert named(splits.train, splits.entities, splits.relations) == train
    assert parts_of(splits.valid, splits) == [train, valid, train | valid | test]
    assert parts_of(splits.test, splits) == [train, test, train | valid | test]
    assert len(splits.entities) == 5  # x stands in test.txt only
    assert splits.notes == ("test: 1 of the 2 facts to ask for have an entity without known facts",)


@pytest.mark.parametrize(
    "protocol, asked, known",
    [
        ("ind_test", ["test"], ["train", "test"]),
        ("ind_valid_test", ["valid", "test"], ["train", "valid", "test"]),
        ("facts", ["test"], ["train"]),
    ],
)
def test_another_graph_by_each_protocol(tmp_path, protocol, asked, known):
    train, other = write(tmp_path / "set", SAME), write(tmp_path / "set_ind", OTHER)
    splits = read_splits(train, test=other, protocol=protocol)
    facts, questions, filtered = parts_of(splits.test, splits)
    assert facts == set(OTHER["train"])
    assert questions == {fact for part in asked for fact in OTHER[part]}
    assert filtered == {fact for part in known for fact in OTHER[part]}
    assert splits.test.entities.names == ("u", "v", "w")  # nothing of the other graph is known by name
    assert parts_of(splits.valid, splits)[1] == set(SAME["valid"])


def test_a_share_is_held_out_by_the_facts_alone(tmp_path):
    facts = [f"e{number % 40} r{number % 3} e{(7 * number) % 41}" for number in range(400)]
    one = write(tmp_path / "one", {"train": facts})
    other = write(tmp_path / "other", {"train": facts[::-1][:300]})
    splits, again = read_splits(one / "train.txt", 0.2), read_splits(other / "train.txt", 0.2)
    held, held_again = (named(s.valid.asked, s.entities, s.relations) for s in (splits, again))
    assert 0.12 < len(held) / len(splits.train) < 0.4
    assert held_again == held & set(facts[::-1][:300])  # order and other facts change nothing
    train = named(splits.train, splits.entities, splits.relations)
    assert not train & held and train | held == set(facts)
    assert named(read_splits(one, 0.2, seed=1).valid.asked, splits.entities, splits.relations) != held
    assert f"of the {len(set(facts))} facts are held out for validation" in splits.notes[-1]


def test_no_relation_is_held_out_as_a_whole(tmp_path):
    facts = [f"e{number} r{number} e{number + 1}" for number in range(30)] + ["a many b", "b many c", "c many d"]
    splits = read_splits(write(tmp_path / "set", {"train": facts}) / "train.txt", 0.7)
    assert len(np.unique(splits.train[:, 1])) == 31


def test_overlap_and_repeats_are_told(tmp_path):
    parts = {"train": [*SAME["train"], "a r b"], "valid": ["a s c"], "test": ["a r b", "a r c"]}
    notes = read_splits(write(tmp_path / "set", parts)).notes
    assert "1 lines repeat a fact" in notes[0]
    assert notes[1] == "test: 1 of the 2 facts to ask for are in the graph, which makes them easy"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"train": ["u never v"]}, r"set_ind/train.txt:1: no relation is called 'never'"),
        ({"test": None}, "has no test.txt, test.tsv or test.csv, also .gz"),
        ({"train": []}, "train.txt has no facts"),
    ],
)
def test_what_another_graph_lacks_is_named(tmp_path, change, message):
    parts = {part: facts for part, facts in (OTHER | change).items() if facts is not None}
    train, other = write(tmp_path / "set", SAME), write(tmp_path / "set_ind", parts)
    with pytest.raises((OSError, ValueError), match=message):
        read_splits(train, test=other)


def test_other_mistakes_are_named(tmp_path):
    folder = write(tmp_path / "set", SAME)
    with pytest.raises(ValueError, match="protocol must be one of ind_test, ind_valid_test, facts, not 'x'"):
        read_splits(folder, protocol="x")
    with pytest.raises(ValueError, match="holds out none of 3 facts; name a file of facts to ask for"):
        read_splits(folder / "train.txt", 0.0001)
    write(tmp_path / "more", SAME, ".tsv")
    (tmp_path / "more/train.csv").write_text("a,r,b\n")
    with pytest.raises(ValueError, match=r"has train\.tsv and train\.csv; expected one of them"):
        read_splits(tmp_path / "more")
