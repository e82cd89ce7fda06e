"""Options with which tools/predict.py and tools/explain.py ask about a graph: those that contradict each other stop."""

import pytest

from tools import explain, predict


@pytest.mark.parametrize(
    "words, message",
    [
        (["--ask", "a b ?"], "--ask asks about a graph; name its file of facts with --graph"),
        (["--new", "video.mp4"], "--new asks about a graph; name its file of facts with --graph"),
        (["--graph", "g.tsv"], "--graph needs a question: --ask, --questions or --all"),
        (["--graph", "g.tsv", "--all", "b", "--ask", "a b ?"], "--all asks its own questions; leave out --ask"),
        (["--graph", "g.tsv", "--ask", "a b ?", "c"], "--graph answers questions, and c is not one; ask with --ask"),
        (["--graph", "g.tsv", "--ask", "a b ?", "--json", "x.json"], "--json is for videos and images; leave it out"),
        (["--graph", "g.tsv", "--ask", "a b ?", "--above", "0.5"], "--above is for videos and images; leave it out"),
        (["--graph", "g.tsv", "--ask", "a b ?", "--top", "0"], "--top: 0 is not a whole number of at least 1"),
    ],
)
def test_predict_stops_at_options_that_do_nothing(words, message, capsys):
    with pytest.raises(SystemExit):
        predict.read_arguments(words)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        (["--ask", "a b ?"], "the following arguments are required: --graph"),
        (["--graph", "g.tsv"], "the following arguments are required: --ask"),
        (["--graph", "g.tsv", "--ask", "a b ?", "c"], "c is not a setting; ask questions with --ask"),
        (["--graph", "g.tsv", "--ask", "a b ?", "--paths", "0"], "--paths: 0 is not a whole number of at least 1"),
        (["--graph", "g.tsv", "--ask", "a b ?", "--candidates", "2"], "got --candidates 2, fewer than the 3 paths"),
        (["--graph", "g.tsv", "--ask", "a b ?", "-o", "x.gif"], "got -o x.gif; paths are drawn as PNG"),
    ],
)
def test_explain_stops_at_options_that_do_nothing(words, message, capsys):
    with pytest.raises(SystemExit):
        explain._parse(words)
    assert message in capsys.readouterr().err


def test_questions_and_settings_are_read_in_any_order():
    args = predict.read_arguments(["--graph", "g.tsv", "run.device=cpu", "--ask", "a b ?", "--ask", "? b c", "--new"])
    assert args.ask == ["a b ?", "? b c"] and args.overrides == ["run.device=cpu"] and args.new
