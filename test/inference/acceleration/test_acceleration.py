"""Trained networks run by other runtimes: the same answers, kept files, and eager mode wherever something fails."""

import json
import logging
import shutil

import pytest
import torch

from engine.checkpoint import CheckpointError
from inference import Predictor
from inference.acceleration import AcceleratedNetwork, accelerate, choice, methods
from inference.acceleration.choice import Choice, Measured
from inference.acceleration.methods import METHODS, Method, Source, methods_to_try
from inference.export import ExportError
from inference.trained import load_trained
from settings import SettingsError
from tools import evaluate

EXACT = 1e-4
"""Largest difference of a probability between float32 runtimes."""


@pytest.fixture
def run(brief_run, tmp_path):
    """A copy of a run, in which nothing is accelerated yet."""
    return shutil.copytree(brief_run, tmp_path / "run")


@pytest.fixture
def always_faster(monkeypatch):
    """What is measured of a method is so small here that any may win."""
    monkeypatch.setattr(choice, "WORTH_IT", 0)


def probabilities(run, **options):
    predictor = Predictor(run, device="cpu", **options)
    videos = [item.path for item in predictor.task.val_files]
    return predictor, [one.probabilities for one in predictor(videos)]


def largest_difference(found, expected):
    assert [one.keys() == other.keys() for one, other in zip(found, expected, strict=True)]
    pairs = zip(found, expected, strict=True)
    return max(abs(one[name] - other[name]) for one, other in pairs for name in one)


@pytest.mark.parametrize(
    ("method", "tolerance"),
    [
        pytest.param("openvino", EXACT, marks=[pytest.mark.needs("openvino"), pytest.mark.slow]),
        pytest.param("onnxruntime", EXACT, marks=[pytest.mark.needs("onnx"), pytest.mark.slow]),
        pytest.param("compile", EXACT, marks=[pytest.mark.needs("compiler"), pytest.mark.slow]),
        ("bf16", 0.03),
        pytest.param("openvino_bf16", 0.03, marks=[pytest.mark.needs("openvino"), pytest.mark.slow]),
        pytest.param("onnxruntime_int8", 0.3, marks=[pytest.mark.needs("onnx"), pytest.mark.slow]),
        pytest.param("openvino_int8", 0.3, marks=[pytest.mark.needs("openvino", "onnx"), pytest.mark.slow]),
    ],
)
def test_predictions_agree_with_eager_mode(run, always_faster, monkeypatch, method, tolerance):
    monkeypatch.setattr(choice, "MOST_CHANGED", 1)  # after two steps of training, classes are nearly tied
    _, expected = probabilities(run)
    predictor, found = probabilities(run, acceleration=[method])
    assert predictor.acceleration.method == method and isinstance(predictor.model, AcceleratedNetwork)
    assert 0 < largest_difference(found, expected) < tolerance


def fake_methods(monkeypatch, **named):
    """Replaces the table of methods: name -> function of the network's own output."""

    def method(change, is_exact=True, file=""):
        return Method(
            lambda path, model: lambda x: change(model(x)),
            file=file,
            write=lambda source, path: path.write_text("made"),
            is_exact=is_exact,
        )

    table = {name: method(*facts) if isinstance(facts, tuple) else method(facts) for name, facts in named.items()}
    for module in (methods, choice):
        monkeypatch.setattr(module, "METHODS", table)
    monkeypatch.setattr("inference.acceleration.METHODS", table)


def set_speeds(monkeypatch, **times_as_fast):
    found = {name: (10 / ratio, ratio) for name, ratio in times_as_fast.items()}
    monkeypatch.setattr(choice, "compare_speed", lambda eager, forwards, *_: {name: found[name] for name in forwards})


def test_the_fastest_is_used_and_only_if_it_pays(run, monkeypatch):
    fake_methods(monkeypatch, openvino=lambda y: y, onnxruntime=lambda y: y, compile=lambda y: y)
    set_speeds(monkeypatch, openvino=1.5, onnxruntime=1.6, compile=0.7)
    predictor = Predictor(run, device="cpu", acceleration=["openvino", "onnxruntime", "compile"])
    assert predictor.acceleration.method == "onnxruntime"
    assert predictor.acceleration.measured["openvino"].times_as_fast == 1.5
    set_speeds(monkeypatch, openvino=1.04, compile=0.7)
    assert Predictor(run, device="cpu", acceleration=["openvino", "compile"]).acceleration is None


