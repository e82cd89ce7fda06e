"""Families: a small synthetic knowledge graph in which two facts make a person a grandparent, an uncle or an aunt.

Four generations of people, related only by parents, brothers and sisters, and marriages. The relations show who is male
and who is female. A rule takes two steps through a third person:

    grandfather_of, grandmother_of      father_of or mother_of, then father_of or mother_of
    uncle_of, aunt_of                   brother_of or sister_of, then father_of or mother_of

Some parents and some marriages are left out, so that detours, such as by the grandmother's husband, are less certain.

As in GraIL's pairs of graphs, a network learns on some families and answers on others, none of whose members it has
seen. For training, a random third of the derived facts is given. In the other families they are given for some groups
of brothers and sisters and asked for the others, so that no other derived fact about a grandchild, nephew or niece in a
question gives it away.
"""

from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import Field

from datasets.synthetic.folder import arguments_of, make_folder_once
from settings import Settings

TRAINING, UNSEEN = "families", "families_ind"
"""The folders of the training families and of the test families."""
# Enough for the largest family: one of each couple is a man, so there are at most 1 + 4 + 12 + 24 men.
MEN = (
    "Adam Alan Basil Boris Carl Cyril David Denis Edgar Emil Felix Frank George Guido Harry Hugo Ivan Jacob John Karim "
    "Leon Louis Marco Max Nils Noah Oscar Otto Paul Peter Ralph Rudi Simon Sven Theo Tomas Ulf Victor Walt Yuri Zeno"
)
WOMEN = (
    "Ada Alma Bella Britta Clara Cora Dana Doris Edith Emma Fiona Flora Gerda Grace Hanna Helen Ida Irene Jane Julia "
    "Karin Kate Laura Lena Maria Mona Nadia Nora Olga Opal Paula Pia Rita Rosa Sofia Susan Tanya Thea Ursula Vera Zoe"
)
RULES = {("father", "parent"): "grandfather_of", ("mother", "parent"): "grandmother_of",
         ("brother", "parent"): "uncle_of", ("sister", "parent"): "aunt_of"}  # fmt: skip
DERIVED = tuple(RULES.values())
"""The relations that follow from rules."""
BOTH_PARENTS = 0.6  # fraction of the groups of brothers and sisters with both parents given, not one
MARRIAGES = 0.5  # fraction of the marriages that are given
MARRIED = 0.7  # fraction of the first couple's children, and of their children, who have children
TOLD = 0.33  # fraction of the derived facts that is given
VERSION = 1  # of the whole set: a new number makes existing folders count as other data

Triple = tuple[str, str, str]
"""Head, relation, tail."""
TwoFacts = tuple[Triple, Triple]


class FamiliesSettings(Settings):
    """The set that `make_families` makes."""

    num_train: int = Field(40, ge=2, le=100_000, description="number of families to train on")
    num_test: int = Field(10, ge=2, le=100_000, description="number of other families, to answer on")
    seed: int = Field(0, ge=0, description="seed of all random numbers")


class Derived(NamedTuple):
    """A triple that follows from a rule."""

    triple: Triple
    paths: tuple[TwoFacts, ...]
    """The two facts it follows from: from head to third person, from third person to tail. A fact about either of two
    siblings states that they are siblings; then there are two paths."""


class Family(NamedTuple):
    """The given facts of a family, and the questions about it."""

    facts: list[Triple]
    """Parents, brothers and sisters, marriages, in an order that reveals nothing."""
    told: list[Derived]
    asked: list[Derived]


def make_families(folder: str | Path, num_train: int = 40, num_test: int = 10, seed: int = 0) -> Path:
    """Writes the set as files of triples, unless the folder has it already, and returns the folder.

        folder/families/train.txt          facts of the families to train on: head, relation, tail, separated by tabs
        folder/families/valid.txt, test.txt        the questions about them, each family in one of the two
        folder/families_ind/train.txt, valid.txt, test.txt        the same for other families

    Args:
        num_train, num_test: number of families to train on, and of others.
        seed: of all random numbers.

    Raises:
        FileExistsError: the folder holds other files, or a set made with other arguments.
    """
    arguments = {"num_train": num_train, "num_test": num_test, "seed": seed}

    def build(staging: Path) -> None:
        for name in (TRAINING, UNSEEN):
            families = _families_of(name, arguments)
            facts = [fact for family in families for fact in (*family.facts, *(row.triple for row in family.told))]
            _write_triples(staging / name / "train.txt", facts)
            _write_triples(staging / name / "valid.txt", _asked(families[1::2]))
            _write_triples(staging / name / "test.txt", _asked(families[0::2]))

    return make_folder_once(folder, {"version": VERSION, **arguments}, build)


def planted_paths(folder: str | Path) -> dict[Triple, tuple[TwoFacts, ...]]:
    """Each asked triple of the families not trained on (valid.txt and test.txt) -> `Derived.paths`.

    Raises:
        FileNotFoundError: the folder holds no such set.
    """
    families = _families_of(UNSEEN, arguments_of(folder))
    return {row.triple: row.paths for family in families for row in family.asked}


