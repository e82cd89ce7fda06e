"""The model benchmark measures, counts operations as the papers do, and explains what it cannot do."""

import argparse

import pytest

from tools.benchmarks import model as benchmark
from tools.benchmarks import timing
from tools.benchmarks.timing import Contestant, measure

pytestmark = pytest.mark.usefixtures("forked_contestants")


def arguments(*words):
    parser = argparse.ArgumentParser()
    benchmark.add_arguments(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize("modes, layout", [(("evaluation",), "both"), (("training",), "channels_last")])
def test_the_table_has_a_line_for_every_mode_and_layout(capsys, monkeypatch, modes, layout):
    monkeypatch.setattr(benchmark, "MODES", modes)
    words = ["glore_resnet_debug_3d", "--size=32", "--frames=4", "--batch=2", "--repeats=2", "--device=cpu"]
    benchmark.run(arguments(*words, f"--layout={layout}"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["glore_resnet_debug_3d, input 3 x 4 x 32 x 32, batch 2", "parameters  0.32 M"]
    rows = [line.split() for line in lines[6:]]
    layouts = benchmark.LAYOUTS if layout == "both" else (layout,)
    assert [row[:2] for row in rows] == [[mode, layout] for mode in modes for layout in layouts]
    assert all(float(row[2]) > 0 and float(row[3]) > 0 for row in rows)
    assert rows[0][5] == "1.00x"


def test_operations_equal_the_authors():
    with benchmark.torch.device("meta"):
        model = benchmark.create_model("glore_resnet50_3d")
    shape = benchmark.input_shape("glore_resnet50_3d", batch=2, frames=None, size=None)
    assert shape == (2, 3, 8, 224, 224)
    assert benchmark.count_flops(model, shape[1:]) == 63_551_766_528


@pytest.mark.parametrize("start_method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_a_contestant_that_fails_is_named(monkeypatch, start_method):
    monkeypatch.setattr(timing, "START_METHOD", start_method)
    with pytest.raises(RuntimeError, match="the process that measured nothing ended early"):
        measure([Contestant("nothing", int)], num_repeats=1, what="evaluation")


def test_unknown_model():
    with pytest.raises(ValueError, match="did you mean 'resnet50_3d'"):
        benchmark.run(arguments("resnet50_3"))