def test_a_method_that_computes_something_else_is_left_out(run, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    fake_methods(monkeypatch, openvino=lambda y: y * 1.001, compile=lambda y: y * float("nan"))
    set_speeds(monkeypatch)
    assert Predictor(run, device="cpu", acceleration=["openvino", "compile"]).acceleration is None
    assert "openvino is left out: its logits differ by 1.0e-03 of the largest, more than 0.0001" in caplog.text
    assert "compile is left out: its logits differ by nan" in caplog.text
    assert "acceleration: PyTorch's eager mode" in caplog.text


def test_a_method_that_fails_is_left_out(run, monkeypatch, caplog):
    def fail(_):
        raise ExportError("no such operation")

    fake_methods(monkeypatch, openvino=fail, compile=lambda y: y)
    set_speeds(monkeypatch, compile=2)
    assert Predictor(run, device="cpu", acceleration=["openvino", "compile"]).acceleration.method == "compile"
    assert "openvino is left out: no such operation" in caplog.text


def test_a_method_that_changes_classes_is_left_out(run, monkeypatch, caplog):
    fake_methods(monkeypatch, bf16=(lambda y: -y, False), openvino_bf16=(lambda y: 1.01 * y, False))
    set_speeds(monkeypatch, bf16=3, openvino_bf16=2)
    predictor = Predictor(run, device="cpu", acceleration=["bf16", "openvino_bf16"])
    assert predictor.acceleration.method == "openvino_bf16"
    assert "bf16 is left out: 8 of 8 files change their class, more than 1 %" in caplog.text
    assert "the same class for 100.0 % of 8 files" in str(predictor.acceleration)


def test_files_and_choice_are_kept_until_the_weights_change(run, monkeypatch, caplog):
    fake_methods(monkeypatch, compile=(lambda y: y, True, "network.pt2"))
    set_speeds(monkeypatch, compile=2)
    Predictor(run, device="cpu", acceleration=["compile"])
    (folder,) = (run / "accelerated").iterdir()
    assert folder.name.startswith("best-3x4x32x32-") and (folder / "network.pt2").read_text() == "made"

    def never(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr(choice, "compare_speed", never)
    assert Predictor(run, device="cpu", acceleration=["compile"]).acceleration.method == "compile"
    set_speeds(monkeypatch, compile=2)
    weights = torch.load(run / "checkpoints/last.pt", weights_only=False)
    torch.save(weights, run / "checkpoints/last.pt")
    Predictor("last", run_dir=run, device="cpu", acceleration=["compile"])
    assert len(list((run / "accelerated").iterdir())) == 2
    shutil.copy(run / "checkpoints/last.pt", run / "checkpoints/previous.pt")
    weights["another"] = 1
    torch.save(weights, run / "checkpoints/last.pt")
    Predictor("last", run_dir=run, device="cpu", acceleration=["compile"])
    names = sorted(path.name for path in (run / "accelerated").iterdir())
    assert len(names) == 2 and folder.name in names  # that of the earlier last.pt is gone


def test_files_of_a_network_whose_code_has_changed_are_made_anew(run, monkeypatch, caplog):
    fake_methods(monkeypatch, compile=(lambda y: y, True, "network.pt2"))
    set_speeds(monkeypatch, compile=2)
    Predictor(run, device="cpu", acceleration=["compile"])
    (folder,) = (run / "accelerated").iterdir()
    facts = json.loads((folder / "choice.json").read_text())
    facts["measured"]["compile"]["difference"] = 0.5
    (folder / "choice.json").write_text(json.dumps(facts))
    (folder / "network.pt2").write_text("old")
    assert Predictor(run, device="cpu", acceleration=["compile"]).acceleration.method == "compile"
    assert "a network that computes something else; made anew" in caplog.text
    assert (folder / "network.pt2").read_text() == "made"
    (folder / "choice.json").write_text('{"method": "comp')  # cut off
    assert Predictor(run, device="cpu", acceleration=["compile"]).acceleration.method == "compile"


def test_a_folder_that_cannot_be_written_is_no_error(run, monkeypatch, caplog):
    fake_methods(monkeypatch, compile=(lambda y: y, True, "network.pt2"))
    set_speeds(monkeypatch, compile=2)
    (run / "accelerated").write_text("a file where the folder should be")
    assert Predictor(run, device="cpu", acceleration=["compile"]).acceleration.method == "compile"
    assert "cannot write to" in caplog.text


def test_a_disk_that_fills_up_is_no_error(run, monkeypatch, caplog):
    fake_methods(monkeypatch, compile=(lambda y: y, True, "network.pt2"))
    set_speeds(monkeypatch, compile=2)

    def full(path, write):
        raise CheckpointError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(choice, "write_atomically", full)
    assert Predictor(run, device="cpu", acceleration=["compile"]).acceleration.method == "compile"
    assert "the next start measures anew: cannot write" in caplog.text


def test_gradients_and_other_sizes_go_through_the_network_itself(run, always_faster):
    predictor = Predictor(run, device="cpu", acceleration="bf16")
    model, views = predictor.model, torch.randn(2, 3, 4, 32, 32)
    with torch.inference_mode():
        assert not torch.equal(model(views), model.eager(views))
        other = torch.randn(1, 3, 4, 40, 40)
        assert torch.equal(model(other), model.eager(other))
    views.requires_grad_()
    model(views).sum().backward()
    assert views.grad.abs().sum() > 0


def test_an_evaluation_says_how_it_ran_and_has_its_own_folder(run, always_faster, capsys):
    evaluate.main(["--run-dir", str(run), "evaluation.acceleration=bf16"])
    evaluate.main(["--run-dir", str(run)])
    assert {path.name for path in (run / "evaluations").iterdir()} == {"1x1", "1x1-bf16"}
    summaries = [json.loads((run / "evaluations" / name / "summary.json").read_text()) for name in ("1x1", "1x1-bf16")]
    assert summaries[0]["acceleration"] == "off"
    assert summaries[1]["acceleration"].startswith("bf16, ")


def test_auto_is_the_first_that_can_run(monkeypatch):
    absent = Method(lambda path, model: model, packages=("no_such_package",))
    for name in ("openvino", "onnxruntime"):
        monkeypatch.setitem(METHODS, name, absent)
    monkeypatch.setattr(methods, "compiler", lambda: "/usr/bin/c++")
    assert methods_to_try("auto") == ("compile",)
    monkeypatch.setattr(methods, "compiler", lambda: None)
    assert methods_to_try("auto") == ()
    with pytest.raises(SettingsError, match=r"openvino needs no_such_package: pip install '\.\[accelerate\]'"):
        methods_to_try(("openvino",))
    with pytest.raises(SettingsError, match=r"compile needs a C\+\+ compiler, such as g\+\+"):
        methods_to_try(("bf16", "compile"))


def test_openvino_does_not_run_under_jemalloc(monkeypatch):
    monkeypatch.setattr(methods.importlib.util, "find_spec", lambda name: name)  # all packages are there
    assert methods_to_try("auto")[0] == "openvino"
    monkeypatch.setattr(methods, "allocator", lambda: "jemalloc")
    assert methods_to_try("auto")[0] == "onnxruntime"
    with pytest.raises(SettingsError, match=r"openvino_bf16 needs another allocator than jemalloc.*LD_PRELOAD="):
        methods_to_try(("openvino_bf16",))


def test_eight_bits_need_files(tmp_path):
    source = Source(torch.nn.Identity(), (3,), "network", tmp_path)
    with pytest.raises(SettingsError, match=r"int8 needs files to calibrate its ranges; set data\.val"):
        source.calibration()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "opnvino",
            r"no method is called 'opnvino'; did you mean 'openvino'\? \(choices: off, auto, openvino, ",
        ),
        ("[openvino,3]", r"no method is called 3 \(choices: "),
        ("[]", r"evaluation\.acceleration: name a method; choices: off, auto, "),
    ],
)
def test_a_misspelt_method_is_an_error(run, value, message):
    with pytest.raises(SettingsError, match=message):
        Predictor(run, [f"evaluation.acceleration={value}"], device="cpu")


def test_off_is_the_network_itself(run):
    for value in ("off", "false"):
        trained = load_trained(run, [f"evaluation.acceleration={value}"], device="cpu")
        assert accelerate(trained.task, trained.model, trained.weights) is trained.model


def test_a_choice_says_what_was_measured():
    found = {"openvino": Measured(2e-6, 1.5, 10.0), "openvino_int8": Measured(0.1, 0.9, 20.0, 0.995, 200)}
    assert str(Choice("openvino", found, {})) == (
        "openvino, 1.50 times as fast as PyTorch's eager mode, logits within 2.0e-06 of the largest"
    )
    assert str(Choice(None, {"openvino_int8": found["openvino_int8"]}, {})) == (
        "PyTorch's eager mode (openvino_int8: 0.90 times as fast as PyTorch's eager mode, the same class for 99.5 % of "
        "200 files)"
    )
