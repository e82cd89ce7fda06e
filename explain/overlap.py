"""How well maps follow the shapes of the synthetic sets, whose masks are known.

Measures: the fraction of a map that lies on the shapes (the energy-based pointing game: Wang et al., Score-CAM, CVPR
Workshops 2020, https://arxiv.org/abs/1910.01279), and the area under the ROC curve of a map as a score for "this pixel
is on a shape".
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from backbones import EAT, GLNet, HorNet
from datasets.samples import EvalViews
from datasets.synthetic.image_shapes import mask_of_image
from datasets.synthetic.motion_shapes import mask_of_video
from engine.precision import place_model
from eurgraph import EurNet
from eurgraph.grid import MediumRange
from explain.eat import class_attention
from explain.eurnet import stage_graphs
from explain.glnet import clusters
from explain.glore import UNITS, unit_graphs
from explain.grad_cam import grad_cam
from explain.hornet import interactions
from explain.recording import own_network
from settings import SettingsError
from tasks.classification import Classification

GRID = 32  # cells per side of a view, on which maps and masks are compared
ON = 0.5  # fraction of a cell that shapes must cover for the cell to count as on them


class Overlap(NamedTuple):
    """How well a map follows the shapes."""

    share: float
    """Fraction of the map, without negative values, that is on the shapes; at random it is the shapes' area."""
    auc: float
    """Probability that a cell on a shape has a larger value than one off the shapes; at random 0.5."""


def overlap(values: torch.Tensor, mask: torch.Tensor) -> Overlap:
    """The overlap of a map [T, h, w] and a mask, bool [T, H, W], to whose size the map is interpolated.

    A map that is zero everywhere has fraction 0 and AUC 0.5. The mask is neither empty nor full.
    """
    values = F.interpolate(values[None, None].float(), mask.shape, mode="trilinear", align_corners=False)[0, 0]
    weight = values.clamp(min=0).double()
    share = float(weight[mask].sum() / weight.sum()) if weight.sum() > 0 else 0.0
    return Overlap(share, _auc(values[mask], values[~mask]))


def _auc(positive: torch.Tensor, negative: torch.Tensor) -> float:
    """Probability that one of `positive` is larger than one of `negative`; ties count half."""
    negative = negative.sort().values
    below, not_above = (torch.searchsorted(negative, positive, right=right) for right in (False, True))
    return float((below + not_above).double().mean() / (2 * len(negative)))


def mask_of_view(task: Classification, views: EvalViews, index: int) -> torch.Tensor:
    """Where the shapes are in the first view of validation file `index`: bool [T, 32, 32], T = 1 for an image.

    Raises SettingsError if the recipe does not make its files (`data.make`).
    """
    data = task.settings.data
    if data.make is None or data.root is None:
        raise SettingsError("only files of recipes with data.make, such as those in configs/demo, have known masks")
    if task.item == "image":
        mask = np.uint8(255 * mask_of_image(data.root, "val", index))
        view = views.view(Image.fromarray(mask).convert("RGB"))[:, None]  # [3, 1, S, S]
    else:
        mask = np.uint8(255 * mask_of_video(data.root, "val", index))
        frames = mask[views.sampling(len(mask))]  # the network's frames, [T, H, W]
        view = views.view(torch.from_numpy(frames)[..., None].expand(-1, -1, -1, 3).contiguous())[0]
    return F.adaptive_avg_pool2d(view[0] / 255, GRID) > ON


def own_maps(model: nn.Module, x: torch.Tensor, mask: torch.Tensor) -> dict[str, list[torch.Tensor]]:
    """A network's own maps [T, h, w] that may follow shapes, by kind.

    For GloRe the projections of all nodes, for HorNet the strengths of all interactions, for EAT the class attention of
    all heads. EurNet and GLNet connect similar patches: for these, the mask rebuilt at each patch from the patches that
    it is connected with, for each stage or block.
    """
    network = own_network(model)
    if isinstance(network, EurNet):
        return {"mask, from most alike patches": _from_neighbors(model, x, mask)}
    if isinstance(network, GLNet):
        rebuilt = [_from_clusters(found.assignment, mask) for found in clusters(model, x)]
        return {"mask, from its clusters": rebuilt}
    if isinstance(network, EAT):
        heads = [weights for found in class_attention(model, x) for weights in found.weights]
        return {"class attention of a head": heads} if heads else {}
    if isinstance(network, HorNet):
        return {"interactions of an order": [p for found in interactions(model, x) for p in found.strength]}
    if any(isinstance(module, UNITS) for module in network.modules()):
        nodes = [node for found in unit_graphs(model, x) for node in found.projection]
        return {"projection of a node": [*nodes, *(-node for node in nodes)]}  # the sign of a node is arbitrary
    return {}


