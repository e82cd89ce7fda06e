"""The synthetic families: derived facts follow from the rules, what is asked is told nowhere, folders are complete."""

import json
from collections import Counter, defaultdict

import pytest

from datasets.synthetic import families
from datasets.synthetic.families import DERIVED, RULES, draw_family, make_families, planted_paths

SMALL = {"num_train": 6, "num_test": 4, "seed": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_families(tmp_path_factory.mktemp("demo") / "kg_family", **SMALL)


def read(path):
    return [tuple(line.split("\t")) for line in path.read_text().splitlines()]


def follows(facts):
    """Every triple that follows from a rule, by going through all pairs of facts -> the pairs."""
    found = defaultdict(list)
    for one in facts:
        for two in facts:
            first, second = (fact[1].removesuffix("_of") for fact in (one, two))
            if one[2] == two[0] and second in ("father", "mother") and (first, "parent") in RULES:
                found[one[0], RULES[first, "parent"], two[2]].append((one, two))
    return found


@pytest.mark.parametrize("by_group", [False, True])
@pytest.mark.parametrize("number", range(15))
def test_what_is_told_and_asked_is_all_that_follows_each_in_one_way(number, by_group):
    family = draw_family(5, number, by_group)
    expected = follows(family.facts)
    rows = family.told + family.asked
    assert Counter(row.triple for row in rows) == Counter(dict.fromkeys(expected, 1)) and family.asked
    assert all(expected[row.triple] == [row.paths[0]] for row in rows)
    for (head, relation, _), (_, *other) in rows:
        assert len(other) == relation.startswith(("uncle", "aunt"))
        assert all(one[2] == head and one[1] in ("brother_of", "sister_of") for one, _ in other)
    assert len(set(family.facts)) == len(family.facts) and not {fact[1] for fact in family.facts} & set(DERIVED)


def test_of_a_person_who_is_asked_about_in_other_families_no_rule_is_told():
    for is_unseen in (False, True):
        rows = [draw_family(1, number, is_unseen) for number in range(60)]
        both = [{row.triple[2] for row in one.told} & {row.triple[2] for row in one.asked} for one in rows]
        assert any(both) != is_unseen
        num_told, num_asked = (sum(len(one[part]) for one in rows) for part in (1, 2))
        assert 0.25 < num_told / (num_told + num_asked) < 0.4


def test_a_family_makes_sense():
    sexes = {"father": True, "mother": False, "brother": True, "sister": False, "husband": True, "wife": False}
    for family in (draw_family(2, number, True) for number in range(60)):
        men, parents, married = defaultdict(set), defaultdict(Counter), set()
        for head, relation, tail in family.facts:
            kind = relation.removesuffix("_of")
            men[head].add(sexes[kind])
            if kind in ("father", "mother"):
                parents[tail][kind] += 1
            if kind in ("husband", "wife"):
                married.add((head, tail))
        assert all(len(is_man) == 1 for is_man in men.values())
        assert all(set(count.values()) == {1} for count in parents.values())
        assert {(two, one) for one, two in married} == married


def test_other_families_are_never_seen(folder):
    people = {}
    for name in ("families", "families_ind"):
        facts, asked = read(folder / name / "train.txt"), read(folder / name / "valid.txt")
        asked += read(folder / name / "test.txt")
        people[name] = {end for fact in facts for end in (fact[0], fact[2])}
        assert {end for fact in asked for end in (fact[0], fact[2])} <= people[name]
        assert not set(facts) & set(asked) and len({*facts, *asked}) == len(facts) + len(asked)
        assert {fact[1] for fact in asked} <= set(DERIVED)
    assert not people["families"] & people["families_ind"]
    assert set(DERIVED) < {fact[1] for fact in read(folder / "families/train.txt")}


def test_a_family_is_asked_about_in_one_file(folder):
    numbers = [
        {end.split("_")[1] for fact in read(folder / f"families_ind/{split}.txt") for end in (fact[0], fact[2])}
        for split in ("valid", "test")
    ]
    assert [sorted(number) for number in numbers] == [["7", "9"], ["6", "8"]]


def test_planted_paths_are_facts_and_cover_what_is_asked(folder):
    paths, facts = planted_paths(folder), set(read(folder / "families_ind/train.txt"))
    assert set(paths) == set(read(folder / "families_ind/valid.txt") + read(folder / "families_ind/test.txt"))
    for (head, _, tail), ways in paths.items():
        for one, two in ways:
            assert {one[0], one[2]} == {head, two[0]} and two[2] == tail and {one, two} <= facts


def test_a_complete_set_is_reused_and_other_arguments_are_refused(folder, monkeypatch):
    monkeypatch.setattr(families, "_write_triples", None)
    assert make_families(folder, **SMALL) == folder
    with pytest.raises(FileExistsError, match=r"was made with .*'seed': 3.*, not with .*'seed': 4"):
        make_families(folder, **{**SMALL, "seed": 4})
    assert json.loads((folder / "complete.json").read_text()) == {"version": families.VERSION, **SMALL}


def test_the_same_arguments_make_the_same_files(folder, tmp_path):
    again = make_families(tmp_path / "again", **SMALL)
    other = make_families(tmp_path / "other", **{**SMALL, "seed": 4})
    for path in folder.rglob("*.txt"):
        name = path.relative_to(folder)
        assert path.read_bytes() == (again / name).read_bytes() != (other / name).read_bytes()


def test_other_folders_have_no_planted_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no synthetic set: it has no complete.json"):
        planted_paths(tmp_path)


def test_names_suffice_for_the_largest_family(monkeypatch):
    class Most:
        """Draws what makes the family largest and all children men."""

        def permutation(self, values):
            return list(values)

        def choice(self, values):
            return values[0]

        def integers(self, low, high=None):
            return 1 if high is None else high - 1

        def uniform(self, size=None):
            return 0.0 if size is None else families.np.zeros(size)

    tree = families._Tree(Most(), 0)
    tree.grow()
    assert sum(tree.men.values()) == len(families.MEN.split()) and len(tree.parents) == 4 + 12 + 24
