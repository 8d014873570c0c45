"""A held-out stack while training goes on: one slice, fused before, fused now, and the decision, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from imagecodecs import png_encode
from numpy.typing import NDArray
from torch import Tensor

from hybridfusion_core.fusion.plan import common_geometry
from hybridfusion_core.fusion.tiles import reflected
from hybridfusion_core.io.disk.atomic import write_whole
from hybridfusion_core.model.focus_measures import has_structure
from hybridfusion_core.model.network import HybridFusionNet
from hybridfusion_core.model.posterior import decision_mask, focus_posterior, fuse_soft, fusion_weights
from hybridfusion_core.train.finetune.crops import Crop
from hybridfusion_core.view.pixels import coloured, grey

_SIDE = 192  # px of each picture
_SLICES = 12
_GAP = 4  # px between two


class LivePicture:
    """Draws one crop again and again; what the start made of it is kept.

    Args:
        crop: of a held-out stack; its middle is shown.
        start: the network before training.
        device: where networks run.
    """

    def __init__(self, crop: Crop, start: HybridFusionNet, device: torch.device) -> None:
        z, *plane = crop.counts.shape
        geometry = common_geometry([start.config])
        self._halo = geometry.halo
        every = -(-z // _SLICES)
        rows, columns = (_middle(length, geometry.lattice, self._halo) for length in plane)
        guide = crop.guide[::every][:, rows[:, None], columns]
        self._guide = torch.from_numpy(np.ascontiguousarray(guide))[None].to(device)  # 1 Z Y X
        self._noise = torch.tensor([crop.statistics.noise], dtype=torch.float32, device=device)
        self._structure = has_structure(self._guide, self._noise)
        self._before, _ = self._fused(start)

    def draw(self, network: HybridFusionNet, path: Path) -> None:
        """Write the picture of what a network makes of the crop, whole or not at all."""
        write_whole(path, bytes(png_encode(self.pixels(network))))

    def pixels(self, network: HybridFusionNet) -> NDArray[np.uint8]:
        """Y X 3: the most chosen slice, fused before, fused now, decision; one grey scale for all."""
        now, decision = self._fused(network)
        slices = self._guide.shape[1]
        numbers = decision[decision > 0]
        most = int(np.bincount(numbers).argmax()) - 1 if numbers.size else slices // 2
        images = (self._inner(self._guide[0, most]), self._before, now)
        low, high = np.percentile(self._before, (0.5, 99.8))
        pictures = [np.repeat(grey(image, float(low), float(high - low) or 1.0)[..., None], 3, 2) for image in images]
        pictures.append(coloured(np.where(decision > 0, decision - 1.0, np.nan), slices - 1))
        gap = np.full((now.shape[0], _GAP, 3), 255, dtype=np.uint8)
        return np.concatenate([part for each in pictures for part in (each, gap)][:-1], axis=1)

    def _fused(self, network: HybridFusionNet) -> tuple[NDArray[np.float32], NDArray[Any]]:
        with torch.inference_mode():
            scores = network(self._guide, self._noise)
            fused = fuse_soft(fusion_weights(scores), self._guide)[0]
            decision = decision_mask(focus_posterior(scores), self._structure)[0]
        return self._inner(fused), self._inner(decision)

    def _inner(self, plane: Tensor) -> NDArray[Any]:
        """Cut the halo off, Y X."""
        inner = slice(self._halo, -self._halo or None)
        return np.asarray(plane[inner, inner].cpu().numpy())


def _middle(length: int, lattice: int, halo: int) -> NDArray[np.intp]:
    """Indices of the middle of an axis, a multiple of the lattice, with its halo; what is short is reflected."""
    size = max(lattice, min(length, _SIDE) // lattice * lattice)
    first = max(0, (length - size) // 2)
    return reflected(first - halo, first + size + halo, length)