def _to_grid(mask: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """bool [T, H, W] to the covered fraction of each patch, float [T', h, w]."""
    return F.adaptive_avg_pool3d(mask[None].float(), shape)[0]


def _from_clusters(assignment: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Each slot's fraction of covered pixels, at the pixels that read it: [S, T, h, w] to [T, h, w]."""
    covered = _to_grid(mask, assignment.shape[1:])
    share = (assignment * covered).sum((2, 3)) / assignment.sum((2, 3)).clamp(min=1e-12)  # [S, T]
    return (assignment * share[..., None, None]).sum(0)


def _from_neighbors(model: nn.Module, x: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    """The mean of the mask over the medium range of each patch: a map [T, h, w] for each stage that has one."""
    found = []
    for stage in stage_graphs(model, x):
        for part in stage.graph.ranges:
            if isinstance(part, MediumRange):
                shape = next(iter(stage.weights.values())).shape[1:]  # [T, h, w]
                patches = _to_grid(mask, shape).view(len(part.index), -1)  # [B, N]
                sources = patches.gather(1, part.index.flatten(1)).view(part.index.shape)  # [B, N, k]
                found.append(sources.mean(2).view(shape))
    return found


def measure(task: Classification, model: nn.Module, num_files: int, layer: str | None = None) -> dict[str, Overlap]:
    """Mean overlap of a network's maps with the shapes of the first validation files, by the kind of map.

    Grad-CAM is for the file's own class. If a network has several maps of a kind, the one with the largest AUC on the
    first half of the files is measured on the second half.

    Files that cannot be read, and views that show only shapes or none, do not count.

    Raises SettingsError if the masks are not known, fewer than two files count, or there is no such layer.
    """
    num_files = min(num_files, len(task.val_files))
    views, rows = task.eval_views(task.val_files), []
    for index in range(num_files):
        sample, mask = views[index], mask_of_view(task, views, index)
        if "failure" in sample or mask.all() or not mask.any():
            continue
        mask = mask.to(task.ranks.device)
        x = task.network_input(sample["views"][:1].to(task.ranks.device))
        cam = grad_cam(model, x, task.val_files[index].label, layer)
        layer = cam.layer
        maps = {"area of the shapes": [torch.ones_like(mask).float()], "Grad-CAM": [cam.values]}
        maps |= own_maps(model, x, mask)
        rows.append({kind: [overlap(values, mask) for values in several] for kind, several in maps.items()})
    if len(rows) < 2:
        raise SettingsError(
            f"{len(rows)} of the {num_files} files can be read and show a shape and background; expected at least 2"
        )
    half = len(rows) // 2
    return {kind: _mean_of_best([row[kind] for row in rows], half) for kind in rows[0]}


def compare(
    task: Classification, model: nn.Module, num_files: int, layer: str | None = None, seeds: Iterable[int] = range(3)
) -> dict[str, tuple[Overlap, Overlap]]:
    """`measure` of a trained network, and its mean over networks of the same kind with random weights from `seeds`."""
    found, others = measure(task, model, num_files, layer), []
    for seed in seeds:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            fresh = task.build_model()
        fresh = place_model(fresh, task.ranks.device, task.settings.train.channels_last).eval()
        others.append(measure(task, fresh, num_files, layer))
    means = {kind: Overlap(*np.mean([other[kind] for other in others], axis=0).tolist()) for kind in found}
    return {kind: (found[kind], means[kind]) for kind in found}


def table(rows: dict[str, tuple[Overlap, Overlap]]) -> str:
    """The result of `compare`, in Markdown."""
    lines = [
        "| map | share on the shapes | untrained | AUC | untrained |",
        "|---|---|---|---|---|",
    ]
    for kind, (trained, fresh) in rows.items():
        lines.append(f"| {kind} | {trained.share:.3f} | {fresh.share:.3f} | {trained.auc:.3f} | {fresh.auc:.3f} |")
    return "\n".join(lines)


def _mean_of_best(rows: list[list[Overlap]], half: int) -> Overlap:
    """The best map of the rows before `half`, averaged over the other rows; a single map over all rows."""
    values = np.array(rows)  # [files, maps, 2]
    if values.shape[1] == 1:
        return Overlap(*values[:, 0].mean(0).tolist())
    best = values[:half, :, 1].mean(0).argmax()
    return Overlap(*values[half:, best].mean(0).tolist())
