"""A picture of a training: its losses and what validation says of it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

_POINTS = 200  # of a curve; each is the mean of the steps between two


def draw_curves(folder: Path) -> None:
    """Draw `scalars.csv` and `validation.csv` of a training's folder into its `curves.png`."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    losses, validation = figure.subplots(1, 2)
    for name, (steps, values) in _columns(folder / "scalars.csv").items():
        losses.plot(*_smoothed(steps, values), "--" if name.startswith("unlabelled_") else "-", label=name)
    losses.set(title="losses, unweighted", xlabel="step", yscale="log")
    figure.legend(*losses.get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=7)
    found = _columns(folder / "validation.csv")
    heights = validation.twinx()
    validation.plot(*found["psnr"], color="tab:blue", marker=".")
    heights.plot(*found["height"], color="tab:orange", marker=".")
    validation.set(title="scenes that are not trained on", xlabel="step")
    validation.set_ylabel("PSNR of the fused image, dB", color="tab:blue")
    heights.set_ylabel("height error, slices", color="tab:orange")
    part = folder / ".curves.png.part"
    figure.savefig(part, format="png", dpi=100)
    part.replace(folder / "curves.png")


def _columns(path: Path) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    with path.open(encoding="utf-8", newline="") as file:
        names, *rows = csv.reader(file)
    table = np.array(rows, dtype=np.float64)
    return {name: (table[:, 0], table[:, index]) for index, name in enumerate(names) if index}


def _smoothed(steps: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    parts = min(_POINTS, len(steps))
    return tuple(np.array([part.mean() for part in np.array_split(column, parts)]) for column in (steps, values))
