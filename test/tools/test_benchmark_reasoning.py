"""The benchmark of reasoners measures every layer and both networks, on made facts and on a file of them."""

import argparse

import pytest

from tools.benchmarks import reasoning as benchmark


@pytest.mark.slow
@pytest.mark.parametrize("from_file", [False, True])
def test_a_line_for_every_layer_and_network(capsys, tmp_path, monkeypatch, forked_contestants, from_file):
    monkeypatch.setattr(benchmark, "SIZES", (30, 4, 60))
    parser = argparse.ArgumentParser()
    benchmark.add_arguments(parser)
    words = ["--copies=2", "--batch=3", "--channels=8", "--layers=2", "--repeats=2"]
    if from_file:
        (tmp_path / "facts.tsv").write_text("a\tr\tb\nb\ts\tc\nc\tr\ta\n")
        words.append(f"--facts={tmp_path / 'facts.tsv'}")
    benchmark.run(parser.parse_args(words))
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.endswith("x")]
    assert [row[:20].strip() for row in rows] == [*benchmark.LAYERS, *benchmark.NETWORKS]
    assert all(float(row.split()[-1].removesuffix("x")) > 0 for row in rows)
    size = "3 entities, 2 relations, 3 facts" if from_file else "30 entities, 4 relations, 60 facts"
    assert lines[0].startswith(size)


def test_made_facts_have_every_head_and_relation():
    facts = benchmark.facts_of(None)
    num_nodes, num_relations, num_facts = benchmark.SIZES
    assert facts.shape == (num_facts, 3) and facts.min() == 0
    assert facts[:, [0, 2]].max() == num_nodes - 1 and facts[:, 1].max() == num_relations - 1
