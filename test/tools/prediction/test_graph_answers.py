"""tools/predict.py --graph and tools/explain.py with a run, from the command to the files; its weights are random."""

import csv

import pytest
import safetensors.torch
import torch
from PIL import Image

from datasets.synthetic.families import make_families
from engine.distributed import Ranks
from settings import SettingsError, parse_settings, write_yaml
from tasks.link_prediction import LinkPrediction
from tools import explain, predict

HEADS = 6  # people of the graph below


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that was not trained, and a graph of four facts beside it."""
    folder = tmp_path_factory.mktemp("asked")
    make_families(folder / "data", num_train=2, num_test=2)
    recipe = {
        "task": "link_prediction",
        "model": {"name": "eurnet_kg", "options": {"dim": 8, "num_layers": 3, "profile_dim": 4}},
        "data": {"train": str(folder / "data/families"), "test": str(folder / "data/families_ind")},
        "optimizer": {"name": "adamw", "lr": 0.01},
        "train": {"num_epochs": 1, "batch_size": 8},
        "run": {"num_threads": 1, "device": "cpu"},
    }
    task = LinkPrediction(parse_settings(LinkPrediction.Settings, recipe), Ranks(0, 1, torch.device("cpu")))
    torch.manual_seed(0)
    weights = folder / "run/checkpoints/best.safetensors"
    weights.parent.mkdir(parents=True)
    safetensors.torch.save_file(task.build_model().state_dict(), weights)
    (folder / "run/recipe.yaml").write_text(write_yaml(recipe))
    for name, text in task.run_files().items():
        (folder / "run" / name).write_text(text)
    facts = [("Ann", "mother_of", "Bob"), ("Bob", "father_of", "Cid"), ("Bob", "father_of", "Dan")]
    facts += [("Cid", "brother_of", "Dan"), ("Eve", "wife_of", "Bob"), ("Eve", "mother_of", "Fay")]
    (folder / "new.tsv").write_text("".join("\t".join(fact) + "\n" for fact in facts))
    return folder


def ask(run, *words, tool=predict):
    tool.main(["--run-dir", str(run / "run"), "--graph", str(run / "new.tsv"), *map(str, words)])


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_answers_are_shown_and_written(run, tmp_path, capsys):
    (tmp_path / "more.tsv").write_text("?\tmother_of\tBob\n")
    table = tmp_path / "answers.csv"
    with pytest.raises(SettingsError, match=r"more\.tsv is the input .*more\.tsv; choose another file with --csv"):
        ask(run, "--questions", tmp_path / "more.tsv", "--csv", tmp_path / "more.tsv")
    ask(run, "--ask", "Bob\tfather_of\t?", "--questions", tmp_path / "more.tsv", "--top", HEADS, "--csv", table)
    shown, rows = capsys.readouterr().out.splitlines(), rows_of(table)
    assert shown[0] == "Bob  father_of  ?" and shown[HEADS + 1] == "?  mother_of  Bob" and len(shown) == 2 * HEADS + 2
    assert [row["rank"] for row in rows] == [*"123456", *"123456"]
    first, second = rows[:HEADS], rows[HEADS:]
    assert {row["answer"] for row in first if row["known"] == "yes"} == {"Cid", "Dan"}
    assert {row["answer"] for row in second if row["known"] == "yes"} == {"Ann"}
    for part in (first, second):
        values = [float(row["probability"]) for row in part]
        assert values == sorted(values, reverse=True)
        assert sum(float(row["probability"]) for row in part if row["known"] == "no") == pytest.approx(1, abs=1e-5)
    assert shown[1].split("%")[1].split()[0] == rows[0]["answer"]
    assert [("(known)" in line) for line in shown[1 : HEADS + 1]] == [row["known"] == "yes" for row in first]


def test_new_answers_only(run, tmp_path):
    ask(run, "--ask", "Bob father_of ?", "--top", 9, "--new", "--csv", tmp_path / "answers.csv")
    assert {row["answer"] for row in rows_of(tmp_path / "answers.csv")} == {"Ann", "Bob", "Eve", "Fay"}


def test_all_shows_the_most_probable_facts_of_a_relation(run, tmp_path, capsys):
    for top in (100, 4):
        ask(run, "--all", "mother_of", "--top", top, "--new", "--csv", tmp_path / f"{top}.csv")
    rows = rows_of(tmp_path / "100.csv")
    assert len(rows) == HEADS * HEADS - 2 and len({(row["head"], row["answer"]) for row in rows}) == len(rows)
    values = [float(row["probability"]) for row in rows]
    assert values == sorted(values, reverse=True) and not {("Ann", "Bob"), ("Eve", "Fay")} & {
        (row["head"], row["answer"]) for row in rows
    }
    assert rows_of(tmp_path / "4.csv") == rows[:4] and [row["rank"] for row in rows[:4]] == [*"1234"]
    last = capsys.readouterr().out.splitlines()[-4:]
    assert [line.split("% ")[1] for line in last] == [f"{row['head']}  mother_of  {row['answer']}" for row in rows[:4]]


@pytest.mark.parametrize("words", [[], ["--new"]])
def test_all_says_that_nothing_is_left_to_ask(run, tmp_path, words):
    graph = tmp_path / "known.tsv"
    graph.write_text("Ann\tmother_of\tAnn\n")
    with pytest.raises(
        SettingsError, match=r"every pair of entities of .*known\.tsv is known for mother_of; nothing is"
    ):
        ask(run, "--graph", graph, "--all", "mother_of", "--csv", tmp_path / "none.csv", *words)
    assert not (tmp_path / "none.csv").exists()


def test_the_only_fact_of_an_entity_is_explained_without_paths(run, tmp_path, capsys):
    graph = tmp_path / "one.tsv"
    graph.write_text("Ann\tmother_of\tBob\n")
    ask(run, "--graph", graph, "--ask", "? mother_of Bob", tool=explain)
    assert "Ann" in capsys.readouterr().out


def test_a_fact_taken_for_a_header_is_told(run, tmp_path, capsys):
    for name, lines, is_told in (
        ("bare", "Ann\tmother_of\tBob\nBob\tfather_of\tCid\n", True),
        ("headed", "head\trelation\ttail\nBob\tfather_of\tCid\n", False),
    ):
        (tmp_path / name).write_text(lines)
        ask(run, "--graph", tmp_path / name, "--ask", "Bob father_of ?", "data.header=true")
        told = f"{tmp_path / name}: the first line, Ann, mother_of, Bob, is skipped as a header; for a fact set"
        logged = capsys.readouterr().err
        assert (told in logged) == is_told == ("is skipped" in logged)


def test_explanations_are_shown_and_written(run, tmp_path, capsys):
    files = ("--csv", tmp_path / "paths.csv", "-o", tmp_path / "why.png")
    ask(run, "--ask", "Ann\tgrandmother_of\tCid", "--ask", "Bob father_of ?", "--top", 2, *files, tool=explain)
    shown, rows = capsys.readouterr().out, rows_of(tmp_path / "paths.csv")
    assert "Ann  grandmother_of  Cid\n" in shown and "Bob  father_of  ?\n" in shown
    assert "Ann -mother_of-> Bob -father_of-> Cid\n" in shown
    facts = {tuple(row[f"fact_{part}"] for part in ("head", "relation", "tail")) for row in rows if row["path"]}
    assert facts <= {tuple(line.split("\t")) for line in (run / "new.tsv").read_text().splitlines()}
    with Image.open(tmp_path / "why.png") as image:
        assert image.size[0] > 500


def test_a_known_answer_is_explained_by_other_facts(run, tmp_path, capsys):
    ask(run, "--ask", "Bob\tfather_of\tCid", "--csv", tmp_path / "paths.csv", tool=explain)
    assert "known, score without this fact" in capsys.readouterr().out
    rows = rows_of(tmp_path / "paths.csv")
    facts = [(row["fact_head"], row["fact_relation"], row["fact_tail"]) for row in rows]
    assert facts == [("Bob", "father_of", "Dan"), ("Cid", "brother_of", "Dan")] and rows[0]["known"] == "yes"


@pytest.mark.parametrize(
    "words, message",
    [
        (["--ask", "Bob\tfather_of\t?"], r"--graph: .*other.tsv:2: no relation is called 'loves'"),
        (["--ask", "Bob\tfather_of\t?", "--csv", "."], r"cannot write \.: it is a folder; choose another file"),
    ],
)
def test_what_cannot_be_read_or_written_is_explained(run, tmp_path, words, message):
    (tmp_path / "other.tsv").write_text("Bob\tfather_of\tCid\nBob\tloves\tEve\n")
    with pytest.raises(SettingsError, match=message):
        predict.main(["--run-dir", str(run / "run"), "--graph", str(tmp_path / "other.tsv"), *words])


def test_mistakes_in_questions_are_explained(run):
    for question, message in (
        ("Bobb\tfather_of\t?", r"^--ask: no entity is called 'Bobb'; did you mean 'Bob'\?$"),
        ("Bob\tfather\t?", r"^--ask: no relation is called 'father'; did you mean 'father_of'\?$"),
    ):
        with pytest.raises(SettingsError, match=message):
            ask(run, "--ask", question)


def test_files_and_graphs_are_not_mixed_up(run, brief_run):
    with pytest.raises(SettingsError, match=r"the network is for link_prediction: ask it about a graph with .*--graph"):
        predict.main(["--run-dir", str(run / "run"), "video.mp4"])
    with pytest.raises(SettingsError, match=r"--graph needs a network that was trained on a graph, and .* is for the"):
        predict.main(["--run-dir", str(brief_run), "--graph", str(run / "new.tsv"), "--ask", "a b ?"])
