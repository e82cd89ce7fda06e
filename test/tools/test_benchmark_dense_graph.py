"""The benchmark of EurNet's dense backbone: its references give the same maps, and it prints a line for each way."""

import argparse

import pytest
import torch

from tools.benchmarks import dense_graph as benchmark


@pytest.mark.parametrize("length", [100, 22])
def test_all_ways_give_the_same_maps_where_windows_cover_them(length):
    images = torch.randn(1, 3, 150, 170, dtype=torch.float64)
    with torch.inference_mode():
        maps = [benchmark._build("eurnet_debug", kind, length).double()(images) for kind in benchmark.NETWORKS]
    for levels in maps:
        for level, expected in zip(levels, maps[0], strict=True):
            torch.testing.assert_close(level, expected, rtol=0, atol=1e-10)


def test_a_full_matrix_has_the_graph_of_the_authors_windows():
    """But for ties among patches outside of them, the order of which the authors leave open."""
    nearest = benchmark.WindowedNearestPatches(16, 5, 12, "authors")
    x = torch.randn(2, 18, 20, 16)
    inside = torch.zeros(18, 20, dtype=torch.bool)
    for window in benchmark.diagonal_windows(18, 20, 12):
        inside[window.rows.start : window.rows.stop, window.columns.start : window.columns.stop] = True
    ours, theirs = nearest(x).index.sort(2).values, benchmark.FullMatrixNearest(nearest)(x).index.sort(2).values
    assert torch.equal(ours[:, inside.flatten()], theirs[:, inside.flatten()])


@pytest.mark.slow
def test_a_line_for_every_way(capsys, forked_contestants):
    parser = argparse.ArgumentParser()
    benchmark.add_arguments(parser)
    benchmark.run(parser.parse_args(["eurnet_debug", "--height=96", "--width=128", "--repeats=2"]))
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(("graph", "forward"))]
    assert [line[0] for line in rows] == ["graph"] * 3 + ["forward"] * 4
    assert all(float(line[-2].removesuffix("x")) > 0 for line in rows)
