"""The table of methods that run a network faster."""

import pytest

from settings import SettingsError
from tools.benchmark import main
from tools.benchmarks import acceleration
from tools.benchmarks.acceleration import settled_network


def rows(text):
    return [line.split() for line in text.splitlines()[2:]]


def test_table(capsys, tmp_path):
    main(["acceleration", "eat_debug", "--methods", "bf16", "--batch", "2", "--repeats", "1"])
    output = capsys.readouterr().out
    assert output.startswith("eat_debug, batch 2, one thread of ")
    eager, bf16 = rows(output)
    assert eager[0] == "eager" and eager[2] == "1.00x" and eager[3] == "-"
    assert bf16[0] == "bf16" and float(bf16[1]) > 0 and 0 < float(bf16[3]) < 0.1


@pytest.mark.slow
@pytest.mark.needs("openvino", "onnx")
def test_files_are_kept(capsys, tmp_path):
    command = ["acceleration", "eat_debug", "--methods", "openvino,openvino_int8", "--repeats", "1"]
    main([*command, "--keep", str(tmp_path)])
    made = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert {"openvino.xml", "openvino.bin", "network.onnx", "network.int8.onnx", "openvino.int8.xml"} <= set(made)
    main([*command, "--keep", str(tmp_path)])
    assert made == {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    _, exact, int8 = rows(capsys.readouterr().out)[-3:]
    assert float(exact[3]) < 1e-4 < float(int8[3])


def test_batch_norms_know_their_inputs():
    model, shape = settled_network("resnet_debug_3d")
    assert shape == (3, 8, 64, 64) and not model.training
    variances = [value for name, value in model.state_dict().items() if name.endswith("running_var")]
    assert variances and not any((value == 1).all() for value in variances)


def test_what_cannot_run_is_an_error(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        main(["acceleration", "eat_debug", "--methods", "openvno"])
    assert "no method 'openvno'; did you mean 'openvino'?" in capsys.readouterr().err
    absent = acceleration.METHODS["openvino"].__class__(lambda path, model: model, packages=("no_such_package",))
    monkeypatch.setitem(acceleration.METHODS, "openvino", absent)
    with pytest.raises(SettingsError, match="openvino needs no_such_package"):
        main(["acceleration", "eat_debug", "--methods", "openvino"])
