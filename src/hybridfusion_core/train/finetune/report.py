"""The report of a fine-tuning: the verdict, what was measured, held-out stacks before and after, how it was made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from imagecodecs import png_decode
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from hybridfusion_core.errors import printable
from hybridfusion_core.fusion.result import FuseResult
from hybridfusion_core.train.finetune.blind import BlindScore
from hybridfusion_core.train.finetune.crops import Crop
from hybridfusion_core.train.finetune.evidence import Finding, Verdict
from hybridfusion_core.train.finetune.training import Trained
from hybridfusion_core.view.page import inline, render_page
from hybridfusion_core.view.pixels import Picture, coloured, grey

_CUT = 160  # px
_LISTED = 40  # rows of a table of pairs

_NAMES = {
    "psnr": "scenes of this microscope: PSNR, dB",
    "height": "scenes of this microscope: height error, slices",
    "familiar_psnr": "scenes as the start was trained on: PSNR, dB",
    "familiar_height": "scenes as the start was trained on: height error, slices",
    "own": "held-out stacks: unsupervised loss",
}


@dataclass(frozen=True)
class Compared:
    """A held-out crop, fused by both models."""

    crop: Crop
    before: FuseResult
    after: FuseResult


def render(
    title: str,
    weighed: Verdict,
    findings: Sequence[Finding],
    trained: Trained,
    compared: Sequence[Compared],
    about: Mapping[str, Any],
    *,
    warnings: Sequence[str],
    curves: Path,
    blind: BlindScore | None = None,
) -> str:
    """Lay out the page; every name is escaped.

    Args:
        title: name of the model.
        weighed: what the evidence comes to.
        findings: the evidence.
        trained: how the training ended.
        compared: held-out crops to show.
        about: settings and estimates, plain JSON values by heading.
        warnings: what was left out.
        curves: picture of the losses, if there is one.
        blind: answers to a blind comparison, if they were given.
    """
    return render_page(
        "hybridfusion_core.train.finetune",
        "report.html",
        title=printable(title),
        verdict=weighed,
        reasons=[printable(each) for each in weighed.reasons],
        trained=trained,
        validation=_validation(trained),
        findings=[_finding(each) for each in findings],
        looks=[_look(each) for each in compared],
        curves=_curves(curves),
        about=[(heading, _rows(values)) for heading, values in about.items()],
        warnings=[printable(each) for each in warnings],
        blind=blind,
    )


def _validation(trained: Trained) -> list[tuple[str, str, str, str]]:
    return [
        (heading, f"{trained.before[key]:.3f}", f"{trained.after[key]:.3f}", f"{change:+.3f}")
        for key, heading in _NAMES.items()
        if key in trained.before
        for change in (trained.after[key] - trained.before[key],)
    ]


def _finding(finding: Finding) -> dict[str, Any]:
    rows = zip(finding.names, finding.before, finding.after, strict=True)
    return {
        "title": finding.title,
        "meaning": finding.meaning,
        "unit": finding.unit,
        "gain": finding.gain,
        "word": finding.word,
        "doubt": finding.doubt,
        "rows": [(printable(name), f"{before:.3f}", f"{after:.3f}") for name, before, after in rows][:_LISTED],
        "more": max(0, len(finding.names) - _LISTED),
    }


def _look(compared: Compared) -> dict[str, Any]:
    """Show where the two models differ most, in one grey scale."""
    before, after = (_plane(each.fused).astype(np.float64) for each in (compared.before, compared.after))
    cut = _most_different(before, after)
    slices = len(compared.crop.counts)
    decided = [_plane(each.decision) for each in (compared.before, compared.after) if each.decision is not None]
    most = int(np.median(decided[0][decided[0] > 0])) - 1 if (decided[0] > 0).any() else slices // 2
    low, high = np.percentile(before, (0.5, 99.8))
    span = float(high - low) or 1.0
    change = np.abs(after - before) / span
    pictures = [
        Picture(f"slice {most + 1} of {slices}", grey(compared.crop.counts[most][cut].astype(np.float64), low, span)),
        Picture("fused before", grey(before[cut], low, span)),
        Picture("fused now", grey(after[cut], low, span)),
        Picture("change, ten times", grey(10 * change[cut], 0.0, 1.0)),
    ]
    for caption, decision in zip(("decision before", "decision now"), decided, strict=True):
        values = np.where(decision > 0, decision - 1.0, np.nan)
        pictures.append(Picture(caption, coloured(values[cut], slices - 1)))
    differ = np.mean(decided[0] != decided[1])
    return {
        "name": printable(compared.crop.name),
        "change": f"{100 * float(change.mean()):.2f} % of the range on average",
        "decisions": f"{100 * float(differ):.1f} % of the decisions are others",
        "pictures": [inline(each) for each in pictures],
    }


def _most_different(before: NDArray[Any], after: NDArray[Any]) -> tuple[slice, slice]:
    change = uniform_filter(np.abs(after - before), _CUT, mode="constant")
    y, x = np.unravel_index(int(change.argmax()), change.shape)
    corner = [max(0, min(int(at) - _CUT // 2, size - _CUT)) for at, size in zip((y, x), change.shape, strict=True)]
    return slice(corner[0], corner[0] + _CUT), slice(corner[1], corner[1] + _CUT)


def _plane(array: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(array.reshape(array.shape[-2:]))  # T C 1 Y X of one channel -> Y X


def _curves(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    return inline(Picture("losses and validation, step by step", np.asarray(png_decode(path.read_bytes()))[..., :3]))


def _rows(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (str(key), printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
        for key, value in values.items()
        if value is not None
    ]