def _families_of(name: str, arguments: dict[str, int]) -> list[Family]:
    first = 0 if name == TRAINING else arguments["num_train"]
    count = arguments["num_train"] if name == TRAINING else arguments["num_test"]
    return [draw_family(arguments["seed"], number, name == UNSEEN) for number in range(first, first + count)]


def _asked(families: list[Family]) -> list[Triple]:
    return [row.triple for family in families for row in family.asked]


def _write_triples(path: Path, triples: list[Triple]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(triple) + "\n" for triple in triples))


def draw_family(seed: int, number: int, by_group: bool) -> Family:
    """Family `number` of a set, a function of the arguments. Its people have names like `Ada_12`: of family 12.

    Args:
        by_group: facts about siblings are all given or all asked; else each triple is given or asked.
    """
    tree = _Tree(np.random.default_rng((seed, number)), number)
    tree.grow()
    derived = [(row, tree.parents[row.triple[2]] if by_group else row.triple) for row in tree.derived()]
    groups = sorted({group for _, group in derived})
    is_told = tree.rng.uniform(size=len(groups)) < TOLD
    is_told[tree.rng.integers(len(groups))] = False  # every family has questions
    told = {group for group, is_one in zip(groups, is_told, strict=True) if is_one}
    facts = tree.facts()
    facts = [facts[row] for row in tree.rng.permutation(len(facts))]
    rows = [row for row, group in derived if group in told], [row for row, group in derived if group not in told]
    return Family(facts, *rows)


class _Tree:
    """People of a family: their sex, their parents (father, mother), their spouses."""

    def __init__(self, rng: np.random.Generator, number: int):
        self.rng = rng
        self._names = {is_man: [f"{name}_{number}" for name in rng.permutation(names)]
                       for is_man, names in ((True, MEN.split()), (False, WOMEN.split()))}  # fmt: skip
        self.men: dict[str, bool] = {}
        self.parents: dict[str, tuple[str, str]] = {}
        self.couples: list[tuple[str, str]] = []
        self.told_parents: dict[tuple[str, str], tuple[int, ...]] = {}
        """Which of a couple are given as parents: 0, 1 or both."""

    def grow(self) -> None:
        """Four generations: the first couple has 2 to 4 children, those after it have 1 to 3, the last ones 1 or 2."""
        generation = self._children(self._marry(self._person(True)), self.rng.integers(2, 5))
        for most in (3, 2):
            have_children = self.rng.uniform(size=len(generation)) < MARRIED
            have_children[0] = True  # four generations in every family
            couples = [self._marry(person) for person, has in zip(generation, have_children, strict=True) if has]
            families = [self._children(couple, self.rng.integers(1, most + 1)) for couple in couples]
            generation = [child for children in families for child in children]

    def _person(self, is_man: bool) -> str:
        name = self._names[is_man].pop()
        self.men[name] = is_man
        return name

    def _marry(self, person: str) -> tuple[str, str]:
        spouse = self._person(not self.men[person])
        couple = (person, spouse) if self.men[person] else (spouse, person)
        self.couples.append(couple)
        return couple

    def _children(self, couple: tuple[str, str], count: int) -> list[str]:
        children = [self._person(bool(self.rng.integers(2))) for _ in range(count)]
        self.parents.update(dict.fromkeys(children, couple))
        of_family = [number for number, person in enumerate(couple) if person in self.parents] or [0, 1]
        one = int(self.rng.choice(of_family))  # so that every family has derived facts
        self.told_parents[couple] = (0, 1) if self.rng.uniform() < BOTH_PARENTS else (one,)
        return children

    def _siblings(self) -> list[tuple[str, str]]:
        return [pair for pair in permutations(self.parents, 2) if self.parents[pair[0]] == self.parents[pair[1]]]

    def _steps(self) -> dict[str, list[Triple]]:
        """Facts by kind: `parent`, and the four first steps of rules."""
        parent = [(couple[is_mother], ("father_of", "mother_of")[is_mother], child)
                  for child, couple in self.parents.items() for is_mother in self.told_parents[couple]]  # fmt: skip
        sibling = [(one, "brother_of" if self.men[one] else "sister_of", other) for one, other in self._siblings()]
        kinds = ("father", "mother", "brother", "sister")
        return {"parent": parent} | {
            kind: [fact for fact in parent + sibling if fact[1] == f"{kind}_of"] for kind in kinds
        }

    def facts(self) -> list[Triple]:
        steps = self._steps()
        is_told = self.rng.uniform(size=len(self.couples)) < MARRIAGES
        told = [couple for couple, is_one in zip(self.couples, is_told, strict=True) if is_one]
        marriages = [fact for man, woman in told for fact in ((man, "husband_of", woman), (woman, "wife_of", man))]
        return steps["parent"] + steps["brother"] + steps["sister"] + marriages

    def derived(self) -> list[Derived]:
        """All triples that follow from the rules, each with one third person: a parent of the tail."""
        steps = self._steps()
        siblings = {(fact[0], fact[2]): fact for fact in steps["brother"] + steps["sister"]}
        return [
            Derived(
                (one[0], relation, two[2]), tuple((fact, two) for fact in (one, siblings.get((one[2], one[0]))) if fact)
            )
            for (first, second), relation in RULES.items()
            for one in steps[first]
            for two in steps[second]
            if one[2] == two[0]
        ]
