"""Link prediction from files of facts: exact resume, ranks, what is hidden in training, answers, and bad input."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from launching import kill_training
from run_files import lines
from simulated_runs import TwoRanks, train_whole_and_broken, weights_of, without_plots

from datasets.synthetic.families import make_families
from engine.distributed import Ranks
from engine.task import AnswersQuestions, ResumeFolder
from eurgraph.walk_baselines import RandomWalk
from evaluators import resumable_predictions
from inference.trained import load_trained
from settings import SettingsError, parse_settings, write_yaml
from tasks.link_losses import negatives_loss, softmax_loss
from tasks.link_prediction import REASONERS, LinkPrediction
from tools import evaluate, link_baselines, train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def families(tmp_path_factory) -> Path:
    return make_families(tmp_path_factory.mktemp("kg") / "set", num_train=3, num_test=2)


def recipe(folder, **sections):
    """4 steps, checkpoints at steps 2 and 4, an evaluation at the end."""
    settings = {
        "task": "link_prediction",
        "model": {"name": "eurnet_kg", "options": {"dim": 8, "num_layers": 3, "profile_dim": 4}},
        "data": {"train": f"{folder}/families", "test": f"{folder}/families_ind"},
        "optimizer": {"name": "adamw", "lr": 0.01},
        "train": {"num_samples": 32, "batch_size": 8, "checkpoint_every_steps": 2, "evaluate_every_epochs": 1000},
        "run": {"num_threads": 1},
    }
    return {name: {**settings.get(name, {}), **value} if isinstance(value, dict) else value
            for name, value in {**settings, **sections}.items()}  # fmt: skip


def make_task(folder, ranks=None, **sections):
    settings = parse_settings(LinkPrediction.Settings, recipe(folder, **sections), "test")
    return LinkPrediction(settings, ranks or Ranks(0, 1, CPU))


def without_speed(evaluation):
    return {name: value for name, value in evaluation.summary().items() if "per_second" not in name}


@pytest.mark.parametrize("name", ["eurnet_kg", "nbfnet"])
@without_plots()
def test_a_run_that_breaks_off_ends_as_the_other(name, families, tmp_path):
    """To the last bit; and its weights answer questions without the training files."""
    options = {"dim": 8, "num_layers": 2}
    settings = recipe(families, model={"name": name, "options": options})
    whole, broken = train_whole_and_broken(LinkPrediction, settings, tmp_path)
    assert lines(broken, None) == lines(whole, None)

    task, model, _ = load_trained(whole, overrides=["data.train=/nowhere"])
    assert isinstance(task, AnswersQuestions) and len(task.relations) == model.num_relations
    graph = task.read_graph(families / "families_ind/train.txt")
    heads, relations = torch.tensor([0, 1, 2]), torch.tensor([0, 1, model.num_relations])
    rows = list(task.probabilities(model, graph, heads, relations))
    assert len(rows) == 3 and all(row.shape == (len(graph.entities),) for row in rows)
    known = graph.data.edge_index[1][(graph.data.edge_index[0] == 1) & (graph.data.edge_type == 1)]
    unknown = torch.ones(len(graph.entities), dtype=torch.bool).scatter(0, known, False)
    assert rows[1][unknown].sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_a_killed_run_resumes_bit_for_bit_and_two_processes_train_as_one(families, tmp_path, start):
    steps = {"num_samples": 240, "log_every_steps": 1, "checkpoint_every_steps": 10}
    (tmp_path / "recipe.yaml").write_text(write_yaml(recipe(families, train=steps)))
    whole, cut, two = (tmp_path / name for name in ("whole", "cut", "two"))
    arguments = {run: ("-c", tmp_path / "recipe.yaml", f"run.dir={run}") for run in (whole, cut, two)}
    start("tools/train.py", *arguments[whole])
    kill_training(arguments[cut], cut, num_lines=14)
    assert len(lines(cut, None)) < 30
    assert f"continuing {cut} after step" in start("tools/train.py", *arguments[cut]).stderr
    assert lines(cut, None) == lines(whole, None) and len(lines(whole, None)) == 31
    ours, theirs = weights_of(cut), weights_of(whole)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)

    start("tools/train.py", *arguments[two], processes=2, fork=False)
    for one, other in zip(lines(whole, None), lines(two, None), strict=True):
        name = "loss" if one["split"] == "train" else "score"
        assert other[name] == pytest.approx(one[name], rel=1e-3)


@pytest.mark.parametrize("on", ["val", "test"])
def test_scores_are_the_same_on_one_rank_and_on_two(families, on):
    torch.manual_seed(0)
    task = make_task(families, evaluation={"on": on, "questions_per_forward": 7})
    model = task.build_model().eval()
    one = task.evaluate(model)
    for rank in (1, 0):
        task = make_task(families, TwoRanks(rank, 2, CPU), evaluation={"on": on, "questions_per_forward": 7})
        two = task.evaluate(model)
    assert without_speed(two) == without_speed(one) and len(one.index) == task.num_evaluation_samples
    assert one.protocol == {"val": "val", "test": "ind_test"}[on]
    by_one = make_task(families, evaluation={"on": on, "questions_per_forward": 1}).evaluate(model)
    assert without_speed(by_one) == without_speed(one)


def test_an_interrupted_evaluation_continues_to_the_same_numbers(families, tmp_path, monkeypatch):
    monkeypatch.setattr(resumable_predictions.ResumablePredictions.__init__, "__defaults__", (0,))
    torch.manual_seed(0)
    task = make_task(families, evaluation={"questions_per_forward": 5})
    model = task.build_model().eval()
    whole, real, calls = task.evaluate(model), type(model).forward, []

    def broken(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    folder = ResumeFolder(tmp_path / "rows", {"weights": "these"})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(type(model), "forward", broken)
        task.evaluate_resumably(model, folder)
    resumed = task.evaluate_resumably(model, folder)
    assert resumed.gathered.num_kept == 10 and without_speed(resumed) == without_speed(whole)


def edges_of(index):
    return set(zip(index.source.tolist(), index.relation.tolist(), index.target.tolist(), strict=True))


@pytest.mark.parametrize("remove", ["triple", "pair"])
def test_what_is_asked_is_not_in_the_graph(families, remove):
    """Nor is its inverse, nor its part in the relational context: the answer is planted, and found missing."""
    task = make_task(families, loss={"remove": remove})
    num_relations = len(task.relations)
    whole = edges_of(task._training_graph.index)
    for batch in islice(task.train_batches(0, 3, 6, "train"), 3):
        left, gone = edges_of(batch["graph"]), set()
        for head, relation, answer in zip(
            *(batch[name].tolist() for name in ("heads", "relations", "answers")), strict=True
        ):
            inverse = relation - num_relations if relation >= num_relations else relation + num_relations
            gone |= {(head, relation, answer), (answer, inverse, head)}
        if remove == "pair":
            pairs = {frozenset((head, tail)) for head, _, tail in gone}
            gone = {edge for edge in whole if frozenset((edge[0], edge[2])) in pairs}
        assert gone <= whole and left == whole - gone
        counts = torch.bincount(batch["graph"].target, minlength=len(task.splits.entities))
        assert counts.sum() == len(left)


def test_two_ranks_hide_the_facts_of_both(families):
    alone = make_task(families).train_batches(1, 1, 8, "train")
    expected = next(iter(alone))
    parts = [next(iter(make_task(families, Ranks(rank, 2, CPU)).train_batches(1, 1, 4, "train"))) for rank in range(2)]
    for part in parts:
        assert edges_of(part["graph"]) == edges_of(expected["graph"])
    for name in ("heads", "relations", "answers", "index"):
        assert torch.equal(torch.cat([part[name] for part in parts]), expected[name])


def test_half_the_questions_ask_for_heads(families):
    task = make_task(families)
    batch = next(iter(task.train_batches(0, 1, task.num_train_samples, "train")))
    assert (batch["relations"] >= len(task.relations)).double().mean() == 0.5


def test_the_loss_leaves_out_what_is_right_too():
    scores = torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
    known = torch.tensor([[0, 0], [1, 3]])
    expected = -torch.log(torch.exp(scores[0, 1]) / torch.exp(scores[0, :3]).sum())
    torch.testing.assert_close(softmax_loss(scores, torch.tensor([1]), known)[0], expected)


def test_negatives_weigh_by_their_scores():
    scores = torch.tensor([[0.5, 2.0, -1.0]], dtype=torch.float64)
    weight = (scores[0, 1:] / 0.5).softmax(0)
    expected = -(scores[0, 0].sigmoid().log() + (weight * (-scores[0, 1:]).sigmoid().log()).sum()) / 2
    found = negatives_loss(scores, torch.tensor([0]), torch.tensor([[1, 2]]), 0.5)
    torch.testing.assert_close(found[0], expected)


@pytest.mark.slow
def test_training_on_negatives_lowers_the_loss(families):
    torch.manual_seed(0)
    task = make_task(families, loss={"name": "negatives", "num_negatives": 8})
    model = task.build_model()
    optimizer, losses = torch.optim.Adam(model.parameters(), 0.01), []
    for batch in task.train_batches(0, 60, 16, "train"):
        loss, _ = task.training_step(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.03


def test_path_decay_adds_the_squares_of_the_scores_by_paths_to_the_loss(families):
    task, decayed = make_task(families), make_task(families, loss={"path_decay": 0.5})
    model, batch = task.build_model(), next(iter(task.train_batches(0, 1, 16, "train")))
    _, by_paths = model(batch["graph"], batch["heads"], batch["relations"], with_paths=True)
    (plain, sums), (loss, sums_too) = (one.training_step(model, batch) for one in (task, decayed))
    expected = plain + 0.25 * by_paths.square().mean()
    torch.testing.assert_close(loss, expected)
    assert torch.equal(sums["loss"], sums_too["loss"]) and loss > plain
    weights = list(model.readout.parameters())
    for ours, theirs in zip(*(torch.autograd.grad(one, weights) for one in (loss, expected)), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_other_facts_and_other_relations_are_noticed(families, tmp_path):
    whole = (families / "families/train.txt").read_text().splitlines()
    (tmp_path / "fewer.txt").write_text("\n".join(whole[1:]) + "\n")
    ours = make_task(families)
    theirs = make_task(families, data={"train": str(tmp_path / "fewer.txt")})
    for part in ("training", "validation"):
        assert ours.fingerprint(part) != theirs.fingerprint(part)
    relations = tmp_path / "relations.txt"
    relations.write_text("\n".join(reversed(ours.relations.names)) + "\n")
    assert make_task(families, data={"relations": str(relations)}).fingerprint("outputs") != ours.fingerprint("outputs")


def test_relations_go_by_the_names_of_the_network_and_not_by_their_order_in_a_file(families, tmp_path):
    file = families / "families/train.txt"
    whole = sorted(file.read_text().splitlines(), key=lambda line: line.split("\t")[1])
    (tmp_path / "sorted.txt").write_text("\n".join(reversed(whole)) + "\n")
    ours, sorted_facts = make_task(families, data={"train": str(file)}), {"train": str(tmp_path / "sorted.txt")}
    model = ours.build_model().double()
    names = list(ours.relations.names)
    assert make_task(families, data=sorted_facts).relations.names != ours.relations.names
    ours.load_initial_weights(model)
    facts = {"recipe": json.dumps({"data": {"relations": names}})}
    safetensors.torch.save_file(model.state_dict(), tmp_path / "weights.safetensors", facts)
    for change in (
        {"data": {**sorted_facts, "relations": names}},
        {"data": sorted_facts, "model": {"pretrained": str(tmp_path / "weights.safetensors")}},
    ):
        theirs = make_task(families, **change)
        assert theirs.relations.names == ours.relations.names == theirs.splits.relations.names
        assert theirs.evaluate(model).summary()["mrr"] == pytest.approx(ours.evaluate(model).summary()["mrr"])
    lost = make_task(families, data={**sorted_facts, "relations": names[1:]})
    with pytest.raises(SettingsError, match=rf"sorted\.txt:\d+: no relation is called '{names[0]}'"):
        lost.check()


def test_facts_to_ask_for_are_no_part_of_the_training_graph(families, tmp_path):
    relation = make_task(families).relations.names[0]
    (tmp_path / "test.txt").write_text(f"someone\t{relation}\tsomeone else\n")
    alone, tested = make_task(families), make_task(families, data={"test": str(tmp_path / "test.txt")})
    assert len(tested.splits.entities) == len(alone.splits.entities) + 2
    counted = [task.build_model() for task in (alone, tested)]
    for task, model in zip((alone, tested), counted, strict=True):
        task.load_initial_weights(model)
    assert torch.equal(counted[0].counted, counted[1].counted)
    assert alone.fingerprint("training") == tested.fingerprint("training")
    (first, second) = (next(iter(task.train_batches(0, 1, 4, "train"))) for task in (alone, tested))
    assert first["graph"].num_nodes == second["graph"].num_nodes == alone.splits.num_train_entities


@pytest.mark.parametrize(
    ("train", "val", "on", "is_held_out"),
    [
        ("families/train.txt", None, "val", True),
        ("families/train.txt", 0.2, "val", True),
        ("families/train.txt", "families/test.txt", "val", False),
        ("families", None, "val", False),
        ("families", 0.2, "val", True),
        ("families", 0.2, "test", False),
        ("alone", None, "val", True),
    ],
)
def test_facts_are_held_out_of_files_and_of_folders(families, tmp_path, train, val, on, is_held_out):
    (tmp_path / "alone").mkdir()
    (tmp_path / "families").symlink_to(families / "families")
    (tmp_path / "alone/train.txt").symlink_to(families / "families/train.txt")
    val = f"{tmp_path}/{val}" if isinstance(val, str) else val
    task = make_task(families, data={"train": f"{tmp_path}/{train}", "val": val}, evaluation={"on": on})
    assert task.holds_out == is_held_out


@without_plots()
@pytest.mark.parametrize("place", ["families/train.txt", "families"])
def test_facts_that_may_have_been_learned_are_told(families, tmp_path, capsys, place):
    data = {"train": str(families / place), "val": 0.2}
    (tmp_path / "recipe.yaml").write_text(write_yaml(recipe(families, data=data)))
    run = ["--run-dir", str(tmp_path / "run"), f"run.dir={tmp_path / 'run'}"]
    train.main(["-c", str(tmp_path / "recipe.yaml"), run[2]])
    for changes, is_told in ((), False), (["run.seed=3"], True), ([f"data.val={families}/families/test.txt"], False):
        capsys.readouterr()
        evaluate.main([*run[:2], *changes])
        told = capsys.readouterr().err
        assert "facts are held out" in told or not is_told
        assert ("best.safetensors was trained on a different part of its list" in told) == is_told


@pytest.mark.parametrize("name", REASONERS)
def test_half_precision_trains(families, name):
    task = make_task(families, model={"name": name})
    model, batch = task.build_model(), next(iter(task.train_batches(0, 1, 4, "train")))
    full, _ = task.training_step(model, batch)
    with torch.autocast("cpu", torch.bfloat16):
        half, _ = task.training_step(model, batch)
    half.backward()
    torch.testing.assert_close(half, full)
    asked = make_task(families, model={"name": name}, train={"precision": "bf16"})
    assert asked.precision == "float32" and asked.evaluation_key() == task.evaluation_key()


@pytest.mark.parametrize(
    "sections, message",
    [
        ({"model": {"name": "eurnet_tiny"}}, "model.name must be one of eurnet_kg, nbfnet, got 'eurnet_tiny'"),
        ({"model": {"options": {"layers": 3}}}, "model: no option of eurnet_kg is called 'layers'"),
        ({"model": {"options": {"dim": 0}}}, "model: dim must be 1 or more, not 0"),
        ({"model": {"options": {"dim": 32.5}}}, "model: dim must be a whole number, not 32.5"),
        ({"model": {"options": {"num_layers": "two"}}}, "model: num_layers must be a whole number, not 'two'"),
        ({"model": {"options": {"dropout": "abc"}}}, "model: dropout must be at least 0 and below 1, not 'abc'"),
        ({"model": {"options": {"virtual_node": "maybe"}}}, "model: virtual_node must be true or false, not 'maybe'"),
        ({"model": {"options": {"num_relations": 5}}}, r"model\.options\.num_relations: the facts decide it"),
        ({"data": {"train": "/nowhere/facts.tsv"}}, "data: no file or folder at /nowhere/facts.tsv"),
        (
            {"evaluation": {"on": "test"}},
            "evaluation.on=test is for tools/evaluate.py: a run chooses its",
        ),
    ],
)
def test_a_mistake_in_a_recipe_is_named(families, sections, message):
    with pytest.raises(SettingsError, match=message):
        make_task(families, **sections).check()


def test_scores_without_learning_are_those_of_the_recipes_questions(families, tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text(write_yaml(recipe(families)))
    link_baselines.main(["-c", str(tmp_path / "recipe.yaml"), "evaluation.on=test"])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows] == [
        "| random walk",
        "| relation profile",
        "| product of both",
        "| the same, never the head",
    ]
    of_walks = make_task(families, evaluation={"on": "test"}).evaluate(RandomWalk()).summary()["mrr"]
    assert rows[0][1:3] == ["ind_test", f"{of_walks:.3f}"] and of_walks > 0.1
    assert len({row[2] for row in rows}) == 4


def test_scores_without_learning_are_for_facts(tmp_path):
    with pytest.raises(SettingsError, match="is a recipe for segmentation, not for link_prediction"):
        link_baselines.main(["-c", "configs/demo/scene_segmentation.yaml"])


def test_a_test_list_is_one_of_the_recipe(families):
    sections = {"data": {"train": str(families / "families/train.txt"), "test": None}}
    assert make_task(families, **sections).test_task() is None
    message = "evaluation.on=test needs data.test, a file of facts or the folder of another graph"
    with pytest.raises(SettingsError, match=message):
        make_task(families, **sections, evaluation={"on": "test"}).questions  # noqa: B018


def test_training_starts_from_a_counted_profile_and_fine_tuning_does_not(families, tmp_path):
    task = make_task(families)
    model, other = task.build_model(), task.build_model()
    task.load_initial_weights(model)
    other.count_profile(task._training_graph.index)
    assert torch.equal(model.counted, other.counted) and model.counted.abs().sum() > 0
    trained = task.build_model()
    trained.counted.fill_(0.5)
    torch.save(trained.state_dict(), tmp_path / "trained.pt")
    options = {"name": "eurnet_kg", "options": {"dim": 8, "num_layers": 3, "profile_dim": 4}}
    task = make_task(families, model=options | {"pretrained": str(tmp_path / "trained.pt")})
    model = task.build_model()
    task.load_initial_weights(model)
    assert torch.equal(model.counted, trained.counted) and torch.equal(model.asked.weight, trained.asked.weight)
