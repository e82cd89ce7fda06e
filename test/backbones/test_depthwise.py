"""Depthwise convolution with its own backward pass: torch's numbers, of any batch and shape, and second gradients."""

import pytest
import torch
import torch.nn.functional as F

from backbones.depthwise import depthwise_conv2d, depthwise_conv2d_gelu

SHAPES = [(4, 24, 14, 14, 7), (1, 8, 7, 7, 7), (3, 5, 9, 17, 7), (2, 16, 20, 12, 5), (2, 4, 3, 2, 7)]


def tensors(batch, channels, height, width, size):
    generator = torch.Generator().manual_seed(0)
    shapes = ((batch, channels, height, width), (channels, 1, size, size), (channels,))
    x, weight, bias = (torch.randn(shape, generator=generator) for shape in shapes)
    return x.contiguous(memory_format=torch.channels_last), weight, bias


@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients(shape):
    ours = [tensor.requires_grad_() for tensor in tensors(*shape)]
    theirs = [tensor.detach().double().requires_grad_() for tensor in ours]
    y = depthwise_conv2d(*ours)
    expected = F.conv2d(*theirs, padding=shape[-1] // 2, groups=shape[1])
    weights = torch.linspace(-1, 1, y.numel()).view(y.shape)
    (y * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)
    for tensor, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(tensor.grad.double(), reference.grad, rtol=1e-4, atol=1e-4)


def test_only_what_is_asked_for():
    x, weight, bias = tensors(2, 4, 8, 8, 7)
    depthwise_conv2d(x, weight.requires_grad_(), bias).sum().backward()
    assert weight.grad is not None and x.grad is None and bias.grad is None
    weight.requires_grad_(False)
    depthwise_conv2d(x.requires_grad_(), weight, bias).sum().backward()
    assert x.grad is not None


def test_gradients_of_gradients():
    x, weight, bias = (tensor.requires_grad_() for tensor in tensors(2, 3, 6, 5, 5))

    def penalty(y):
        (gradient,) = torch.autograd.grad(y.square().sum(), weight, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), x)[0]

    expected = penalty(F.conv2d(x, weight, bias, padding=2, groups=3))
    torch.testing.assert_close(penalty(depthwise_conv2d(x, weight, bias)), expected, rtol=1e-4, atol=1e-2)


def test_mixed_precision_equals_that_of_torch():
    x, weight, bias = (tensor.requires_grad_() for tensor in tensors(2, 8, 10, 10, 7))
    with torch.autocast("cpu", torch.bfloat16):
        y = depthwise_conv2d(x, weight, bias)
    assert y.dtype == torch.bfloat16
    y.sum().backward()
    assert weight.grad.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [3, 7])
def test_with_a_gelu_in_the_same_pass(size, dtype):
    torch.manual_seed(0)
    x = torch.randn(2, 24, 9, 10, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(24, 1, size, size, dtype=dtype), torch.randn(24, dtype=dtype)
    expected = F.gelu(F.conv2d(x, weight, bias, padding=size // 2, groups=24))
    with torch.inference_mode():
        y = depthwise_conv2d_gelu(x, weight, bias)
    torch.testing.assert_close(y, expected)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(depthwise_conv2d_gelu(x, weight, bias), expected)  # with gradients
