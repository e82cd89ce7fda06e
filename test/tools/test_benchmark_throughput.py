"""The table of networks: a line for each name or pattern."""

import argparse

import pytest

from tools.benchmarks import throughput

pytestmark = pytest.mark.usefixtures("forked_contestants")


def table(capsys, *words):
    """The line above the table, its head, and its rows."""
    parser = argparse.ArgumentParser()
    throughput.add_arguments(parser)
    throughput.run(parser.parse_args([*words, "--devices", "cpu", "--repeats=1", "--batch=2"]))
    setup, _, head, _rule, *rows = capsys.readouterr().out.splitlines()
    head, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in (head, *rows))
    return setup, head, rows


@pytest.mark.parametrize("options", [(), ("--in-turns",)])
def test_a_line_for_each_network(options, capsys):
    setup, head, rows = table(capsys, "glnet_debug_tk*", "eurnet_debug", *options)
    assert setup == "batch 2, float32, channels last, 1 CPU thread"
    assert head == ["network", "parameters", "GMACs", "input", "cpu items/s", "cpu GFLOP/s", "cpu MiB"]
    assert [row[0] for row in rows] == ["`glnet_debug_tklb`", "`eurnet_debug`"]
    assert rows[0][1] == "2.0 M" and rows[0][3] == "64x64" and int(rows[0][6]) > 0
    for _, _, macs, _, items, flops, _ in rows:
        rounded = 0.01 * float(items) + 0.06  # two decimals of GMACs, one of GFLOP/s
        assert float(flops) == pytest.approx(2 * float(macs) * float(items), rel=0.01, abs=rounded)


def test_unknown_network(capsys):
    with pytest.raises(ValueError, match="no model is called 'nothing'"):
        table(capsys, "eurnet_debug", "nothing")
    assert not capsys.readouterr().out  # nothing was measured
