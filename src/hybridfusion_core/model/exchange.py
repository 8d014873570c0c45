"""How slices learn of each other: mean and maximum over Z of one location, whatever their order and number."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def pooled(chunks: list[Tensor], batch: int) -> tuple[Tensor, Tensor]:
    """Mean and maximum over Z of chunks (B z) …, accumulated slice by slice in slice order; B … each."""
    parts = [chunk.unflatten(0, (batch, -1)) for chunk in chunks]  # each B z …
    slices = list(itertools.chain.from_iterable(part.unbind(dim=1) for part in parts))
    # One maximum for each chunk: its gradient costs a third of that of one for each slice.
    return fold(torch.add, slices) / len(slices), fold(torch.maximum, [part.amax(dim=1) for part in parts])


def fold(operation: Callable[[Tensor, Tensor], Tensor], slices: Sequence[Tensor]) -> Tensor:
    """Join slices one after the other, from the first one on."""
    result = slices[0]
    for following in slices[1:]:
        result = operation(result, following)
    return result


def exchanged(layer: nn.Module, tokens: Tensor, mean: Tensor, maximum: Tensor) -> Tensor:
    """Add to each token what it, the mean and the maximum over Z of its location say; (B z) h w D."""
    batch, dim = mean.shape[0], mean.shape[-1]
    assert isinstance(layer, nn.Linear)  # noqa: S101 - narrows the type
    own, of_mean, of_maximum = layer.weight.split(dim, dim=1)
    # Mean and maximum are the same for every slice: their share is computed once, not Z times.
    shared = nn.functional.linear(mean, of_mean, layer.bias) + nn.functional.linear(maximum, of_maximum)  # B h w D
    update = nn.functional.linear(tokens, own).unflatten(0, (batch, -1)) + shared[:, None]
    added: Tensor = tokens + update.flatten(0, 1)
    return added
