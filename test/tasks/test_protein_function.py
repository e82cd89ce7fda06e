"""Protein function prediction: exact resume, equal scores on ranks, predictions, and what is said of wrong recipes."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from simulated_runs import TwoRanks, train_whole_and_broken, without_plots
from structures import as_cif, as_pdb, walk

from datasets.synthetic.protein_folds import make_protein_folds
from engine.distributed import Ranks
from inference import Predictor
from inference.trained import load_trained
from settings import SettingsError, apply_overrides, parse_settings
from tasks.protein_function import ProteinFunction
from tools import predict


@pytest.fixture(scope="module", autouse=True)
def quick_runs():
    with without_plots():
        yield


@pytest.fixture(scope="module")
def folds(tmp_path_factory) -> Path:
    return make_protein_folds(tmp_path_factory.mktemp("folds") / "set", num_train=12, num_val=5)


def recipe(folds: Path) -> dict:
    return {
        "task": "protein_function",
        "model": {"name": "eurnet_protein", "options": {"dim": 8, "num_layers": 2, "drop_path": 0.3}},
        "data": {"train": f"{folds}/train.csv", "val": f"{folds}/val.csv", "num_workers": 0},
        "evaluation": {"proteins_per_forward": 2},
        "optimizer": {"name": "adamw", "lr": 0.003},
        "train": {"num_epochs": 1, "batch_size": 3, "checkpoint_every_steps": 2, "log_every_steps": 1},
        "run": {"device": "cpu"},
    }


def make_task(values: dict, *changes: str) -> ProteinFunction:
    values = apply_overrides(copy.deepcopy(values), changes)
    return ProteinFunction(parse_settings(ProteinFunction.Settings, values), Ranks(0, 1, torch.device("cpu")))


def test_a_run_resumes_exactly_is_scored_on_ranks_and_predicts(folds, tmp_path, capsys):
    whole, _ = train_whole_and_broken(ProteinFunction, recipe(folds), tmp_path)
    (report,) = whole.glob("evaluations/*/summary.json")
    assert json.loads(report.read_text())["proteins_read"] == 5
    assert {path.name for path in report.parent.glob("*.csv")} == {"per_label.csv", "proteins.csv", "unreadable.csv"}

    task, model, _ = load_trained(whole)
    one = task.evaluate(model)
    for rank in (1, 0):
        task.ranks = TwoRanks(rank, 2, torch.device("cpu"))
        two = task.evaluate(model)
    assert one.gathered.rows["scores"].tobytes() == two.gathered.rows["scores"].tobytes()
    assert (one.fmax, one.aupr) == (two.fmax, two.aupr)

    (tmp_path / "new").mkdir()
    (tmp_path / "new/a.pdb").write_text(as_pdb(walk(30)))
    (tmp_path / "new/b.cif").write_text(as_cif(walk(30)))
    (tmp_path / "new/c.pdb").write_text("")
    first, second, third = Predictor(whole)(tmp_path / "new")
    assert first.probabilities == pytest.approx(second.probabilities, abs=1e-6)  # the same graph, from two formats
    assert first.probabilities.keys() == {"barrel", "helices", "strands"}
    assert third.failure == "the file is empty"
    predict.main(["--run-dir", str(whole), f"{tmp_path}/new/b.cif:A"])
    assert f"% {first.label}" in capsys.readouterr().out


def test_an_unreadable_structure_lowers_the_coverage(folds, tmp_path):
    table = tmp_path / "val.csv"
    table.write_text("val/0000.pdb,helices\nabsent.pdb,strands\nval/0001.pdb,strands\n")
    task = make_task(recipe(folds), f"data.val={table}", f"data.root={folds}", "data.max_missing=0.5")
    task.check()
    evaluation = task.evaluate(task.build_model().eval())
    assert evaluation.summary()["coverage"] == pytest.approx(2 / 3)
    assert [failure["reason"] for failure in evaluation.failures] == ["there is no such file"]
    with pytest.raises(SettingsError, match=r"data.val: 1 of 3 structures have no file, such as .*absent.pdb"):
        make_task(recipe(folds), f"data.val={table}", f"data.root={folds}").check()


def test_ec_protocol_from_annotations_to_scores_by_identity(folds, tmp_path):
    (tmp_path / "annot.tsv").write_text(
        "### EC-numbers\n1.1\t2.2\n### PDB-chain\tEC-numbers\n0000\t1.1\n0001\t1.1,2.2\n"
    )
    for name, chains in (("train", "0000\n0001\n"), ("test", "0000\n0001\n")):
        (tmp_path / f"{name}.txt").write_text(chains)
    columns = "<30%,<40%,<50%,<70%,<95%"
    (tmp_path / "test.csv").write_text(f"PDB-chain,{columns}\n0000,0,0,0,0,1\n0001,1,1,1,1,1\n")
    values = recipe(folds)
    values["data"] |= {
        "labels": "ec",
        "annotations": f"{tmp_path}/annot.tsv",
        "root": f"{folds}/train",
        "identity_table": f"{tmp_path}/test.csv",
        **{split: f"{tmp_path}/{name}.txt" for split, name in (("train", "train"), ("val", "test"), ("test", "test"))},
    }
    task = make_task(values, "evaluation.on=test", "evaluation.identity=30")
    assert (task.class_names, task.protocol) == (("1.1", "2.2"), "test-below30")
    evaluation = task.evaluate(task.build_model().eval())
    assert [item for item, _ in evaluation.items] == ["0001"] and evaluation.targets.tolist() == [[True, True]]
    assert make_task(values, "evaluation.on=test").evaluate(task.build_model().eval()).gathered.num_read == 2


def test_a_test_list_is_one_of_the_recipe(folds):
    assert make_task(recipe(folds)).test_task() is None
    task = make_task(recipe(folds), f"data.test={folds}/val.csv").test_task()
    assert task.protocol == "test" and task.num_evaluation_samples == make_task(recipe(folds)).num_evaluation_samples
    with pytest.raises(SettingsError, match=r"evaluation\.on=test needs data\.test"):
        make_task(recipe(folds), "evaluation.on=test").val_files  # noqa: B018


def test_a_share_of_the_training_structures_validates(folds):
    task = make_task(recipe(folds), "data.val=0.25")
    assert task.num_train_samples + task.num_evaluation_samples == 12 and task.num_evaluation_samples in range(1, 8)
    assert not {item.id for item in task.train_files} & {item.id for item in task.val_files}


def test_the_loss_is_the_mean_over_labels(folds):
    task = make_task(recipe(folds))
    (batch,) = task.train_batches(0, 1, 4, "train")
    model = task.build_model().eval()
    loss, sums = task.training_step(model, batch)
    logits, targets = model(batch["graphs"]).detach().double().numpy(), batch["targets"].numpy()
    chance = 1 / (1 + np.exp(-logits))
    expected = -np.log(np.where(targets, chance, 1 - chance)).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-5) and sums["loss"].item() == pytest.approx(4 * expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.labels=ec", "labels=ec needs `annotations`, DeepFRI's file, and `root`"),
        ("data.annotations=x.tsv", "annotations are for labels=ec, go_mf, go_bp and go_cc"),
        ("evaluation.identity=30", "evaluation.identity needs data.identity_table and evaluation.on=test"),
        ("model.name=nbfnet", "model.name: .*eurnet_protein"),
        ("model.options.depth=3", "model: no option of eurnet_protein is called 'depth'"),
        ("model.options.ffn_ratio=-1", "model: ffn_ratio must be above 0, not -1"),
        ("model.options.num_labels=3", "model.options.num_labels: the labels and data.graph decide it"),
        ("evaluation.on=test", "evaluation.on=test is for tools/evaluate.py: a run chooses its best checkpoint"),
        ("data.class_names=[helices,strands]", "'barrel' is not one of the 2 labels"),
        ("model.num_classes=4", "model.num_classes is 4, but there are 3 labels"),
    ],
)
def test_recipes_that_do_not_fit(folds, change, message):
    with pytest.raises(SettingsError, match=message):
        make_task(recipe(folds), change).check()


def test_identity_is_for_lists_of_chains(folds):
    changes = ("evaluation.on=test", "evaluation.identity=30", "data.identity_table=x.csv", "data.test=y.csv")
    with pytest.raises(SettingsError, match="identity is for lists of chains"):
        make_task(recipe(folds), *changes)
