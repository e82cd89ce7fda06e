"""The training facts and questions of networks for knowledge graphs: files, folders, GraIL's pairs of folders.

Protocols for a test on another graph, which share one name in the literature:

    ind_test          test.txt is asked; its facts and test.txt are known. NBFNet-PyG and ULTRA ask so
    ind_valid_test    valid.txt and test.txt are asked; all is known. The tables of RED-GNN and A*Net
    facts             test.txt is asked; only its facts are known. NBFNet-PyG's own filter

Known answers are left out of the ranking, except the one asked for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from datasets.graphs.names import Names
from datasets.graphs.triples import FIRST_THREE, Columns, Triples, fact_keys, first_of_each, read_triples
from datasets.held_out import is_in_share
from datasets.text_files import existing_path

Protocol = Literal["ind_test", "ind_valid_test", "facts"]
PROTOCOLS = get_args(Protocol)
SHARE = 0.1  # fraction of the facts held out for questions by default
FILES = {"train": ("train",), "valid": ("valid", "val", "dev"), "test": ("test",)}
SUFFIXES = tuple(f"{kind}{packed}" for kind in (".txt", ".tsv", ".csv") for packed in ("", ".gz"))


@dataclass(frozen=True)
class GraphQuestions:
    """Facts to ask for on a graph, with one numbering of names."""

    entities: Names
    facts: np.ndarray
    """int64 [N, 3]: the graph."""
    asked: np.ndarray
    """int64 [M, 3]."""
    known: np.ndarray
    """int64 [K, 3]: facts whose answers are left out of the ranking."""


@dataclass(frozen=True)
class KnowledgeSplits:
    """A training graph, and questions."""

    entities: Names
    """Of the training graph, and of what is asked on it."""
    relations: Names
    num_train_entities: int
    """Those of the training file, which come first."""
    train: np.ndarray
    """int64 [N, 3]: the facts of the training graph."""
    valid: GraphQuestions
    test: GraphQuestions | None
    holds_out: bool
    """Whether `valid` asks for facts of the training file that were held out."""
    notes: tuple[str, ...]
    """What the user should know about the files, one sentence each."""


def read_splits(
    train: str | Path,
    val: str | Path | float | None = None,
    test: str | Path | None = None,
    protocol: Protocol = "ind_test",
    seed: int = 0,
    columns: Columns = FIRST_THREE,
    relations: Names | None = None,
) -> KnowledgeSplits:
    """Reads the facts of a recipe.

    Args:
        train: a file of facts (see `read_triples`), or a folder with train.txt, also .tsv or .csv, also .gz; its
            valid.txt and test.txt are taken where `val` and `test` are None.
        val: a file of facts to ask for; or the fraction of the training facts to hold out, chosen by `seed` and each
           fact alone; None without a file: a tenth.
        test: a file of facts to ask for on the training graph; or a folder with another graph, train.txt, of the same
            relations, and facts to ask for on it.
        protocol: of a folder as `test`, one of `PROTOCOLS`.
        seed: of the held-out fraction.
        columns: of all files.
        relations: those already numbered; the files may have no others. None: those of the training file.

    Raises:
        OSError, ValueError: as in `read_triples`; a folder lacks a file; a relation was never trained.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, not {protocol!r}")
    train = existing_path(Path(train).expanduser(), "file or folder")
    if train.is_dir():
        folder, train = train, _file_in(train, "train")
        val = _file_in(folder, "valid", optional=True) if val is None else val
        test = _file_in(folder, "test", optional=True) if test is None else test
    facts = read_triples(train, columns, None, relations, new_relations=relations is None)
    entities, relations, notes = facts.entities, facts.relations, [*facts.notes]
    num_train_entities = len(entities)
    holds_out = val is None or isinstance(val, float)
    if holds_out:
        held = _held_out(facts, SHARE if val is None else val, seed)
        learned, valid = facts.triples[~held], facts.triples[held]
        notes.append(f"{train}: {len(valid)} of the {len(held)} facts are held out for validation")
    else:
        learned = facts.triples
        valid = _read_asked(Path(val), columns, entities, relations, notes)
    other = None if test is None else existing_path(Path(test).expanduser(), "file or folder")
    tested = np.empty((0, 3), dtype=np.int64)
    if other is not None and other.is_file():
        tested = _read_asked(other, columns, entities, relations, notes)
    known = _distinct((learned, valid, tested), entities, relations)
    valid_questions = GraphQuestions(entities, learned, valid, known)
    notes += _remarks("validation", valid_questions, len(relations))
    test_questions = None
    if other is not None:
        if other.is_file():
            test_questions = GraphQuestions(entities, learned, tested, known)
        else:
            test_questions = _other_graph(other, protocol, columns, relations, notes)
        notes += _remarks("test", test_questions, len(relations))
    parts = learned, valid_questions, test_questions, holds_out
    return KnowledgeSplits(entities, relations, num_train_entities, *parts, tuple(notes))


