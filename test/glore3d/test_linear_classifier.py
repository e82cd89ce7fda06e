"""The classifier of GloRe's networks is replaced and removed, in the precision and on the device of the network."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from glore3d.linear_classifier import LinearClassifier


class Small(LinearClassifier):
    def __init__(self, num_classes: int):
        super().__init__()
        self.num_features = 4
        self.tail = nn.Sequential(OrderedDict(bn=nn.BatchNorm2d(4)))
        self.reset_classifier(num_classes)


def test_it_is_replaced_and_removed():
    model = Small(3).double()
    assert model.classifier.weight.shape == (3, 4) and not model.classifier.bias.any()
    model.reset_classifier(5)
    assert model.num_classes == 5 and model.classifier(torch.zeros(2, 4).double()).shape == (2, 5)
    assert {name for name in model.state_dict() if name.startswith(model.classifier_names)} == {
        "classifier.weight", "classifier.bias",
    }  # fmt: skip
    model.reset_classifier(0)
    assert model.num_classes == 0 and not list(model.classifier.parameters())
    with pytest.raises(ValueError, match="num_classes must be 0 or more, not -1"):
        model.reset_classifier(-1)
