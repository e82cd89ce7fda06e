"""Residue graphs: edges equal to their definition, the same from both formats, blind to rotation and translation."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from capabilities import STRUCTURES
from conftest import ROOT
from structures import as_cif, as_pdb, walk

from datasets.file_list import FileError
from datasets.proteins import ResidueGraphSettings, graph_of, read_backbone, residue_graph


def backbone_of(folder, atoms, kind="pdb"):
    path = folder / f"made.{kind}"
    path.write_text({"pdb": as_pdb, "cif": as_cif}[kind](atoms))
    return read_backbone(path)


@pytest.fixture
def atoms():
    second = [atom._replace(chain="B", position=tuple(x + 6 for x in atom.position)) for atom in walk(25, seed=1)]
    return walk(40) + second


def expected_edges(backbone, settings):
    """Sets of (source, target) by the names of relations, by the definition."""
    positions, chains = backbone.positions, backbone.chains
    number = range(len(positions))
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=2)
    edges = {name: set() for name in settings.relations}
    for i in number:
        nearest = sorted((j for j in number if j != i), key=lambda j: distance[i, j])[: settings.num_nearest]
        for j in number:
            if chains[i] == chains[j] and abs(i - j) <= settings.max_offset:
                edges[f"sequential{j - i:+d}"].add((j, i))
            if i != j and abs(i - j) >= settings.min_separation:
                if distance[i, j] < settings.radius:
                    edges["radius"].add((j, i))
                if j in nearest:
                    edges["nearest"].add((j, i))
        if settings.virtual_node:
            edges["to residues"].add((len(positions), i))
            edges["from residues"].add((i, len(positions)))
    return edges


@pytest.mark.parametrize(
    "changes", [{}, {"max_offset": 0, "radius": 6, "num_nearest": 3, "min_separation": 2, "virtual_node": False}]
)
@pytest.mark.parametrize("block", [7, 512])
def test_edges_are_those_of_the_definition(tmp_path, atoms, changes, block, monkeypatch):
    monkeypatch.setattr("datasets.proteins.graph.BLOCK", block)
    settings, backbone = ResidueGraphSettings(**changes), backbone_of(tmp_path, atoms)
    data = graph_of(backbone, settings)
    for number, (name, edges) in enumerate(expected_edges(backbone, settings).items()):
        found = data.edge_index[:, data.edge_type == number].T.tolist()
        assert len(found) == len(edges) and {tuple(edge) for edge in found} == edges, name
    assert data.edge_attr[:, 0].tolist() == pytest.approx(
        (data.pos[data.edge_index[0]] - data.pos[data.edge_index[1]]).norm(dim=1).tolist(), abs=1e-4
    )


def test_nodes_are_residues_and_a_virtual_one(tmp_path, atoms):
    backbone = backbone_of(tmp_path, atoms)
    data = residue_graph(tmp_path / "made.pdb")
    assert data.is_residue.tolist() == [True] * 65 + [False]
    assert data.x[:-1].argmax(1).tolist() == backbone.types.tolist()
    assert data.x.sum(1).tolist() == [1] * 65 + [0]
    np.testing.assert_allclose(data.pos[-1], backbone.positions.mean(0), atol=1e-4)


def test_pdb_and_mmcif_give_the_same_graph(tmp_path, atoms):
    one, other = (graph_of(backbone_of(tmp_path, atoms, kind), ResidueGraphSettings()) for kind in ("pdb", "cif"))
    for name in one.keys():  # noqa: SIM118
        assert torch.equal(one[name], other[name]), name


def test_rotation_and_translation_change_no_edge_and_no_distance(tmp_path, atoms):
    backbone, settings = backbone_of(tmp_path, atoms), ResidueGraphSettings()
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    moved = backbone._replace(positions=backbone.positions @ rotation + [100, -20, 5])
    one, other = graph_of(backbone, settings), graph_of(moved, settings)
    for name in ("x", "edge_index", "edge_type"):
        assert torch.equal(one[name], other[name]), name
    torch.testing.assert_close(one.edge_attr, other.edge_attr)


def test_a_single_residue_is_a_graph(tmp_path):
    data = graph_of(backbone_of(tmp_path, walk(1)), ResidueGraphSettings())
    assert data.edge_index.T.tolist() == [[0, 0], [1, 0], [0, 1]]


@pytest.mark.needs("structures")
def test_graphs_of_real_structures_are_as_counted_elsewhere():
    """PDB and SCOPe files, not part of this project; the numbers were made by another program."""
    golden = json.loads((ROOT / "test/golden/residue_graphs.json").read_text())["files"]
    settings = ResidueGraphSettings(virtual_node=False)
    for name, expected in golden.items():
        path = Path(os.environ[STRUCTURES], name)
        if not expected["residues"]:
            with pytest.raises(FileError, match="C-alpha"):
                read_backbone(path)
            continue
        backbone, graph = read_backbone(path), residue_graph(path, settings)
        assert list(backbone.chain_names) == expected["chains"] and graph.num_nodes == expected["residues"]
        assert int(graph.x[:, -1].sum()) == expected["unknown"]
        assert graph.edge_type.bincount(minlength=len(settings.relations)).tolist() == list(
            expected["edges"].values()
        ), name
        assert graph.pos.mean(0).tolist() == pytest.approx(expected["centroid"], abs=1e-3)