def _other_graph(
    folder: Path, protocol: Protocol, columns: Columns, relations: Names, notes: list[str]
) -> GraphQuestions:
    """The questions on the graph in `folder`, by a protocol."""
    path = _file_in(folder, "train")
    facts = read_triples(path, columns, None, relations, new_relations=False)
    notes += facts.notes
    entities = facts.entities
    asked = _read_asked(_file_in(folder, "test"), columns, entities, relations, notes)
    if protocol == "ind_test":
        return GraphQuestions(entities, facts.triples, asked, _distinct((facts.triples, asked), entities, relations))
    if protocol == "facts":
        return GraphQuestions(entities, facts.triples, asked, facts.triples)
    valid = _read_asked(_file_in(folder, "valid"), columns, entities, relations, notes)
    both = np.concatenate([valid, asked])
    return GraphQuestions(entities, facts.triples, both, _distinct((facts.triples, both), entities, relations))


def _distinct(parts: Sequence[np.ndarray], entities: Names, relations: Names) -> np.ndarray:
    """The facts of several arrays, each once."""
    facts = np.concatenate(parts)
    return facts[first_of_each(facts, len(entities), len(relations))]


def _file_in(folder: Path, part: str, optional: bool = False) -> Path | None:
    """The file of a part in a folder; None if it is missing and `optional`."""
    names = [f"{name}{suffix}" for name in FILES[part] for suffix in SUFFIXES]
    found = [folder / name for name in names if (folder / name).is_file()]
    if len(found) > 1:
        raise ValueError(f"{folder} has {found[0].name} and {found[1].name}; expected one of them")
    if not found and not optional:
        raise FileNotFoundError(f"{folder} has no {part}.txt, {part}.tsv or {part}.csv, also .gz")
    return found[0] if found else None


def _read_asked(path: Path, columns: Columns, entities: Names, relations: Names, notes: list[str]) -> np.ndarray:
    facts = read_triples(path, columns, entities, relations, new_relations=False)
    notes += facts.notes
    return facts.triples


def _held_out(facts: Triples, share: float, seed: int) -> np.ndarray:
    """Which facts are held out, bool [N]: by a hash of seed and names, independent of other facts and their order.

    A relation is never held out completely: nothing could be learned about it.
    """
    entities, relations = facts.entities.names, facts.relations.names
    held = np.empty(len(facts.triples), dtype=bool)
    parts = np.array_split(facts.triples, 1 + len(facts.triples) // 2**16)  # lists of millions would take gigabytes
    rows = chain.from_iterable(part.tolist() for part in parts)
    for at, (head, relation, tail) in enumerate(rows):
        text = "\t".join((str(seed), entities[head], relations[relation], entities[tail]))
        held[at] = is_in_share(text, share)
    learned = np.bincount(facts.triples[~held, 1], minlength=len(relations))
    held &= learned[facts.triples[:, 1]] > 0
    if held.all() or not held.any():
        which = "all" if held.any() else "none"
        raise ValueError(
            f"a fraction of {share} holds out {which} of {len(held)} facts; name a file of facts to ask for"
        )
    return held


def _remarks(what: str, questions: GraphQuestions, num_relations: int) -> Iterator[str]:
    """What makes questions easy or impossible."""
    keys = (fact_keys(part, len(questions.entities), num_relations) for part in (questions.asked, questions.facts))
    num_asked = len(questions.asked)
    if overlap := int(np.isin(*keys).sum()):
        yield f"{what}: {overlap} of the {num_asked} facts to ask for are in the graph, which makes them easy"
    has_fact = np.zeros(len(questions.entities), dtype=bool)
    has_fact[questions.facts[:, [0, 2]]] = True
    if unknown := int((~has_fact[questions.asked[:, [0, 2]]]).any(axis=1).sum()):
        yield f"{what}: {unknown} of the {num_asked} facts to ask for have an entity without known facts"
