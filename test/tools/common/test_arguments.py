"""Command lines: options stand anywhere, and a misspelt one is an error with a suggestion."""

import argparse
from pathlib import Path

import pytest

from settings import SUITE
from tools import evaluate
from tools.common.arguments import launcher, parse_arguments, positive, positive_number


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser()
    parser.add_argument("-c", "--config")
    parser.add_argument("--checkpoint")
    parser.add_argument("--average", action="store_true")
    parser.add_argument("overrides", nargs="*")
    return parser


@pytest.mark.parametrize(
    "line",
    [
        "-c R --checkpoint F --average a=1 b=2",
        "-c R a=1 --checkpoint F b=2 --average",
        "a=1 -c R b=2 --average --checkpoint=F",
        "a=1 b=2 --average --checkpoint F -cR",
    ],
)
def test_options_stand_anywhere(parser, line):
    args = parse_arguments(parser, line.split())
    assert vars(args) == {"config": "R", "checkpoint": "F", "average": True, "overrides": ["a=1", "b=2"]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a=1 --chekpoint F b=2", "there is no option --chekpoint; did you mean '--checkpoint'?"),
        ("--avrage=1", "there is no option --avrage; did you mean '--average'?"),
        ("a=1 --checkpoint", "argument --checkpoint: expected one argument"),
    ],
)
def test_wrong_options_are_errors(parser, line, message, capsys):
    with pytest.raises(SystemExit) as end:
        parse_arguments(parser, line.split())
    assert end.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("kind", [positive, positive_number])
@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1e400", "", "two", "²"])
def test_options_that_count_or_measure_something_are_above_0(kind, text):
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--number", type=kind)
    assert parser.parse_args(["--number", "12"]).number == 12
    with pytest.raises(argparse.ArgumentError, match=f"argument --number: {text} is not a"):
        parser.parse_args(["--number", text])


def test_evaluation_takes_settings_before_and_after_options(capsys):
    with pytest.raises(SystemExit):
        evaluate.main(["-c", "R", "model.name=X", "--chekpoint", "F", "data.val=Y"])
    assert "did you mean '--checkpoint'?" in capsys.readouterr().err


def test_the_launcher_can_be_typed_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(SUITE)
    assert launcher() == "./run_local.sh"
    monkeypatch.chdir(tmp_path)
    assert Path(launcher()).is_absolute()
