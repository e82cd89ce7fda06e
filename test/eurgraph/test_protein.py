"""Networks for proteins: batches equal single graphs, the virtual node is not read out, and layers equal loops."""

import pytest
import torch
from torch_geometric.data import Batch, Data

from eurgraph.protein import RelationalConv
from models import create_model

NAMES = ("eurnet_protein", "gearnet")


def graph(num_residues: int, seed: int) -> Data:
    generator = torch.Generator().manual_seed(seed)
    num_nodes, num_edges = num_residues + 1, 8 * num_residues
    return Data(
        x=torch.eye(21)[torch.randint(21, (num_nodes,), generator=generator)],
        edge_index=torch.randint(num_nodes, (2, num_edges), generator=generator),
        edge_type=torch.randint(9, (num_edges,), generator=generator),
        is_residue=torch.arange(num_nodes) < num_residues,
    )


def network(name, **options):
    torch.manual_seed(0)
    return create_model(name, num_labels=5, dim=16, num_layers=2, **options).eval().double()


def as_double(data):
    return data.clone().apply(lambda value: value.double() if value.is_floating_point() else value)


@pytest.mark.parametrize("readout", ["sum", "mean"])
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_equals_its_graphs_one_by_one(name, readout):
    model = network(name, readout=readout)
    graphs = [as_double(graph(number, number)) for number in (5, 12, 1)]
    with torch.inference_mode():
        together = model(Batch.from_data_list(graphs))
        torch.testing.assert_close(together, torch.cat([model(one) for one in graphs]), rtol=0, atol=1e-12)
        collated_by_hand = Data(**Batch.from_data_list(graphs).to_dict())
        torch.testing.assert_close(model(collated_by_hand), together, rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_nodes_changes_nothing(name):
    model, data = network(name), as_double(graph(12, 0))
    order = torch.randperm(13, generator=torch.Generator().manual_seed(1))
    place = order.argsort()
    moved = Data(x=data.x[order], edge_index=place[data.edge_index], edge_type=data.edge_type,
                 is_residue=data.is_residue[order])  # fmt: skip
    with torch.inference_mode():
        torch.testing.assert_close(model(moved), model(data), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns(name):
    """Also behind the gate of the message passing, which the authors' start closes."""
    model = network(name).train()
    model(as_double(Batch.from_data_list([graph(12, 0), graph(9, 1)]))).square().sum().backward()
    dead = [key for key, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    assert not dead


def test_a_mean_is_blind_to_the_number_of_neighbors_and_a_root_is_not():
    """All residues alike: only the number of edges tells the graphs apart."""
    x, is_residue = torch.eye(21)[torch.zeros(6, dtype=torch.long)], torch.ones(6, dtype=torch.bool)
    ring = torch.stack([torch.arange(6), torch.arange(6).roll(1)])
    twice = torch.cat([ring, torch.stack([torch.arange(6), torch.arange(6).roll(2)])], dim=1)
    graphs = [Data(x=x, edge_index=edges, edge_type=torch.zeros(edges.shape[1], dtype=torch.long),
                   is_residue=is_residue) for edges in (ring, twice)]  # fmt: skip
    with torch.inference_mode():
        same, other = (
            [network("eurnet_protein", normalization=normalization)(as_double(one)) for one in graphs]
            for normalization in ("mean", "sqrt")
        )
    torch.testing.assert_close(*same, rtol=0, atol=1e-12)
    assert (other[0] - other[1]).abs().max() > 1e-6


def test_gearnets_layer_equals_a_loop_over_its_edges():
    torch.manual_seed(0)
    layer, data = RelationalConv(21, 7, 9).double().eval(), as_double(graph(12, 0))
    weights = layer.linear.weight.view(7, 9, 21)
    expected = layer.self_loop(data.x)
    for source, target, relation in zip(*data.edge_index.tolist(), data.edge_type.tolist(), strict=True):
        expected[target] = expected[target] + weights[:, relation] @ data.x[source]
    expected = layer.norm(expected).relu()
    torch.testing.assert_close(layer(data.x, data.edge_index, data.edge_type), expected, rtol=0, atol=1e-12)


def test_drop_path_leaves_out_whole_proteins():
    model = network("eurnet_protein", drop_path=0.9).train()
    block = model.blocks[-1]
    assert block.drop_path == 0.9 and model.blocks[0].drop_path == 0
    kept = block._drop(torch.ones(60, 3, dtype=torch.double), torch.arange(20).repeat_interleave(3), 20)
    per_protein = kept.view(20, 9)
    assert (per_protein == per_protein[:, :1]).all() and set(per_protein[:, 0].tolist()) <= {0.0, 1 / (1 - 0.9)}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("eurnet_protein", {"readout": "max"}, "readout must be sum or mean, not 'max'"),
        ("eurnet_protein", {"dropout": 1.0}, "dropout must be at least 0 and below 1, not 1.0"),
        ("eurnet_protein", {"drop_path": -0.1}, "drop_path must be at least 0 and below 1, not -0.1"),
        ("eurnet_protein", {"num_relations": 0}, "num_relations must be 1 or more, not 0"),
        ("gearnet", {"dim": 0}, "dim must be 1 or more, not 0"),
        ("gearnet", {"drop_path": 0.1}, "no option of gearnet is called 'drop_path'"),
    ],
)
def test_sizes_that_do_not_work(name, options, message):
    with pytest.raises(ValueError, match=message):
        create_model(name, num_labels=3, **options)
