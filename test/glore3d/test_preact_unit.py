"""The image networks' unit against the authors' steps written out, and against itself in other layouts and sizes."""

import pytest
import torch
from golden_weights import input_for, state_dict_for
from torch.nn import functional as F

from glore3d.dual_path import DualPathGloReUnit
from glore3d.preact_unit import PreActGloReUnit


def unit_with_weights(unit):
    unit.load_state_dict(state_dict_for({name: value.shape for name, value in unit.state_dict().items()}))
    return unit.double()


def direct(weights, x, tails):
    """The unit as MXNet's operators would compute it, from a state dict; batch norms use their running statistics."""

    def step(name, value):  # batch norm and ReLU over axis 1, then a 1 x 1 convolution
        mean, var = weights[f"{name}.bn.running_mean"], weights[f"{name}.bn.running_var"]
        scale, shift = weights[f"{name}.bn.weight"], weights[f"{name}.bn.bias"]
        value = F.batch_norm(value, mean, var, scale, shift, eps=1e-4).relu()
        kernel = weights[f"{name}.conv.weight"].flatten(1)
        return torch.einsum("oi,bi...->bo...", kernel, value)

    states, nodes = (step(name, x).flatten(2) for name in ("conv_state", "conv_proj"))
    v = torch.einsum("bsl,bnl->bsn", states, nodes)
    u = v + step("gcn.conv1", v.transpose(1, 2)).transpose(1, 2)
    back = torch.einsum("bsn,bnl->bsl", step("gcn.conv2", u), nodes).reshape(len(x), -1, *x.shape[2:])
    return x + torch.cat([step(tail, back) for tail in tails], 1)


@pytest.mark.parametrize(
    "make, tails",
    [
        (lambda: PreActGloReUnit(12, 3), ["conv_extend"]),
        (lambda: DualPathGloReUnit(12, 3, num_sum=8), ["conv_extend.residual", "conv_extend.dense"]),
    ],
)
def test_it_computes_the_authors_steps(make, tails):
    unit = unit_with_weights(make()).eval()
    x = input_for((2, 12, 5, 4)).double()
    torch.testing.assert_close(unit(x), direct(unit.state_dict(), x, tails), rtol=0, atol=1e-12)


def test_shapes_and_number_of_parameters_are_those_of_conv3_in_depth_50():
    unit = PreActGloReUnit(512, 128)
    kernels = {name: tuple(value.shape) for name, value in unit.named_parameters() if value.dim() > 1}
    assert kernels == {
        "conv_state.conv.weight": (256, 512, 1, 1),
        "conv_proj.conv.weight": (128, 512, 1, 1),
        "gcn.conv1.conv.weight": (128, 128, 1),
        "gcn.conv2.conv.weight": (256, 256, 1),
        "conv_extend.conv.weight": (512, 256, 1, 1),
    }
    norms = {name: len(value) for name, value in unit.named_parameters() if name.endswith("bn.weight")}
    assert list(norms.values()) == [512, 512, 128, 256, 256]
    assert unit.gcn.conv1.bn.eps == unit.conv_proj.bn.eps == 1e-4
    assert unit.gcn.conv1.bn.momentum == unit.conv_proj.bn.momentum == pytest.approx(1 - 0.92)


@pytest.mark.parametrize("make", [PreActGloReUnit, lambda *sizes: DualPathGloReUnit(*sizes, num_sum=6)])
def test_a_new_unit_is_the_identity_and_can_leave_it(make):
    unit = make(8, 3)
    x = torch.randn(4, 8, 5, 3)
    output = unit(x)
    assert torch.equal(output, x)
    (output**2).sum().backward()
    zero = [value for name, value in unit.named_parameters() if "extend" in name and value.dim() == 4]
    assert zero and all(not value.any() and value.grad.abs().max() > 0 for value in zero)


@pytest.mark.parametrize("training", [False, True])
def test_layouts_agree_and_survive(training):
    unit = unit_with_weights(PreActGloReUnit(16, 4)).train(training)
    x = torch.randn(2, 16, 5, 4, dtype=torch.float64)
    output, output_last = unit(x), unit(x.to(memory_format=torch.channels_last))
    assert output.is_contiguous()
    assert output_last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(output, output_last, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("normalize", [False, True])
def test_normalize_makes_the_unit_independent_of_the_number_of_positions(normalize):
    unit = unit_with_weights(PreActGloReUnit(6, 2, normalize=normalize)).eval()
    x = torch.randn(2, 6, 3, 5, dtype=torch.float64)
    twice = unit(torch.cat([x, x], dim=3))
    assert torch.allclose(twice[..., :5], unit(x), atol=1e-10) == normalize


def test_large_maps_fit_autocast_to_float16():
    unit = PreActGloReUnit(8, 4)
    for module in (unit.conv_state, unit.conv_proj, unit.conv_extend):
        torch.nn.init.normal_(module.conv.weight, 1, 0.3)
    x = 5 + 3 * torch.randn(1, 8, 200, 200)
    assert (unit.conv_state(x).flatten(2) @ unit.conv_proj(x).flatten(2).mT).max() > torch.finfo(torch.float16).max
    with torch.autocast("cpu", torch.float16):
        y = unit(x.half())
    assert y.dtype == torch.float16 and (y - unit(x)).abs().max() < 0.1


def test_the_edges_are_the_kernel_that_mixes_nodes():
    unit = PreActGloReUnit(8, 3)
    assert torch.equal(unit.gcn.adjacency, -unit.gcn.conv1.conv.weight[:, :, 0])


def test_wrong_inputs_are_named():
    with pytest.raises(ValueError, match=r"maps \[B, C, H, W\] with C = 4 channels, not \[2, 5, 1, 1\]"):
        PreActGloReUnit(4, 2)(torch.randn(2, 5, 1, 1))
