import pytest
import torch
import torch.nn.functional as F

from backbones import pointwise
from backbones.pointwise import is_intel, pointwise_conv2d


@pytest.mark.parametrize("most_positions", [69, 4096])
@pytest.mark.parametrize("on_intel", [True, False])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_equals_convolution(monkeypatch, on_intel, memory_format, most_positions):
    monkeypatch.setattr(pointwise, "is_intel", lambda: on_intel)
    monkeypatch.setattr(pointwise, "MOST_POSITIONS", most_positions)
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64).contiguous(memory_format=memory_format)
    weight, bias = torch.randn(4, 6, 1, 1, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    with torch.inference_mode():
        y = pointwise_conv2d(x, weight, bias, (2, 2))
    torch.testing.assert_close(y, F.conv2d(x, weight, bias))


@pytest.mark.parametrize("on_intel", [True, False])
def test_gradients_are_those_of_the_convolution(monkeypatch, on_intel):
    monkeypatch.setattr(pointwise, "is_intel", lambda: on_intel)
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 6, 1, 1, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pointwise_conv2d, (x, weight, bias))


@pytest.mark.parametrize(("vendor", "expected"), [("GenuineIntel", True), ("AuthenticAMD", False)])
def test_maker_of_the_processor_is_read(monkeypatch, tmp_path, vendor, expected):
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\n")
    monkeypatch.setattr(pointwise, "CPU_INFO", path)
    assert is_intel.__wrapped__() is expected


def test_unknown_maker_is_not_intel(monkeypatch, tmp_path):
    monkeypatch.setattr(pointwise, "CPU_INFO", tmp_path / "missing")
    monkeypatch.setattr(pointwise.platform, "processor", lambda: "arm")
    assert not is_intel.__wrapped__()
