"""The layers of EAT that mix tokens: attention to all, and operators that see a few in the sequence.

Paper: Zhang et al., Analogous to Evolutionary Algorithm: Designing a Unified Sequence Model, NeurIPS 2021,
https://arxiv.org/abs/2105.15089
Authors' code: https://github.com/TencentYoutuResearch/BaseArchitecture-EAT (ea_transformer.py)

Done differently here: tokens stay [B, N, C] in memory, so that no operator transposes them; attention is PyTorch's
fused one, and banded attention computes only its band, while theirs computes all pairs and masks them; the deformable
convolution, which their code cannot run as released, is torchvision's. State-dict names and shapes are theirs.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

DEFORMABLE_GROUPS = 2


def _split_heads(x: torch.Tensor, num_heads: int, num_parts: int) -> tuple[torch.Tensor, ...]:
    """[B, N, parts * heads * D] -> each part [B, heads, N, D]."""
    return rearrange(x, "b n (part head d) -> part b head n d", part=num_parts, head=num_heads).unbind()


def _softmax_weights(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """[B, heads, Q, D] and [B, heads, N, D] -> [B, heads, Q, N]: the weights in scaled_dot_product_attention."""
    return (q @ k.mT * q.shape[3] ** -0.5).softmax(3)


class Attention(nn.Module):
    """Every token attends to all: [B, N, C] to the same."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"attention needs channels that its {num_heads} heads can share equally, not {dim}")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = _split_heads(self.qkv(x), self.num_heads, 3)  # each [B, heads, N, D]
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(rearrange(x, "b head n d -> b n (head d)"))  # -> [B, N, C]

    def weights(self, x: torch.Tensor) -> torch.Tensor:
        """How much each token attends to each, which `forward` does not keep: [B, N, C] -> [B, heads, N, N]."""
        q, k, _ = _split_heads(self.qkv(x), self.num_heads, 3)  # each [B, heads, N, D]
        return _softmax_weights(q, k)


class CrossAttention(nn.Module):
    """Queries [B, Q, C] attend to tokens [B, N, C], not to each other."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.kv = nn.Linear(dim, 2 * dim)
        self.q = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, queries: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        q, k, v = self._heads(queries, tokens)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(rearrange(x, "b head n d -> b n (head d)"))  # -> [B, Q, C]

    def weights(self, queries: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """How much each query attends to each token, which `forward` does not keep: [B, heads, Q, N]."""
        q, k, _ = self._heads(queries, tokens)
        return _softmax_weights(q, k)

    def _heads(self, queries: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """q [B, heads, Q, D], k and v [B, heads, N, D]."""
        (q,) = _split_heads(self.q(queries), self.num_heads, 1)
        return q, *_split_heads(self.kv(tokens), self.num_heads, 2)


class TokenConv(nn.Conv1d):
    """Convolution along the sequence: [B, N, C] to the same. Dense, not depthwise."""

    def __init__(self, dim: int, kernel_size: int):
        super().__init__(dim, dim, kernel_size, padding=kernel_size // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Tokens are an image of one row, [B, C, 1, N], in channels-last memory, which 2-D convolutions take directly;
        # 1-D convolutions would first transpose it.
        x = x.mT.unsqueeze(2)
        x = F.conv2d(x, self.weight.unsqueeze(2), self.bias, padding=(0, *self.padding))
        return x.squeeze(2).mT


class BandedAttention(Attention):
    """Every token attends to those at most `kernel_size` // 2 positions before or after it: [B, N, C] to the same.

    The cost is linear in N, not quadratic.
    """

    def __init__(self, dim: int, num_heads: int, kernel_size: int):
        super().__init__(dim, num_heads)
        self.kernel_size = kernel_size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights, v = self._weights_and_values(x)
        x = (weights.unsqueeze(3) * v).sum(4)  # [B, heads, N, D]
        return self.proj(rearrange(x, "b head n d -> b n (head d)"))

    def weights(self, x: torch.Tensor) -> torch.Tensor:
        """How much each token attends to the `kernel_size` around it, in their order: [B, heads, N, K]."""
        return self._weights_and_values(x)[0]

    def _weights_and_values(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[B, heads, N, K] and, of the same tokens, [B, heads, N, D, K]."""
        num_tokens, reach = x.shape[1], self.kernel_size // 2
        q, k, v = _split_heads(self.qkv(x), self.num_heads, 3)  # each [B, heads, N, D]
        k, v = (F.pad(t, (0, 0, reach, reach)).unfold(2, self.kernel_size, 1) for t in (k, v))  # [B, heads, N, D, K]
        place = torch.arange(num_tokens, device=x.device)[:, None] + torch.arange(-reach, reach + 1, device=x.device)
        scores = (q.unsqueeze(4) * k).sum(3) * q.shape[3] ** -0.5  # [B, heads, N, K]
        scores = scores.masked_fill((place < 0) | (place >= num_tokens), float("-inf"))
        return scores.softmax(3), v


class DeformableConv(nn.Conv2d):
    """Convolution along the sequence that learns where to look, and how much there: [B, N, C] to the same.

    Paper: Zhu et al., Deformable ConvNets v2, CVPR 2019, https://arxiv.org/abs/1811.11168. The sequence is an image
    of one column; a new layer looks straight ahead, with half the weight.
    """

    def __init__(self, dim: int, kernel_size: int):
        super().__init__(dim, dim, (kernel_size, 1), padding=(kernel_size // 2, 0))
        num_offsets = 2 * DEFORMABLE_GROUPS * kernel_size
        self.splits = num_offsets, num_offsets // 2
        self.conv_offset_mask = nn.Conv2d(dim, sum(self.splits), self.kernel_size, padding=self.padding)
        for zero in (self.bias, self.conv_offset_mask.weight, self.conv_offset_mask.bias):
            nn.init.zeros_(zero)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        from torchvision.ops import deform_conv2d  # slow to import, and used only here

        x = x.mT.unsqueeze(3)  # [B, N, C] -> [B, C, N, 1]
        # Autocast does not support the operator, and there is no half-precision version for CPUs.
        x, where = (t.to(self.weight.dtype) for t in (x, self.conv_offset_mask(x)))
        offset, mask = where.split(self.splits, dim=1)
        x = deform_conv2d(x, offset, self.weight, self.bias, padding=self.padding, mask=mask.sigmoid())
        return x.squeeze(3).mT
