"""Small folders of stacks, and fine-tunings of seconds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from conftest import textured_stack

from hybridfusion_core.train.finetune import keeping, run, training
from hybridfusion_core.train.finetune import training_mix as lessons
from hybridfusion_core.train.finetune import training_state as course
from hybridfusion_core.train.finetune.request import FinetuneRequest


def write_stack(path: Path, counts: np.ndarray, axes: str = "ZYX", pixel: float | None = 0.325, **more: Any) -> Path:
    scale: dict[str, Any] = {}
    if pixel is not None:
        scale = {"PhysicalSizeX": pixel, "PhysicalSizeY": pixel, "PhysicalSizeZ": 2.0}
        scale |= {f"{name}Unit": "µm" for name in tuple(scale)}
    tifffile.imwrite(path, counts, metadata={"axes": axes, **scale, **more}, photometric="minisblack")
    return path


def write_stacks(folder: Path, count: int = 4, shape: tuple[int, int, int] = (5, 64, 64)) -> Path:
    folder.mkdir()
    for seed in range(count):
        write_stack(folder / f"s{seed}.ome.tif", textured_stack(shape, seed=seed))
    return folder


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a fine-tuning take seconds: little is drawn, rarely."""
    monkeypatch.setattr(lessons, "_SLICES", 4)
    monkeypatch.setattr(lessons, "_SIZE", 32)
    monkeypatch.setattr(course, "VALIDATIONS", 2)
    monkeypatch.setattr(run, "_CALIBRATED_ON", 1)
    monkeypatch.setattr(keeping, "_BATCHES", 1)
    monkeypatch.setattr(training, "draw_curves", lambda _: None)  # seconds each
    monkeypatch.setattr(training, "_VALIDATED_ON", 1)
    monkeypatch.setattr(training, "_OWN_DRAWS", 1)


def request_for(folder: Path, output: Path, model: str, **more: Any) -> FinetuneRequest:
    options = {"inputs": (str(folder),), "output": str(output), "start": model, "steps": 4, "device": "cpu"}
    return FinetuneRequest(**(options | more))
