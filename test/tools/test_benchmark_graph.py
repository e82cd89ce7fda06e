"""The graph benchmark measures both forms of a network, and the layers."""

import argparse

import pytest

from tools.benchmarks import graph as benchmark


@pytest.mark.slow
def test_a_line_for_every_form_and_layer(capsys, monkeypatch, forked_contestants):
    monkeypatch.setattr(benchmark, "LAYERS", ("GRMPConv", "RGCNConv", "FastRGCNConv"))
    monkeypatch.setattr(benchmark, "LARGEST", 0)
    monkeypatch.setattr(benchmark, "MODES", ("training",))
    parser = argparse.ArgumentParser()
    benchmark.add_arguments(parser)
    sizes = ["--nodes=50", "--edges=300", "--channels=8", "--relations=3"]
    benchmark.run(parser.parse_args(["eurnet_debug", "--batch=1", "--repeats=2", *sizes]))
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.startswith("training")]
    assert [row[12:28].strip() for row in rows] == ["edges, unfused", "edges", "grid", "GRMPConv", "RGCNConv"]
    assert all(float(row.split()[-1].removesuffix("x")) > 0 for row in rows)
    assert any(line.startswith("FastRGCNConv is skipped") for line in lines)
    assert "50 nodes, 300 edges, 3 relations, 8 channels" in lines
