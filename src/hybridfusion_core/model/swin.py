"""timm's Swin-V2 block as the network needs it: no window across a border."""

from __future__ import annotations

import math

import torch
from timm.models.swin_transformer_v2 import SwinTransformerV2Block, WindowAttention
from torch import Tensor, nn

from hybridfusion_core.model.config import GREATEST_BIAS, GREATEST_SCALE, LEAST_SQUARE


class SwinBlock(SwinTransformerV2Block):
    """One Swin-V2 block.

    timm shifts windows by rolling the plane, and adds −100 to the logits of tokens that come from the opposite border;
    with a logit scale of up to 100 and a position bias of up to 16 that is no prohibition. Here shifted windows lie
    inside the plane, and tokens nearer to its border than half a window pass the attention by: nothing to forbid, and
    half the time (measured). They are in the halo or in what is reflected, so no result depends on them.

    Args:
        dim: features of a token.
        heads: attention heads.
        window: side of a window in tokens.
        shifted: by half a window.
        mlp_ratio: hidden features of the MLP over `dim`.
    """

    def __init__(self, dim: int, heads: int, window: int, *, shifted: bool, mlp_ratio: float) -> None:
        super().__init__(
            dim,
            input_resolution=(window, window),
            num_heads=heads,
            window_size=window,
            mlp_ratio=mlp_ratio,
        )
        self.attn = _Attention(dim, (window, window), heads)
        self.margin = window // 2 if shifted else 0  # tokens that no window covers, on each side
        for norm in (self.norm1, self.norm2):
            assert isinstance(norm, nn.LayerNorm)  # noqa: S101 - narrows the type
            nn.init.ones_(norm.weight)  # timm's 0 leaves the block without gradient

    def forward(self, x: Tensor) -> Tensor:
        """Let tokens attend to those of their window; B h w D, h and w multiples of the window."""
        x = x + self.norm1(self._attend(x))
        updated: Tensor = x + self.norm2(self.mlp(x))
        return updated

    def _attend(self, x: Tensor) -> Tensor:
        """Attention in each window; 0 in the margin. B h w D."""
        assert isinstance(self.attn, WindowAttention)  # noqa: S101 - narrows the type
        margin, side = self.margin, self.attn.window_size[0]
        height, width = x.shape[1] - 2 * margin, x.shape[2] - 2 * margin
        if min(height, width) < side:  # a plane of one window has no room for a shifted one
            return torch.zeros_like(x)
        inner = x[:, margin : margin + height, margin : margin + width]
        windows = _cut(inner, side)  # B h' w' N D
        attended = self.attn(windows.flatten(0, 2)).unflatten(0, windows.shape[:3])
        return nn.functional.pad(_joined(attended), (0, 0, margin, margin, margin, margin))


def _cut(x: Tensor, side: int) -> Tensor:
    """Cut into windows: B (h s) (w s) D -> B h w (s s) D."""
    windows: Tensor = x.unflatten(2, (-1, side)).unflatten(1, (-1, side)).transpose(2, 3).flatten(3, 4)
    return windows


def _joined(windows: Tensor) -> Tensor:
    """Undo `_cut`."""
    side = math.isqrt(windows.shape[3])
    x: Tensor = windows.unflatten(3, (side, side)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
    return x


class _Attention(WindowAttention):
    """timm's attention with less traffic: the scale goes into the queries, and no logits are copied.

    Half of a training step is attention, and most of that is moving logits (measured: a quarter of it saved).
    """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend among the tokens of each window; n N D -> n N D. There is no mask."""
        assert mask is None  # noqa: S101 - timm's signature
        return _attend(self, x, position_bias(self))


def position_bias(attention: WindowAttention) -> Tensor:
    """What a block adds to the logits of each pair of places in a window; H N N."""
    table, index = attention.relative_coords_table, attention.relative_position_index  # 1 y x 2, N N
    assert isinstance(table, Tensor)  # noqa: S101 - narrows the type
    assert isinstance(index, Tensor)  # noqa: S101 - narrows the type
    biases = GREATEST_BIAS * attention.cpb_mlp(table.flatten(0, 2)).sigmoid()  # places H
    bias: Tensor = biases[index].permute(2, 0, 1)
    return bias


def _attend(attention: WindowAttention, x: Tensor, bias: Tensor) -> Tensor:
    """Scaled cosine attention (Liu et al. 2022, arXiv:2111.09883, eq. 2). x n N D, bias H N N."""
    assert attention.q_bias is not None  # noqa: S101 - narrows the type
    qkv_bias = torch.cat([attention.q_bias, torch.zeros_like(attention.q_bias), attention.v_bias])
    qkv = nn.functional.linear(x, attention.qkv.weight, qkv_bias)
    q, k, v = qkv.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)  # n H N d each
    scale = attention.logit_scale.clamp(max=GREATEST_SCALE).exp()  # H 1 1
    logits = (_unit(q) * scale) @ _unit(k).transpose(-2, -1)  # n H N N
    logits += bias
    mixed = (logits.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)  # n H N d -> n N D
    attended: Tensor = attention.proj(mixed)
    return attended


def _unit(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().sum(dim=-1, keepdim=True) + LEAST_SQUARE)
