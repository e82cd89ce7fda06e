"""What all benchmarks share: one clear error for what cannot be measured."""

import pytest

from settings import SettingsError
from tools.benchmark import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("model hornet_debug", "no model is called 'hornet_debug'; did you mean 'hornet_debug_gf'"),
        ("model hornet_debug_gf --size 7", "takes RGB images .* of at least H x W = 32 x 32"),
        ("model hornet_debug_gf --frames 8", "takes images: --frames=8 does not apply"),
        ("throughput eurnet_debug --size 8", r"takes RGB images \[B, 3, 64, 64\], not"),
        ("reasoning --facts nothere.tsv", "nothere.tsv"),
        ("recipes --recipes nosuch", "no recipe is called like nosuch; there are .*training"),
        ("step glore_resnet_debug_3d --steps 6", "--steps is 6; with fewer than 24, no step saves a checkpoint"),
    ],
)
def test_what_a_network_does_not_take(arguments, message):
    with pytest.raises(SettingsError, match=message):
        main(arguments.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("model hornet_debug_gf --repeats 0", "--repeats: 0 is not a whole number of at least 1"),
        ("throughput hornet_debug_gf --batch -1", "--batch: -1 is not a whole number of at least 1"),
        ("model hornet_debug_gf --device foo", "--device: foo: "),
        ("throughput hornet_debug_gf --devices tpu", "--devices: tpu: "),
        ("graph nbfnet", "argument name: invalid choice: 'nbfnet'"),
        ("dense_graph eurnet_tiny_video", "argument name: invalid choice: 'eurnet_tiny_video'"),
        ("latency --acceleration nosuch", "--acceleration: invalid choice: 'nosuch'"),
    ],
)
def test_wrong_options(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments.split())
    assert end.value.code == 2 and message in capsys.readouterr().err
