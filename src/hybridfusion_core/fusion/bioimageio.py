"""A model as a BioImage.IO package (model RDF 0.5, https://bioimage.io), which other programs can run and test.

The package takes raw counts and does all that a fusion does, so it needs no guide. Its weights are a PyTorch
state dict whose architecture is this package's own class, so it runs wherever `napari-hybridfusion` is installed.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.plan import common_geometry
from hybridfusion_core.fusion.tiles import reflected
from hybridfusion_core.io.disk.atomic import Delivery, explained
from hybridfusion_core.model.config import NetworkConfig
from hybridfusion_core.model.model_file import Model, load_model
from hybridfusion_core.model.network import HybridFusionNet
from hybridfusion_core.model.noise import CELL, field_statistics
from hybridfusion_core.model.posterior import (
    confidence_map,
    decision_mask,
    focus_posterior,
    fuse_soft,
    fusion_weights,
    where_in_focus,
)

_FORMAT = "0.5.12"
_TEST_SHAPE = (6, 48, 56)  # Z Y X
_DATE = (1980, 1, 1, 0, 0, 0)  # of every member: equal models give equal packages
_CITED = {"text": "Liu et al. 2022, Swin Transformer V2", "doi": "10.1109/CVPR52688.2022.01170"}


class Fusion(nn.Module):
    """Fuses stacks of raw counts, whole planes at a time; no two stacks of a batch know of each other.

    Args:
        **config: fields of `NetworkConfig`.
    """

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.network = HybridFusionNet(TypeAdapter(NetworkConfig).validate_python(config))

    def forward(self, stack: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fuse.

        Args:
            stack: B Z Y X counts; Z of at least 2, Y and X of at least 8.

        Returns:
            Fused counts; the decision, a slice counted from 1, 0 where nothing is in focus; the confidence in [0, 1],
            0 where nothing is in focus. B Y X each, float32.
        """
        made = [self._fused(one) for one in stack]
        fused, decision, confidence = (torch.stack(parts) for parts in zip(*made, strict=True))
        return fused, decision, confidence

    def _fused(self, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Z Y X -> Y X each."""
        height, width = counts.shape[1:]
        statistics = field_statistics([counts.detach().cpu().numpy()])
        geometry = common_geometry([self.network.config])
        halo = geometry.halo
        # As everywhere the plane is reflected to whole windows and a halo around them, and cut off afterwards.
        rows, columns = (reflected(-halo, geometry.round_up(length) + halo, length) for length in (height, width))
        guide = statistics.guide([counts.detach().cpu().numpy()])[:, rows[:, None], columns]
        x = torch.from_numpy(np.ascontiguousarray(guide))[None].to(counts.device)
        noise = torch.tensor([statistics.noise], dtype=torch.float32, device=counts.device)
        scores = self.network(x, noise)
        plane = slice(halo, halo + height), slice(halo, halo + width)
        weights = fusion_weights(scores)[..., plane[0], plane[1]]
        posterior = focus_posterior(scores, self.network.temperature)[..., plane[0], plane[1]]
        structure = where_in_focus(self.network, scores, x, noise)[..., plane[0], plane[1]]
        confidence = confidence_map(posterior, structure, self.network.confidence_line).nan_to_num(0.0)
        decision = decision_mask(posterior, structure).float()
        return fuse_soft(weights, counts[None])[0], decision[0], confidence[0]


def export_bioimageio(name: str, path: Path, *, overwrite: bool = False) -> None:
    """Write a model as a BioImage.IO package.

    Args:
        name: as for `load_model`.
        path: ends in .zip.
        overwrite: replace an existing file.

    Raises:
        UserInputError: no such model, another suffix, or a file that may not be written.
    """
    if path.suffix.lower() != ".zip":
        raise UserInputError(f"The package {path.name!r} has another suffix; expected a name that ends in .zip.")
    model = load_model(name)
    delivery = Delivery([path], overwrite=overwrite)
    try:
        with explained(path), zipfile.ZipFile(delivery.part(path), "w", zipfile.ZIP_DEFLATED) as package:
            for member, content in _members(model).items():
                package.writestr(zipfile.ZipInfo(member, _DATE), content, zipfile.ZIP_DEFLATED)
        with explained(path):
            delivery.publish()
    finally:
        delivery.discard()


def _members(model: Model) -> dict[str, bytes]:
    """Files of the package, by name."""
    fusion = Fusion(**asdict(model.network.config)).eval()
    fusion.network.load_state_dict(model.network.state_dict())
    weights = io.BytesIO()
    torch.save({key: value.cpu() for key, value in fusion.state_dict().items()}, weights)
    stack = _test_stack()
    with torch.inference_mode():
        made = fusion(torch.from_numpy(stack))
    arrays = {"stack": stack, **{key: each.numpy() for key, each in zip(_OUTPUTS, made, strict=True)}}
    # JSON is YAML, and needs no library to write.
    return {
        "rdf.yaml": json.dumps(_description(model), indent=1, ensure_ascii=False).encode(),
        "README.md": _readme(model).encode(),
        "weights.pt": weights.getvalue(),
        **{f"{key}.npy": _npy(values) for key, values in arrays.items()},
    }


_OUTPUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "fused": ("fused plane, in the counts of the stack", {"type": "float32", "unit": "arbitrary unit"}),
    "decision": ("slice that the plane comes from, from 1; 0 where nothing is in focus", {"type": "float32"}),
    "confidence": ("probability that the decision is right to within one slice", {"type": "float32"}),
}


def _description(model: Model) -> dict[str, Any]:
    z, (y, x) = {"min": 2, "step": 1}, ({"min": 2 * CELL, "step": 1},) * 2
    sizes = {"z": z, "y": y, "x": x}
    stack = {
        "id": "stack",
        "description": "focal stack of one channel, raw counts, any number of slices in any order",
        "axes": [{"type": "batch", "size": 1}, *({"type": "space", "id": id_, "size": s} for id_, s in sizes.items())],
        "data": {"type": "float32", "unit": "arbitrary unit"},
        "test_tensor": {"source": "stack.npy"},
    }
    plane = [{"type": "space", "id": axis, "size": {"tensor_id": "stack", "axis_id": axis}} for axis in ("y", "x")]
    outputs = [
        {
            "id": name,
            "description": meaning,
            "axes": [{"type": "batch", "size": 1}, *plane],
            "data": data,
            "test_tensor": {"source": f"{name}.npy"},
        }
        for name, (meaning, data) in _OUTPUTS.items()
    ]
    architecture = {
        "callable": Fusion.__name__,
        "import_from": Fusion.__module__,
        "kwargs": json.loads(json.dumps(asdict(model.network.config))),
    }
    return {
        "format_version": _FORMAT,
        "type": "model",
        "name": f"HybridFusion {model.card.name}"[:128],
        "description": model.card.description[:1024] or "Fuses a focal stack into one sharp plane.",
        # No maintainers: theirs would be looked up on the network whenever the package is opened.
        "authors": [{"name": "The napari-hybridfusion developers"}],
        "cite": [_CITED],
        "license": "BSD-3-Clause",
        "documentation": {"source": "README.md"},
        "tags": ["focus-stacking", "extended-depth-of-field", "fluorescence", "pytorch"],
        "inputs": [stack],
        "outputs": outputs,
        "weights": {
            "pytorch_state_dict": {
                "source": "weights.pt",
                "architecture": architecture,
                "pytorch_version": torch.__version__.partition("+")[0],
            }
        },
        "config": {"hybridfusion": {"sha256": model.sha256, "card": asdict(model.card)}},
    }


def _readme(model: Model) -> str:
    card = model.card
    return (
        f"# HybridFusion {card.name}\n\n{card.description}\n\nTakes a focal stack of one channel (b z y x, raw counts, "
        "two slices or more) and gives the fused plane, the decision and the confidence.\n\n"
        f"**Training.** {card.training}\n\n**Limits.** {card.limits}\n\n"
        f"Runs where napari-hybridfusion {version('napari-hybridfusion')} or later is installed. sha256 of the "
        f"original file: {model.sha256}\n\n## Validation\n\n"
        "The test tensors compare one synthetic stack; they say that the model runs, not that it is good.\n"
    )


def _test_stack() -> np.ndarray[Any, np.dtype[np.float32]]:
    """1 Z Y X: waves that are in focus at a depth that rises from left to right, with noise."""
    depth, _, width = _TEST_SHAPE
    z, y, x = np.indices(_TEST_SHAPE).astype(np.float32)
    away = np.abs(z - (depth - 1) * x / (width - 1))
    waves = np.sin(1.1 * y) * np.cos(0.9 * x) / (1 + away)
    noise = np.random.default_rng(0).normal(0, 8, _TEST_SHAPE)
    return np.asarray(500 + 200 * waves + noise, dtype=np.float32)[np.newaxis]


def _npy(values: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=False)
    return stream.getvalue()
