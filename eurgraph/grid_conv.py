"""Gated relational message passing (GRMP) on regular grids, without lists of edges.

Paper: Xu et al., EurNet: Efficient Multi-Range Relational Modeling of Spatial Multi-Relational Data, 2022,
https://arxiv.org/abs/2211.12941 (sections 3 and 4.1)
Authors' code: https://github.com/hirl-team/EurNet-Image (branch pyg-cls, eurnet/layers/message_passing.py)

Done differently here: grids may have two or three axes and any shape, theirs must be square; the scale of each relation
is a multiplication, theirs a grouped convolution; relations are added one by one and recomputed for the gradient, so
that only one of their maps is in memory at a time; the state of the virtual node, which nothing reads, is not computed.
Parameter names and results are theirs.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain

import torch
import torch.nn.functional as F
from torch import nn

from eurgraph.derivatives import differentiable_gradients, is_transformed
from eurgraph.grid import GridGraph, Place
from eurgraph.hooks import parts_have_hooks

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}

CACHED_VALUES = 2**18
"""Values of a map that inference on a CPU computes at once: few enough to stay in its cache."""
MIN_PART = 1024
"""The minimum number of patches that linear layers take at once, because every part reads the weights again."""

Places = Sequence[tuple[int, Place, Place]]
"""For each relation: the index of its values, the sources among them, and their targets."""


def infers_on_cpu(x: torch.Tensor) -> bool:
    """Whether a layer may process `x` in parts, to fit a CPU's cache, and may choose where to write results."""
    return x.is_cpu and not _keeps_values()


