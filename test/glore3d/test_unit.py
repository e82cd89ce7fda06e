"""The unit against the authors' numbers, and against itself in other layouts and sizes."""

from functools import partial

import pytest
import torch
from golden_weights import deviation, input_for, read_golden, state_dict_for

from glore3d import GloReUnit

GOLDEN = read_golden("glore_unit")["cases"]
LAYOUTS = {2: torch.channels_last, 3: torch.channels_last_3d}


def golden_unit(case):
    dim = len(case["input_shape"]) - 2
    unit = GloReUnit(case["num_in"], case["num_mid"], dim=dim, normalize=case["normalize"])
    unit.load_state_dict(state_dict_for(case["state_dict"]))
    return unit.double(), input_for(case["input_shape"]).double().requires_grad_()


def summary(tensor, num_values, *first):
    """How the golden files sum up a tensor: statistics, then its first values."""
    return torch.stack([*first, *tensor.detach().flatten()[:num_values]])


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_output_and_every_gradient_equal_the_authors(name, mode):
    case = GOLDEN[name]
    unit, x = golden_unit(case)
    unit.train(mode == "train")
    output = unit(x)
    (output * input_for(output.shape, seed=1)).sum().backward()
    golden = case[mode]
    assert deviation(output, golden["output"]) < 2e-7
    gradients = {key: value.grad for key, value in unit.named_parameters()}
    assert gradients.keys() == golden["grad"].keys()
    for grad, values in [(x.grad, golden["grad_input"]), *((gradients[k], v) for k, v in golden["grad"].items())]:
        actual = summary(grad, len(values) - 1, grad.norm())
        assert (actual - torch.tensor(values)).abs().max() < 2e-7 * values[0]
    if mode == "train":
        assert deviation(unit.blocker.running_mean, golden["running_mean_after"]) < 2e-7
        assert deviation(unit.blocker.running_var, golden["running_var_after"]) < 2e-7


@pytest.mark.parametrize("name", GOLDEN)
def test_every_step_equals_the_authors(name):
    case = GOLDEN[name]
    unit, x = golden_unit(case)
    steps = {}

    def keep(module, args, output, part):
        steps[part] = output

    for part in case["features"]:
        unit.get_submodule(part).register_forward_hook(partial(keep, part=part))
    unit.eval()(x)
    for part, values in case["features"].items():
        step = steps[part]
        actual = summary(step, len(values) - 2, step.mean(), step.std())
        assert (actual - torch.tensor(values)).abs().max() < 2e-7 * step.std(), part


@pytest.mark.parametrize("name", GOLDEN)
def test_names_shapes_and_number_of_parameters(name):
    case = GOLDEN[name]
    unit, _ = golden_unit(case)
    assert {key: list(value.shape) for key, value in unit.state_dict().items()} == case["state_dict"]
    assert sum(p.numel() for p in unit.parameters()) == case["params"]


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_new_unit_is_the_identity_and_can_leave_it(dim):
    unit = GloReUnit(8, 3, dim)
    x = torch.randn(2, 8, *(4, 5, 3)[:dim])
    output = unit(x)
    assert torch.equal(output, x)
    (output**2).sum().backward()
    assert unit.blocker.weight.grad.abs().max() > 0


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dim", [2, 3])
def test_layouts_agree_and_survive(dim, training):
    unit = GloReUnit(16, 4, dim).double().train(training)
    torch.nn.init.ones_(unit.blocker.weight)
    x = torch.randn(2, 16, *(3, 5, 4)[-dim:], dtype=torch.float64)
    last = x.to(memory_format=LAYOUTS[dim])
    output, output_last = unit(x), unit(last)
    assert output.is_contiguous()
    assert output_last.is_contiguous(memory_format=LAYOUTS[dim])
    torch.testing.assert_close(output, output_last, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_the_way_back_keeps_the_layout_of_the_way_there(layout):
    unit = GloReUnit(16, 4).to(memory_format=layout)
    ways = []
    unit.conv_proj.register_forward_hook(lambda module, args, output: ways.append(output))
    unit.conv_extend.register_forward_pre_hook(lambda module, args: ways.append(args[0]))
    unit(torch.randn(16, 16, 3, 6, 5).to(memory_format=layout))
    there, back = (way.is_contiguous(memory_format=torch.channels_last_3d) for way in ways)
    assert there == back


def test_normalize_makes_the_unit_independent_of_the_number_of_positions():
    x = torch.randn(2, 6, 5)
    for normalize in (True, False):
        unit = GloReUnit(6, 2, dim=1, normalize=normalize).eval()
        torch.nn.init.ones_(unit.blocker.weight)
        twice = unit(torch.cat([x, x], dim=2))
        assert torch.allclose(twice[:, :, :5], unit(x), atol=1e-5) == normalize


@pytest.mark.parametrize("normalize", [False, True])
def test_large_maps_fit_bfloat16_and_overflow_float16(normalize):
    unit = GloReUnit(4, 2, dim=2, normalize=normalize).eval()
    for name, parameter in unit.named_parameters():
        torch.nn.init.constant_(parameter, 0.5 if name.endswith("weight") else 0)
    x = torch.full((1, 4, 100, 100), 3.0)
    assert unit.bfloat16()(x.bfloat16()).isfinite().all()
    assert not unit.half()(x.half()).isfinite().all()


@pytest.mark.parametrize("normalize", [False, True])
def test_large_maps_fit_autocast_to_float16(normalize):
    unit = GloReUnit(8, 4, dim=2, normalize=normalize)
    torch.nn.init.ones_(unit.blocker.weight)
    x = 5 + 3 * torch.randn(1, 8, 150, 150)
    v = unit.conv_state(x).flatten(2) @ unit.conv_proj(x).flatten(2).mT
    assert v.abs().max() > torch.finfo(torch.float16).max
    with torch.autocast("cpu", torch.float16):
        y = unit(x.half())
    assert y.dtype == torch.float16 and (y - unit(x)).abs().max() < 0.1
    y.float().square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in unit.parameters())


def test_any_size():
    unit = GloReUnit(4, 2)
    for size in [(1, 1, 1), (1, 7, 2), (9, 1, 3)]:
        assert unit(torch.randn(2, 4, *size)).shape == (2, 4, *size)


def test_wrong_inputs_are_named():
    with pytest.raises(ValueError, match="1, 2 or 3 dimensions, not dim=4"):
        GloReUnit(4, 2, dim=4)
    with pytest.raises(ValueError, match="num_in must be 1 or more, not 0"):
        GloReUnit(0, 2)
    with pytest.raises(ValueError, match="num_mid must be 1 or more, not 0"):
        GloReUnit(16, 0)
    with pytest.raises(ValueError, match=r"maps \[B, C, T, H, W\] with C = 4 channels, not \[2, 5, 1, 1, 1\]"):
        GloReUnit(4, 2)(torch.randn(2, 5, 1, 1, 1))
    with pytest.raises(ValueError, match=r"maps \[B, C, H, W\] with C = 4 channels, not \[2, 4, 3\]"):
        GloReUnit(4, 2, dim=2)(torch.randn(2, 4, 3))
