"""HorNet for dense prediction: the authors' maps and entries, their two rules of layer decay, files of classifiers."""

import pytest
import torch
from golden_maps import check_map
from golden_weights import input_for, read_golden, tensor_for
from torch import nn

from backbones.hornet import resize_filters
from backbones.prefixed import prefixed
from engine.optimizer import OptimizerSettings, parameter_groups
from models import WeightsError, create_model, create_pyramid, load_pretrained

PREFIX = "backbone."
GOLDENS = {
    "hornet_tiny_gf_cascade": ("hornet_tiny_gf", {}),
    "hornet_tiny_gf_upernet": ("hornet_tiny_gf", {"image_size": 384}),
    "hornet_small_horfpn_gf_mask_rcnn": ("hornet_small_7x7", {}),  # the neck alone has filters
    "hornet_small_horfpn_7x7_upernet": ("hornet_small_7x7", {}),
    "hornet_base_gf_dense": ("hornet_base_gf", {"image_size": 384}),
}
QUICK = "hornet_tiny_gf_cascade"


def backbone_shapes(golden):
    return {entry: shape for entry, shape in golden["state_dict"].items() if entry.startswith(PREFIX)}


@pytest.mark.parametrize(
    "name", [name if name == QUICK else pytest.param(name, marks=pytest.mark.slow) for name in GOLDENS]
)
def test_maps_equal_the_authors(name):
    golden, (network, options) = read_golden(name), GOLDENS[name]
    with torch.device("meta"):
        model = create_pyramid(network, **options)
    weights = {entry.removeprefix(PREFIX): tensor_for(entry, shape) for entry, shape in backbone_shapes(golden).items()}
    model.load_state_dict(weights, assign=True)
    with torch.inference_mode():
        levels = model.double().eval()(input_for(golden["input_shape"]).double())
    for i, level in enumerate(levels):
        check_map(f"{name}, level {i}", level, golden["features"][f"{PREFIX}{i}"])


@pytest.mark.parametrize("name", GOLDENS)
def test_entries_and_number_of_parameters(name):
    golden, (network, options) = read_golden(name), GOLDENS[name]
    with torch.device("meta"):
        model = create_pyramid(network, **options)
    assert {PREFIX + entry: list(tensor.shape) for entry, tensor in model.state_dict().items()} == backbone_shapes(
        golden
    )
    expected = golden.get("params_by_part", {"backbone": golden["params"]})["backbone"]
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


class Detector(nn.Module):
    def __init__(self, **options):
        super().__init__()
        with torch.device("meta"):
            self.backbone = create_pyramid("hornet_tiny_7x7", **options)
        self.head = nn.Linear(2, 2)
        prefixed(self, PREFIX)


LAYERS = {  # entry -> layer by `layer`, layer by `stage`; None: norms and heads, one more than decay_layers
    "backbone.downsample_layers.0.0.weight": (0, 0),
    "backbone.downsample_layers.1.1.weight": (2, 0),
    "backbone.downsample_layers.2.0.weight": (3, 0),
    "backbone.downsample_layers.3.1.bias": (12, 0),
    "backbone.stages.0.1.gamma1": (1, 1),
    "backbone.stages.1.2.gamma2": (2, 2),
    "backbone.stages.2.0.norm1.weight": (3, 3),
    "backbone.stages.2.1.norm1.weight": (3, 3),
    "backbone.stages.2.15.pwconv1.weight": (10, 3),
    "backbone.stages.2.16.pwconv1.weight": (11, 3),
    "backbone.stages.2.17.pwconv1.weight": (11, 3),
    "backbone.stages.3.1.gnconv.proj_in.weight": (12, 4),
    "backbone.norm0.weight": (None, None),
    "backbone.norm3.bias": (None, None),
    "head.weight": (None, None),
}


@pytest.mark.parametrize("rule", ["layer", "stage"])
@pytest.mark.parametrize("num_layers", [12, 6])
def test_learning_rates_decay_by_the_authors_rules(rule, num_layers):
    model = Detector(decay_rule=rule, decay_layers=num_layers)
    assert set(LAYERS) <= {name for name, _ in model.named_parameters()}
    column = ("layer", "stage").index(rule)
    settings = OptimizerSettings(lr=0.1, layer_decay=0.7)
    rates = {}
    for group in parameter_groups(model, settings):
        rates |= dict.fromkeys(group["names"], group["lr_multiplier"])
    for name, layers in LAYERS.items():
        layer = num_layers + 1 if layers[column] is None else layers[column]
        assert model.layer_of(name) == layer, name
        assert rates[name] == pytest.approx(0.7 ** (num_layers + 1 - layer)), name


def test_with_six_layers_the_last_blocks_learn_faster_than_heads():
    """As the authors' HorFPN detectors do: a rate of 0.95 ** -5."""
    model = Detector(decay_layers=6)
    assert 0.95 ** (model.num_layers - model.layer_of("backbone.stages.3.0.gamma1")) == pytest.approx(1.29, abs=0.01)


def test_a_rule_that_does_not_exist():
    with pytest.raises(ValueError, match="decay_rule must be one of layer, stage, not 'block'"):
        create_pyramid("hornet_debug_gf", decay_rule="block")


def test_filters_of_a_classifier_are_resized_and_norms_are_new(tmp_path):
    torch.manual_seed(0)
    classifier = create_model("hornet_debug_gf", num_classes=5)
    torch.save(classifier.state_dict(), tmp_path / "classifier.pth")
    backbone = create_pyramid("hornet_debug_gf", image_size=128)
    report = load_pretrained(backbone, tmp_path / "classifier.pth")
    assert report.missing == [f"norm{i}.{entry}" for i in range(4) for entry in ("weight", "bias")]
    assert set(report.unexpected) == {"norm.weight", "norm.bias", "head.weight", "head.bias"}
    weight = "stages.3.0.gnconv.dwconv.complex_weight"
    expected = resize_filters(classifier.state_dict()[weight], (4, 3))
    assert torch.equal(backbone.state_dict()[weight], expected)


def test_files_of_other_networks_are_refused(tmp_path):
    torch.save(create_model("hornet_debug_7x7", num_classes=5).state_dict(), tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="does not fit hornet_debug_gf"):
        create_pyramid("hornet_debug_gf", weights=tmp_path / "other.pth")
