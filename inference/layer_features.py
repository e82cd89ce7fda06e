"""The output of one module of a network, captured with a forward hook.

A hook sees the network as it runs, so it works for every network. Tracing, which torchvision's
`create_feature_extractor` uses, cannot follow networks that branch on their input's size, as GloRe units do.
"""

import torch
from torch import nn

from backbones import PerFrame
from settings import SettingsError, did_you_mean

POOLED = "pooled"
"""The name of the features that enter the classifier."""
SHOWN = 12  # names in a message


class LayerFeatures(nn.Module):
    """A network that returns the output of one of its modules.

    Args:
        model: the network, in eval mode. Its classifier is removed for the pooled features.
        layer: name of a module, as in `model.named_modules()`; "pooled": the classifier's input.
        pool: "mean" averages over everything but the channels; "none" keeps maps and tokens as they are.
        channels: where the channels of a map are: "first" [B, C, ...], "last" [B, ..., C], or "auto": last for tokens
            [B, N, C], linear layers, layer norms and the maps of EurNet's and Swin transformers' blocks; else first.

    Shapes: the network's input, B views, to float32 [B, C] with "mean", else [B, ...]. If an image network is applied
    to each of T frames, [B, T, ...] without and [B, C] with "mean".

    Raises:
        SettingsError: there is no such module; or, when it runs, the module's output is not one tensor with an entry
            for each view.
    """

    def __init__(self, model: nn.Module, layer: str = POOLED, pool: str = "mean", channels: str = "auto"):
        super().__init__()
        self.model, self.layer, self.pool, self.channels = model, layer, pool, channels
        self._outputs: list = []
        if layer == POOLED:
            model.reset_classifier(0)
            return
        modules = dict(model.named_modules())
        modules.pop("", None)
        if layer not in modules:
            raise SettingsError(f"--layer: the network has no module {layer!r}{_suggestion(layer, modules)}")
        self.target = modules[layer]
        self.target.register_forward_hook(self._keep)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.layer == POOLED:
            features = self.model(x)
        else:
            self._outputs.clear()
            self.model(x)
            features = self._only_output()
        if not isinstance(features, torch.Tensor):
            raise SettingsError(
                f"--layer: {self.layer} returns {type(features).__name__}, not one tensor; choose a module inside or "
                "around it"
            )
        return self._arrange(features.float(), x)

    def _keep(self, module: nn.Module, inputs: tuple, output: object) -> None:
        # A copy, because the next module may overwrite its input, as an in-place ReLU does.
        self._outputs.append(output.clone() if isinstance(output, torch.Tensor) else output)

    def _only_output(self) -> object:
        if len(self._outputs) != 1:
            times = f"runs {len(self._outputs)} times" if self._outputs else "does not run"
            raise SettingsError(f"--layer: {self.layer} {times} in a forward pass; choose a module around it")
        return self._outputs.pop()

    def _arrange(self, features: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        num_views = x.shape[0]
        num_frames = x.shape[2] if isinstance(self.model, PerFrame) and self.layer not in (POOLED, "network") else 1
        if features.dim() == 0 or features.shape[0] != num_views * num_frames:
            raise SettingsError(
                f"--layer: {self.layer} returns {list(features.shape)} for {num_views * num_frames} inputs; choose a "
                "module whose output has an entry for each"
            )
        if self.pool == "mean" and features.dim() > 2:
            axis = self.channel_axis(features.dim())
            features = features.movedim(axis, 1).flatten(2).mean(2)  # [B, C, ...] or [B, ..., C] -> [B, C]
        if num_frames > 1:
            features = features.unflatten(0, (num_views, num_frames))
            features = features.mean(1) if self.pool == "mean" else features
        return features

    def channel_axis(self, num_axes: int) -> int:
        """The axis of the channels in the module's output of `num_axes` axes."""
        if self.channels != "auto":
            return {"first": 1, "last": -1}[self.channels]
        network = self.model.network if isinstance(self.model, PerFrame) else self.model
        all_last = type(network).__module__.startswith("eurgraph.") or getattr(network, "is_channels_last", False)
        is_last = type(self.target) in (nn.Linear, nn.LayerNorm) or (
            all_last and not isinstance(self.target, nn.Conv2d | nn.Conv3d)
        )
        return -1 if num_axes == 3 or is_last else 1


def _suggestion(layer: str, modules: dict[str, nn.Module]) -> str:
    if hint := did_you_mean(layer, modules):
        return hint
    names = [name for name in modules if "." not in name][:SHOWN]
    return f"; its outermost are {', '.join(names)}"
