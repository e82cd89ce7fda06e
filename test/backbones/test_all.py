"""Every backbone by its name: the table tells the truth, the authors' files load, and the debug flavours learn."""

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from golden_weights import read_golden, state_dict_for

from models import MODELS, WeightsError, create_model, list_models, load_pretrained, load_weights

FAMILIES = ("hornet_", "glnet_", "eat_")
NAMES = [name for name in list_models() if name.startswith(FAMILIES)]
DEBUG = [name for name in NAMES if "_debug" in name]


@pytest.mark.parametrize("name", NAMES)
def test_table_tells_the_truth(name):
    with torch.device("meta"):
        model, other = create_model(name), create_model(name, num_classes=7)
    assert model.num_classes == 1000
    assert sum(parameter.numel() for parameter in model.parameters()) == MODELS[name].num_parameters
    entries, others = model.state_dict(), other.state_dict()
    assert entries.keys() == others.keys()
    differing = [entry for entry in entries if entries[entry].shape != others[entry].shape]
    assert differing and all(entry.startswith(model.classifier_names) for entry in differing)


def wrap_bare(weights, path):
    torch.save(weights, path)


def wrap_model(weights, path):
    torch.save({"model": weights, "epoch": 299}, path)


def wrap_ema(weights, path):
    torch.save({"model_ema": weights}, path)


def wrap_parallel(weights, path):
    torch.save({"state_dict": {f"module.{entry}": tensor for entry, tensor in weights.items()}}, path)


def wrap_safetensors(weights, path):
    safetensors.torch.save_file(weights, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


WRAPPINGS = [wrap_bare, wrap_model, wrap_ema, wrap_parallel, wrap_safetensors]


@pytest.mark.parametrize("name", ["hornet_tiny_gf", "glnet_stl_paramslot"])
def test_authors_files_load(name, tmp_path):
    weights = state_dict_for(read_golden(name)["state_dict"])
    with torch.device("meta"):
        model = create_model(name)
    model.to_empty(device="cpu")
    wrap_model(weights, tmp_path / "authors.pth")
    report = load_weights(model, tmp_path / "authors.pth")
    assert len(report.loaded) == len(weights) and not report.misfits()
    entries = model.state_dict()
    assert all(torch.equal(entries[entry], tensor) for entry, tensor in weights.items())


@pytest.mark.parametrize("wrap", WRAPPINGS)
@pytest.mark.parametrize("name", DEBUG)
def test_every_wrapping_loads(name, wrap, tmp_path):
    model, copy = create_model(name, num_classes=5), create_model(name, num_classes=5)
    path = wrap(model.state_dict(), tmp_path / "weights.pth") or tmp_path / "weights.pth"
    load_weights(copy, path)
    entries = model.state_dict()
    assert all(torch.equal(tensor, entries[entry]) for entry, tensor in copy.state_dict().items())


@pytest.mark.parametrize("name", DEBUG)
def test_learns_and_comes_back_from_its_file(name, tmp_path):
    torch.manual_seed(0)
    model = create_model(name, num_classes=3)
    labels = torch.arange(6) % 3
    images = torch.randn(6, *MODELS[name].input_shape) + labels[:, None, None, None]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
    assert losses[-1] < losses[0]

    torch.save(model.state_dict(), tmp_path / "weights.pt")
    copy = create_model(name, num_classes=3)
    load_weights(copy, tmp_path / "weights.pt")
    assert torch.equal(copy.eval()(images), model.eval()(images))

    other = create_model(name, num_classes=9)
    with pytest.raises(WeightsError, match="num_classes=3"):
        load_weights(other, tmp_path / "weights.pt")
    report = load_pretrained(other, tmp_path / "weights.pt")
    assert {entry for entry, _, _ in report.mismatched} == {
        entry for entry in other.state_dict() if entry.startswith(other.classifier_names)
    }
