"""Facts (head, relation, tail) from text files, as numbers, and the graph they form."""

import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch_geometric.data import Data

from datasets.graphs.names import Names
from datasets.text_files import csv_rows_of, existing_path, refuse_utf16, shorten

CHUNK = 200_000  # lines whose names are in memory at a time
HEADINGS = {"head", "subject", "source", "src", "from", "start", "entity1", "h", "s",
            "relation", "predicate", "property", "edge", "label", "type", "rel", "r", "p",
            "tail", "object", "target", "dst", "to", "end", "entity2", "t", "o"}  # fmt: skip
"""Names of columns of facts: a first line with two of these is a header."""
NOT_IN_NAMES = re.compile(r"[\0\n\r]")


class Columns(NamedTuple):
    """The positions of a fact's parts in a line."""

    names: tuple[str, str, str] | None = None
    """The names of the columns of head, relation and tail in the header; None: the first three columns."""
    header: bool = False
    """Whether the first line is a header; with `names` it is."""


FIRST_THREE = Columns()


@dataclass(frozen=True)
class Triples:
    """The facts of one or more files, with one numbering."""

    entities: Names = field(default_factory=lambda: Names(kind="entity"))
    relations: Names = field(default_factory=lambda: Names(kind="relation"))
    triples: np.ndarray = field(default_factory=lambda: np.empty((0, 3), dtype=np.int64))
    """int64 [N, 3]: head, relation, tail; each fact once, in the order of the file."""
    notes: tuple[str, ...] = ()
    """What the user should know about the file, one sentence each."""


def read_triples(
    path: str | Path,
    columns: Columns = FIRST_THREE,
    entities: Names | None = None,
    relations: Names | None = None,
    new_relations: bool = True,
) -> Triples:
    """Reads a file of facts, a line for each: head, relation, tail, and further columns that are not read.

    Columns are separated by commas in files called .csv, or .csv.gz, by tabs in all others. Names get numbers in the
    order in which they are read, heads before tails; a file of N facts needs 24 N bytes and its names.

    Args:
        path: the file, UTF-8; .gz is unpacked.
        columns: the positions of a fact's parts.
          entities, relations: names already numbered; new ones are added to them.
        new_relations: whether a relation may be new.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: a line is not a fact, the file is empty, a name has a line break, or a relation is unknown; the
            message has file and line.
    """
    path = existing_path(Path(path).expanduser(), "file")
    entities = Names(kind="entity") if entities is None else entities
    relations = Names(kind="relation") if relations is None else relations
    number_of = relations.add if new_relations else relations.number
    num_known, parts = len(entities), []
    notes = []
    rows = _rows(path, columns, notes)
    try:
        while chunk := list(islice(rows, CHUNK)):
            part = np.empty((len(chunk), 3), dtype=np.int64)
            for at, (line, head, relation, tail) in enumerate(chunk):
                try:
                    part[at] = entities.add(head), number_of(relation), entities.add(tail)
                except ValueError as error:
                    raise ValueError(f"{path}:{line}: {error}") from None
            parts.append(part)
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text; save it as UTF-8") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if not parts:
        raise ValueError(f"{path} has no facts; expected lines head, relation, tail")
    for name in (*entities.names[num_known:], *relations.names):
        if NOT_IN_NAMES.search(name):
            raise ValueError(f"{path}: the name {shorten(name)} has a line break or NUL; names are parts of a line")
    triples = np.concatenate(parts)
    first = first_of_each(triples, len(entities), len(relations))
    if repeated := len(triples) - len(first):
        notes.append(f"{path}: {repeated} lines repeat a fact, which counts once")
    words = [entities[triples[0, 0]], relations[triples[0, 1]], entities[triples[0, 2]]]
    if columns == FIRST_THREE and _is_heading(words):
        notes.append(
            f"{path}: the first line, {', '.join(words)}, is read as a fact; for a header set data.header=true"
        )
    return Triples(entities, relations, triples[first], tuple(notes))


def _is_heading(words: Sequence[str]) -> bool:
    """Whether the words of a first line look like names of columns."""
    return sum(word.casefold() in HEADINGS for word in words) >= 2