def split_patches(width: int, *maps: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Maps [B, *shape, C] in parts [n, C] of a few patches, for layers with up to `width` channels."""
    num_patches = max(MIN_PART, 4 * CACHED_VALUES // width)
    return zip(*(x.flatten(0, -2).split(num_patches) for x in maps), strict=True)


def activate(parent: nn.Module, act: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """act(x), of which a GELU is in place of x if neither a gradient nor a hook on a part of `parent` will need x."""
    if type(act) is not nn.GELU or _keeps_values() or parts_have_hooks(parent):
        return act(x)
    return torch.ops.aten.gelu_(x, approximate=act.approximate)


def _keeps_values() -> bool:
    return torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing() or is_transformed()


def _needs_plain_operations() -> bool:
    """Whether operations are exported, traced or transformed: not `AddUpdates`, and nothing in place."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing() or is_transformed()


def add_updates(
    total: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, places: Places, values: Sequence[torch.Tensor]
) -> torch.Tensor:
    """`AddUpdates` without a gradient; with one where `_needs_plain_operations`."""
    if _needs_plain_operations():
        return _add_padded_updates(total, weight, scale, places, values)
    for r, (i, source, target) in enumerate(places):
        value, sums, weights = values[i][source], total[target], weight[..., r : r + 1][target]
        # In parts along the first axis; all patches share the value of a virtual node.
        rows = value.shape[1]
        if infers_on_cpu(value):
            rows = max(1, CACHED_VALUES * rows // max(1, value.numel()))
        if value.shape[1] <= rows:
            sums.addcmul_(weights, torch.ops.aten.gelu_(value * scale[r]))
            continue
        for some, sum_, weight_ in zip(value.split(rows, 1), sums.split(rows, 1), weights.split(rows, 1), strict=True):
            sum_.addcmul_(weight_, torch.ops.aten.gelu_(some * scale[r]))
    return total


def _add_padded_updates(
    total: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, places: Places, values: Sequence[torch.Tensor]
) -> torch.Tensor:
    """`add_updates` where part of a tensor cannot be changed, as for export: updates are 0 where there is no edge."""
    for r, (i, source, target) in enumerate(places):
        update = weight[..., r : r + 1][target] * F.gelu(values[i][source] * scale[r])
        sides = [(part.start or 0, -(part.stop or 0)) for part in target]  # left out before and after, by axis
        sides += [(0, 0)] * (update.dim() - len(sides))
        total = total + F.pad(update, list(chain.from_iterable(reversed(sides))))
    return total


def _all_updates(
    weight: torch.Tensor, scale: torch.Tensor, *values: torch.Tensor, places: Places, shape: torch.Size
) -> torch.Tensor:
    """What `add_updates` adds, with operations that autograd can differentiate twice."""
    return _add_padded_updates(weight.new_zeros(shape), weight, scale, places, values)


class AddUpdates(torch.autograd.Function):
    r"""Adds the weighted updates of all relations to `total`, in place.

    .. math::
        total_i \mathrel{+}= \sum_r \alpha_{ir} \, \mathrm{GELU}(s_r \odot v_{ir})

    Autograd by itself would keep about fifteen maps for the gradient. This keeps the means v, which several relations
    share, and recomputes the rest.

    Shapes:
        total [B, *shape, C], weight [B, *shape, R or more], scale [R, C]; places and values are `GridGraph.gather`'s.
    """

    @staticmethod
    def forward(
        ctx,
        total: torch.Tensor,
        weight: torch.Tensor,
        scale: torch.Tensor,
        places: Places,
        *values: torch.Tensor,
    ) -> torch.Tensor:
        add_updates(total, weight, scale, places, values)
        ctx.mark_dirty(total)
        ctx.save_for_backward(weight, scale, *values)
        ctx.places = places
        return total

    @staticmethod
    def backward(ctx, grad: torch.Tensor):
        saved = ctx.saved_tensors  # read once: a recomputed block provides them only once
        weight, scale, *values = saved
        if torch.is_grad_enabled():
            updates = partial(_all_updates, places=ctx.places, shape=grad.shape)
            of_weight, of_scale, *of_values = differentiable_gradients(updates, saved, grad)
            return grad, of_weight, of_scale, None, *of_values
        grad_weight, grad_scale, *grad_values = map(torch.zeros_like, saved)
        for r, (i, source, target) in enumerate(ctx.places):
            value, grad_update = values[i][source], grad[target]
            scaled = value * scale[r]
            product = F.gelu(scaled) * grad_update
            grad_weight[..., r][target] = product.sum(-1)
            torch.mul(grad_update, weight[..., r : r + 1][target], out=product)  # reuses the memory
            # A value that was broadcast gets the sum of the gradients of its copies.
            grad_scaled = torch.ops.aten.gelu_backward(product.sum_to_size(scaled.shape), scaled)
            grad_values[i][source].addcmul_(grad_scaled, scale[r])
            grad_scale[r] = grad_scaled.mul_(value).flatten(0, -2).sum(0)
        return grad, grad_weight, grad_scale, None, *grad_values


class ContextLayer(nn.Sequential):
    """A convolution and its GELU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        conv, act = self
        return activate(self, act, conv(x))


class GridGRMP(nn.Module):
    r"""`eurgraph.conv.GRMPConv` on a `GridGraph`, with a context branch: see there for the equation.

    The context is one more update of each patch, from the messages around it: depthwise convolutions with zero padding,
    each followed by a GELU. With `all_contexts`, the result of each convolution is an update with its own weight.

    Args:
        num_channels: channels C.
        num_relations: relations R of the graphs.
        num_axes: 2 for images, 3 for clips; it only decides the kind of the convolutions.
        context_sizes: kernel sizes of the context's convolutions, in order: each an odd number, or one for each axis.
            Empty: no context.
        all_contexts: every convolution's result is an update (dense prediction), rather than only that of the last.

    Shapes: x [B, *shape, C] and a GridGraph of that shape to [B, *shape, C].

    Raises:
        ValueError: a kernel size is even or has the wrong number of axes; or the shape of the graph or its number of
            relations does not fit x and the layer.
    """

    def __init__(
        self,
        num_channels: int,
        num_relations: int,
        num_axes: int = 2,
        context_sizes: Sequence[int | Sequence[int]] = (),
        all_contexts: bool = False,
    ):
        super().__init__()
        if num_axes not in _CONV:
            raise ValueError(f"GridGRMP is for grids of 2 or 3 axes, not num_axes={num_axes!r}")
        self.num_channels, self.num_relations = num_channels, num_relations
        self.context_layers = nn.ModuleList(_context_layer(num_channels, num_axes, size) for size in context_sizes)
        self.all_contexts = all_contexts
        num_contexts = len(self.context_layers) if all_contexts else min(len(self.context_layers), 1)
        num_scales = num_relations * num_channels
        self.self_loop = nn.Linear(num_channels, num_channels)
        self.message_linear = nn.Linear(num_channels, num_channels)
        self.weight_linear = nn.Linear(num_channels, num_relations + num_contexts)
        # Only its weight is used: a convolution with a group per channel is a multiplication.
        self.linear = nn.Conv1d(num_scales, num_scales, kernel_size=1, groups=num_scales, bias=False)
        self.gate_linear = nn.Linear(num_channels, num_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for linear in (self.self_loop, self.message_linear, self.weight_linear, self.gate_linear):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        for conv in (self.linear, *(layer[0] for layer in self.context_layers)):
            conv.reset_parameters()

    def forward(self, x: torch.Tensor, graph: GridGraph) -> torch.Tensor:
        graph.check(x)
        if graph.num_relations != self.num_relations:
            raise ValueError(f"the graph has {graph.num_relations} relations, this layer {self.num_relations}")
        message = self.message_linear(x)  # [B, *shape, C]
        weight = self.weight_linear(x)  # [B, *shape, R], or R + 1, or one more for every context
        update = self.mix(message, weight, graph)
        if not infers_on_cpu(x) or parts_have_hooks(self):
            return self.self_loop(x) * self.gate_linear(update)
        result = torch.empty(x.shape, dtype=update.dtype)
        for state, some, part in split_patches(self.num_channels, x, update, result):
            torch.mul(self.self_loop(state), self.gate_linear(some), out=part)
        return result

    def mix(self, message: torch.Tensor, weight: torch.Tensor, graph: GridGraph) -> torch.Tensor:
        """The updates, weighted and added up: [B, *shape, C] and [B, *shape, R or more] to [B, *shape, C]."""
        scale = self.linear.weight.view(self.num_relations, self.num_channels).to(message.dtype)
        if self.all_contexts:
            update = self.add_contexts(message, weight[..., self.num_relations :])
        elif self.context_layers:
            update = self.context(message) * weight[..., self.num_relations :]
        else:
            update = torch.zeros_like(message)
        values, places = graph.gather(message)
        if torch.is_grad_enabled() and not _needs_plain_operations():
            return AddUpdates.apply(update, weight, scale, places, *values)
        return add_updates(update, weight, scale, places, values)

    def context(self, message: torch.Tensor) -> torch.Tensor:
        context = message.movedim(-1, 1)  # [B, *shape, C] -> [B, C, *shape]
        for layer in self.context_layers:
            context = layer(context)
        return context.movedim(1, -1)  # [B, C, *shape] -> [B, *shape, C]

    def add_contexts(self, message: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """The convolutions' results, weighted and added up: [B, *shape, C] and [B, *shape, L] to [B, *shape, C]."""
        context, update = message.movedim(-1, 1), torch.zeros_like(message)
        for level, layer in enumerate(self.context_layers):
            context = layer(context)
            update = update.addcmul(context.movedim(1, -1), weight[..., level : level + 1])
        return update

    def extra_repr(self) -> str:
        return f"{self.num_channels}, num_relations={self.num_relations}"


def init_linear_layers(model: nn.Module, std: float) -> None:
    """Weights of all linear layers from a truncated normal distribution, biases 0."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _context_layer(num_channels: int, num_axes: int, size: int | Sequence[int]) -> ContextLayer:
    sizes = (size,) * num_axes if isinstance(size, int) else tuple(size)
    if len(sizes) != num_axes or not all(s % 2 for s in sizes):
        raise ValueError(f"a context size is an odd number, or one for each of {num_axes} axes, not {size}")
    padding = tuple(s // 2 for s in sizes)
    conv = _CONV[num_axes](num_channels, num_channels, sizes, padding=padding, groups=num_channels, bias=False)
    return ContextLayer(conv, nn.GELU())
