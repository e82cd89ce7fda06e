"""Every family by its name: the authors' files load in every wrapping, and the debug flavours learn and come back.

That every model of the table has its parameters and takes its input is tested with the table (test_models.py).
"""

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from golden_weights import read_golden
from torch.nn.modules.module import register_module_forward_pre_hook

from backbones import PerFrame, glnet_blocks, hornet
from backbones.glnet import TokenLabeling
from eurgraph import grid_conv
from models import (
    MODELS,
    WeightsError,
    create_model,
    create_pyramid,
    list_models,
    load_pretrained,
    load_weights,
    takes_images,
)

FAMILIES = list_models("*debug*")
DEBUG = [name for family in ("hornet", "glnet", "eat") for name in list_models(f"{family}_debug*")]


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


@pytest.mark.parametrize("name", ["hornet_tiny_gf", "glnet_stl_paramslot", "glnet_4g_tklb"])
def test_authors_files_load(name, tmp_path):
    model = create_model(name)
    entries = model.state_dict()
    shapes = read_golden(name)["state_dict"]
    weights = {entry: torch.full(shapes[entry], i, dtype=entries[entry].dtype) for i, entry in enumerate(shapes)}
    wrap_model(weights, tmp_path / "authors.pth")
    report = load_weights(model, tmp_path / "authors.pth")
    assert len(report.loaded) == len(weights) and not report.misfits()
    assert all(torch.equal(entries[entry], tensor) for entry, tensor in weights.items())


@pytest.mark.parametrize("wrap", WRAPPINGS)
@pytest.mark.parametrize("name", DEBUG)
def test_every_wrapping_loads(name, wrap, tmp_path):
    model, copy = create_model(name, num_classes=5), create_model(name, num_classes=5)
    path = wrap(model.state_dict(), tmp_path / "weights.pth") or tmp_path / "weights.pth"
    load_weights(copy, path)
    entries = model.state_dict()
    assert all(torch.equal(tensor, entries[entry]) for entry, tensor in copy.state_dict().items())


def loss_of(output, labels):
    if not isinstance(output, TokenLabeling):
        return F.cross_entropy(output, labels)
    tokens = output.token_logits  # [B, N, C]
    return F.cross_entropy(output.logits, labels) + F.cross_entropy(tokens.mT, labels[:, None].expand(tokens.shape[:2]))


@pytest.mark.parametrize("name", DEBUG)
def test_learns_and_comes_back_from_its_file(name, tmp_path):
    torch.manual_seed(0)
    model = create_model(name, num_classes=3)
    labels = torch.arange(3)
    images = torch.randn(3, *MODELS[name].input_shape) + labels[:, None, None, None]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(5):
        loss = loss_of(model(images), labels)
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


@pytest.mark.parametrize("name", FAMILIES)
def test_runs_and_learns_in_bfloat16(name):
    torch.manual_seed(0)
    model, images = create_model(name, num_classes=3).bfloat16(), torch.randn(2, *MODELS[name].input_shape).bfloat16()
    loss = loss_of(model(images), torch.arange(2))
    loss.backward()
    assert loss.dtype == torch.bfloat16
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.requires_grad)
    with torch.inference_mode():
        logits = model.eval()(images)
        torch.testing.assert_close(logits, model.float()(images.float()).bfloat16(), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("name", FAMILIES)
def test_an_empty_batch_gives_empty_results(name):
    size = MODELS[name].input_shape
    model, pyramid = create_model(name, num_classes=3), create_pyramid(name)
    one, none = torch.zeros(1, *size), torch.zeros(0, *size)
    output = model(none)
    (output.logits if isinstance(output, TokenLabeling) else output).sum().backward()
    with torch.inference_mode():
        assert model.eval()(none).shape == (0, 3)
        shapes = [level.shape[1:] for level in pyramid.eval().forward_pyramid(one)]
        assert [level.shape for level in pyramid.forward_pyramid(none)] == [(0, *shape) for shape in shapes]
        if takes_images(name):
            clips = none.unsqueeze(2).expand(0, 3, 2, *size[1:])
            assert PerFrame(model)(clips).shape == (0, 3)
            assert PerFrame(model).forward_features(clips).shape[0] == 0
            levels = PerFrame(pyramid).forward_pyramid(clips)
            assert [level.shape for level in levels] == [(0, shape[0], 2, *shape[1:]) for shape in shapes]


@pytest.fixture
def tiny_parts(monkeypatch):
    """Inference on a CPU takes maps in the smallest parts that it can."""
    for module in (hornet, glnet_blocks, grid_conv):
        monkeypatch.setattr(module, "CACHED_VALUES", 1)
    for module in (hornet, grid_conv):
        monkeypatch.setattr(module, "MIN_PART", 1)


# GloRe's networks overwrite the outputs of batch norms, as all ResNets do.
@pytest.mark.parametrize("name", [name for name in FAMILIES if "resnet" not in name and "dpn" not in name])
def test_hooks_see_whole_maps_that_nothing_overwrites(name, tiny_parts):
    """On a CPU without gradients, where blocks otherwise take maps in parts and in place."""
    model, inputs = create_model(name, num_classes=3).eval(), torch.randn(2, *MODELS[name].input_shape)
    seen = []

    def keep(part, inputs, outputs):
        for x in (*inputs, *(outputs if isinstance(outputs, tuple) else [outputs])):
            if isinstance(x, torch.Tensor):
                seen.append((part, x, x.clone()))

    with torch.no_grad():
        expected = model(inputs)
        calls = [part.register_forward_hook(keep) for part in model.modules() if part is not model]
        torch.testing.assert_close(model(inputs), expected)
    assert len({part for part, *_ in seen}) > 0.5 * len(calls)
    assert all(len(x) == 2 and torch.equal(x, copy) for _, x, copy in seen)


@pytest.mark.parametrize("name", ["hornet_debug_7x7", "glnet_debug", "eurnet_debug"])
def test_a_hook_for_all_modules_sees_whole_maps(name, tiny_parts):
    model, batches = create_model(name, num_classes=3).eval(), []
    hook = register_module_forward_pre_hook(lambda part, inputs: batches.append(len(inputs[0])))
    with torch.no_grad():
        model(torch.randn(2, *MODELS[name].input_shape))
    hook.remove()
    assert set(batches) == {2}


@pytest.mark.parametrize("name", ["hornet_debug_7x7", "hornet_debug_gf", "eurnet_debug", "eurnet_debug_video"])
def test_torch_func_gives_the_gradients_of_each_sample(name):
    torch.manual_seed(0)
    model, inputs = create_model(name, num_classes=3).eval(), torch.randn(2, *MODELS[name].input_shape)
    weights = {entry: weight for entry, weight in model.named_parameters() if weight.requires_grad}

    def loss(own, x):
        return torch.func.functional_call(model, own, x[None]).square().sum()

    each = torch.vmap(torch.func.grad(loss), (None, 0))(
        {entry: weight.detach() for entry, weight in weights.items()}, inputs
    )
    for i, x in enumerate(inputs):
        expected = torch.autograd.grad(loss(weights, x), list(weights.values()))
        for found, own in zip(each.values(), expected, strict=True):
            torch.testing.assert_close(found[i], own, rtol=1e-3, atol=1e-5 * own.abs().max().item() + 1e-6)
    with torch.no_grad():
        torch.testing.assert_close(torch.vmap(lambda x: model(x[None])[0])(inputs), model(inputs))
