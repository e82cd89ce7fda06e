"""A network whose pooled features go into one linear layer, which can be replaced or removed."""

from torch import nn


class LinearClassifier(nn.Module):
    """Base of networks that end in a norm (tail.bn), the mean over the map, and a linear layer (classifier).

    Subclasses set `num_features` and `tail` and call `reset_classifier` at the end of their `__init__`.
    """

    classifier_names = ("classifier.",)
    num_features: int
    """Channels of the last map."""
    tail: nn.Sequential

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a new, untrained classifier on top of the same features; 0 removes it."""
        if num_classes < 0:
            raise ValueError(f"num_classes must be 0 or more, not {num_classes}")
        self.num_classes = num_classes
        self.classifier = nn.Identity()
        if num_classes > 0:
            self.classifier = nn.Linear(self.num_features, num_classes).to(self.tail.bn.weight)
            nn.init.xavier_uniform_(self.classifier.weight)
            nn.init.zeros_(self.classifier.bias)