def _rows(path: Path, columns: Columns, notes: list[str]) -> Iterator[tuple[int, str, str, str]]:
    """Line number, head, relation and tail of each line that is not blank. Notes a header that may be a fact."""
    places = (0, 1, 2)
    for row, (number, fields) in enumerate(_fields(path)):
        fields[0] = fields[0].lstrip("\ufeff")  # between files that were joined
        if row == 0 and columns.names is not None:
            places = _places(path, number, fields, columns.names)
            continue
        if row == 0 and columns.header:
            if not _is_heading(fields[:3]):
                words = ", ".join(fields[:3])
                notes.append(
                    f"{path}: the first line, {words}, is skipped as a header; for a fact set data.header=false"
                )
            continue
        if len(fields) <= max(places):
            comma = path.suffixes[:1] != [".csv"] and len(fields) == 1 and fields[0].count(",") >= 2
            hint = "; columns are separated by tabs, or by commas in a file called .csv" if comma else ""
            raise ValueError(
                f"{path}:{number}: expected head, relation and tail, found {len(fields)} column(s): "
                f"{shorten(fields)}{hint}"
            )
        fact = tuple(fields[place] for place in places)
        if not all(fact):
            raise ValueError(
                f"{path}:{number}: expected head, relation and tail, one of them is empty: {shorten(fields)}"
            )
        yield number, *fact


def _places(path: Path, number: int, header: list[str], names: tuple[str, str, str]) -> tuple[int, ...]:
    """Where the columns of these names are."""
    for name in names:
        if name not in header:
            raise ValueError(f"{path}:{number}: no column {name!r} in the header, which has {shorten(header)}")
        if header.count(name) > 1:
            raise ValueError(
                f"{path}:{number}: the column {name!r} appears {header.count(name)} times; expected it once"
            )
    if len(set(names)) < len(names):
        raise ValueError(f"columns={list(names)} names a column twice; expected those of head, relation and tail")
    return tuple(map(header.index, names))


def _fields(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The columns of each line that is not blank, with its number from 1."""
    name = path.name.lower()
    is_csv = name.removesuffix(".gz").endswith(".csv")
    with gzip.open(path) if name.endswith(".gz") else path.open("rb") as binary:
        refuse_utf16(path, binary.peek(2))
        text = io.TextIOWrapper(binary, encoding="utf-8-sig", newline="" if is_csv else None)
        if is_csv:
            yield from csv_rows_of(text, path)
            return
        for number, line in enumerate(text, 1):
            if line.strip():
                yield number, [value.strip() for value in line.rstrip("\n").split("\t")]


def fact_keys(triples: np.ndarray, num_entities: int, num_relations: int) -> np.ndarray:
    """A number for each fact, the same for the same fact: int64 [N].

    Raises OverflowError if there are too many entities and relations to number their facts.
    """
    if num_entities * num_relations * num_entities >= 2**63:
        raise OverflowError(f"{num_entities} entities and {num_relations} relations make more than 2^63 facts")
    return (triples[:, 0] * num_relations + triples[:, 1]) * num_entities + triples[:, 2]


def first_of_each(triples: np.ndarray, num_entities: int, num_relations: int) -> np.ndarray:
    """The rows [M], ascending, of the first occurrence of each fact."""
    _, first = np.unique(fact_keys(triples, num_entities, num_relations), return_index=True)
    return np.sort(first)


def knowledge_graph(triples: np.ndarray, num_entities: int, num_relations: int) -> Data:
    """The graph of the facts [N, 3], with an edge from head to tail for each, and its inverse.

    Edge i < N is fact i; edge N + i is its inverse, from tail to head, of type r + num_relations. Inverses are made
    here and nowhere else.

    Returns:
        Data with edge_index int64 [2, 2 N], edge_type [2 N] and num_nodes.
    """
    heads, relations, tails = (torch.from_numpy(np.ascontiguousarray(column)) for column in triples.T)
    return Data(
        edge_index=torch.stack([torch.cat([heads, tails]), torch.cat([tails, heads])]),
        edge_type=torch.cat([relations, relations + num_relations]),
        num_nodes=num_entities,
    )


def facts_of(graph: Data) -> np.ndarray:
    """The facts int64 [N, 3] of a graph made by `knowledge_graph`."""
    num_facts = graph.num_edges // 2
    heads, tails = graph.edge_index[:, :num_facts].cpu().numpy()
    return np.stack([heads, graph.edge_type[:num_facts].cpu().numpy(), tails], axis=1)
