"""Weights of a classifier with other classes: those rows of it that a new network starts from."""

import pytest
import torch
from torch import nn

from models import WeightsError, create_model, load_pretrained, load_weights
from weight_reader import read_classes


def save(content, path):
    torch.save(content, path)
    return path


@pytest.mark.parametrize("kind", ["pth", "tensor", "txt"])
def test_a_classifier_starts_from_the_rows_of_chosen_classes(tmp_path, kind):
    wide = create_model("hornet_debug_gf", num_classes=30)
    for parameter in wide.head.parameters():
        nn.init.normal_(parameter)
    save(wide.state_dict(), tmp_path / "wide.pth")
    rows, table = [7, 0, 29], tmp_path / ("rows.txt" if kind == "txt" else "rows.pth")
    if kind == "txt":
        table.write_text("7\n0\n29\n")
    else:
        save(torch.tensor(rows) if kind == "tensor" else rows, table)
    assert read_classes(table) == rows
    model = create_model("hornet_debug_gf", num_classes=3)
    assert not load_pretrained(model, tmp_path / "wide.pth", classes=rows).misfits()
    assert torch.equal(model.head.weight, wide.head.weight[rows]) and torch.equal(model.head.bias, wide.head.bias[rows])
    load_pretrained(model, tmp_path / "wide.pth", classes=torch.tensor([4, 0, 1]))
    assert torch.equal(model.head.weight, wide.head.weight[[4, 0, 1]])
    for classes, message in (
        ([], "classes is empty; expected a whole number for each class of the model, or None"),
        ([0, 1.5, 2], r"classes is \[0, 1\.5, 2\]; expected a whole number for each class"),
        (3, "classes is 3; expected a whole number"),
        ([0, 1], "2 classes are selected, but the model has 3"),
        ([0, 1, 30], "has 30 classes"),
    ):
        with pytest.raises(WeightsError, match=message):
            load_pretrained(model, tmp_path / "wide.pth", classes=classes)


@pytest.mark.parametrize("load", [load_weights, load_pretrained])
def test_a_model_without_memory_is_not_filled(tmp_path, load):
    path = save(create_model("eat_debug", num_classes=3).state_dict(), tmp_path / "eat.pth")
    with torch.device("meta"):
        model = create_model("eat_debug", num_classes=3)
    with pytest.raises(
        WeightsError, match=r"eat\.pth: \S+ of eat_debug is on the meta device, .*; build the network outside"
    ):
        load(model, path)


def test_a_classifier_with_a_norm_starts_from_chosen_classes(tmp_path):
    wide = create_model("timm/levit_128s", num_classes=7)
    model = create_model("timm/levit_128s", num_classes=2)
    load_pretrained(model, save(wide.state_dict(), tmp_path / "wide.pth"), classes=[5, 1])
    own, theirs = model.state_dict(), wide.state_dict()
    name = "network.head.linear.weight" if "network.head.linear.weight" in own else "head.linear.weight"
    assert torch.equal(own[name], theirs[name][[5, 1]])


def test_tables_of_classes_that_are_none(tmp_path):
    (tmp_path / "words.txt").write_text("7\nseven\n")
    with pytest.raises(WeightsError, match=r"words\.txt: expected a class index on each line.*'seven'"):
        read_classes(tmp_path / "words.txt")
    for wrong in ({0: 5, 1: 7}, torch.tensor([1.7]), torch.tensor([True, False]), [True], 3):
        with pytest.raises(WeightsError, match=r"wrong\.pth: expected .* is not a list of whole numbers"):
            read_classes(save(wrong, tmp_path / "wrong.pth"))
    (tmp_path / "bom.csv").write_text("7\n0\n", encoding="utf-8-sig")
    assert read_classes(tmp_path / "bom.csv") == [7, 0]
    (tmp_path / "empty.txt").touch()
    with pytest.raises(WeightsError, match=r"empty\.txt: contains no class indices"):
        read_classes(tmp_path / "empty.txt")
    with pytest.raises(WeightsError, match="there is no such file"):
        read_classes(tmp_path / "gone.pth")


def test_the_average_that_mmcv_keeps_beside_the_weights_is_left_out(tmp_path):
    weights = create_model("hornet_debug_7x7", num_classes=3).state_dict()
    twins = {f"ema_{name.replace('.', '_')}": tensor + 1 for name, tensor in weights.items()}
    model = create_model("hornet_debug_7x7", num_classes=3)
    load_weights(model, save({"state_dict": weights | twins}, tmp_path / "both.pth"))
    assert torch.equal(model.head.weight, weights["head.weight"])


@pytest.mark.parametrize("prefix", ["", "model.", "backbone."])
def test_entries_beside_those_of_the_model_are_named(tmp_path, prefix):
    model = create_model("hornet_debug_7x7", num_classes=3)
    weights = {prefix + name: tensor + 1 for name, tensor in model.state_dict().items()}
    path = save(weights | {"loss.weight": torch.ones(1)}, tmp_path / "more.pth")
    expected = r"1 not in the model: loss\.weight\nTry: load_weights\(\.\.\., strict=False\), which leaves out entries"
    for load in (load_weights, load_pretrained) if prefix != "backbone." else (load_weights,):
        with pytest.raises(WeightsError, match=expected):
            load(model, path)
    assert load_weights(model, path, strict=False).unexpected == ["loss.weight"]
    assert torch.equal(model.head.weight, weights[f"{prefix}head.weight"])
