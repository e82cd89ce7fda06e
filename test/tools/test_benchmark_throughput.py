"""The table of networks: a line for each name or pattern."""

import argparse

import pytest

from tools.benchmarks import throughput

pytestmark = pytest.mark.usefixtures("forked_contestants")


def table(capsys, *words):
    parser = argparse.ArgumentParser()
    throughput.add_arguments(parser)
    throughput.run(parser.parse_args([*words, "--devices", "cpu", "--repeats=1", "--batch=2"]))
    setup, *_, head, _rule, row = capsys.readouterr().out.splitlines()
    return setup, [cell.strip() for cell in head.split("|")[1:-1]], [cell.strip() for cell in row.split("|")[1:-1]]


def test_a_line_for_each_network(capsys):
    setup, head, row = table(capsys, "glnet_debug_tk*")
    assert setup == "batch 2, float32, channels last, 1 CPU thread"
    assert head == ["network", "parameters", "GMACs", "input", "cpu items/s", "cpu MiB"]
    assert row[:2] == ["`glnet_debug_tklb`", "2.0 M"] and row[3] == "64x64" and float(row[4]) > 0 and int(row[5]) > 0


def test_unknown_network(capsys):
    with pytest.raises(ValueError, match="no model is called 'nothing'"):
        table(capsys, "nothing")
