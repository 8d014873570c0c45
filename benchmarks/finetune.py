"""Does fine-tuning adapt a model to optics that it has never seen, and does it forget?

    python benchmarks/finetune.py FOLDER [--minutes 20] [--case oil phase] [--scenes 8] [--threads 2]

For each case a folder of unlabelled stacks is drawn and written as OME-TIFF, a model is fine-tuned on it by the command
that users type, and both models fuse (a) held-out stacks of the same optics, whose truth is known here alone, and
(b) unseen scenes of the kinds and noises that the start was trained on. The table says what changed, with the 95 %
bootstrap interval of the paired difference over stacks. It takes MINUTES per case and about a minute for every eight
scenes; run it in the background.

Specimens come from the generator that the synthetic term draws from, so this says what is learnt about optics and
noise, not about specimens of another kind.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
import torch
from torch import Generator

from hybridfusion_core import Stack, fuse
from hybridfusion_core.cli import main as hybridfusion
from hybridfusion_core.evaluate.cases import Case as Known
from hybridfusion_core.evaluate.cases import scene_groups
from hybridfusion_core.evaluate.metrics.interval import (
    Gain,
    paired_gain,
)
from hybridfusion_core.evaluate.metrics.truth import (
    height_error,
    psnr,
)
from hybridfusion_core.scenes.camera import Camera
from hybridfusion_core.scenes.lab import Lab
from hybridfusion_core.scenes.optics import Microscope
from hybridfusion_core.scenes.scene import SceneKind, make_scene

SIDE, STACKS, HELD_OUT = 256, 14, 16
SEED = 11 << 40  # far from those of trainings and of `evaluate`
COUNTS, OFFSET = 3_000, 150  # full scale and dark level of the written stacks


@dataclass(frozen=True)
class Case:
    """A laboratory that no shipped model was trained for."""

    lab: Lab
    slices: int
    kind: SceneKind
    start: str
    familiar: tuple[SceneKind, ...]
    words: tuple[str, ...]


CASES = {
    # An aperture and a step beyond the generator's, an EMCCD's excess noise, and pixels that differ in gain.
    "oil": Case(
        Lab(
            (Microscope(1.4, 1.518, 0.52, 0.1),),
            0.35,
            9,
            (Camera(60, 0.03, pattern=0.03), Camera(150, 0.03, pattern=0.03)),
        ),
        9,
        "volume",
        "fluorescence",
        ("volume", "layers", "photographic"),
        ("--na", "1.4"),
    ),
    # Between the generator's objectives, all through a ring (a fifth of its scenes are), with a camera of 8 bit.
    "phase": Case(
        Lab((Microscope(0.6, 1.0, 0.55, 0.45, condenser=0.6),), 2.5, 9, (Camera(900, 0.02, levels=120),), True),
        9,
        "transmitted",
        "transmitted",
        ("transmitted",),
        ("--preset", "transmitted", "--phase-contrast", "--na", "0.6"),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--case", nargs="+", choices=tuple(CASES), default=list(CASES))
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--scenes", type=int, default=8, help="unseen scenes per kind and noise of the start")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.case:
        run(name, CASES[name], options)


def run(name: str, case: Case, options: argparse.Namespace) -> None:
    stacks = options.folder / name / "stacks"
    stacks.mkdir(parents=True, exist_ok=True)
    for number in range(STACKS):
        write(stacks / f"{number:02d}.ome.tif", draw(case, number)[0], case)
    model = options.folder / name / f"{name}.safetensors"
    words = ["finetune", str(stacks), "-o", str(model), "--minutes", f"{options.minutes:g}", *case.words]
    if not model.exists() and hybridfusion([*words, "--threads", str(options.threads)]) != 0:
        sys.exit(f"{name}: the fine-tuning failed")
    own = [draw(case, 1_000 + number)[1] for number in range(HELD_OUT)]
    familiar = [one() for group in scene_groups(options.scenes, case.familiar) for one in group.cases]
    table = {
        "these optics": compared(own, case.start, model),
        "as the start was trained": compared(familiar, case.start, model),
    }
    print(f"\n{name}: {options.minutes:g} minutes from {case.start}", flush=True)
    for what, gains in table.items():
        for figure, gain in gains.items():
            interval = f"{gain.mean:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}), worst tenth {gain.worst:+.3f}"
            print(f"  {what:>24}, {gain.stacks:3d} stacks: {figure:<22} {interval}", flush=True)
    found = {what: {figure: vars(gain) for figure, gain in gains.items()} for what, gains in table.items()}
    (options.folder / name / "table.json").write_text(json.dumps(found, indent=1))


def draw(case: Case, number: int) -> tuple[np.ndarray, Known]:
    """Counts as they are written, Z Y X, and the same as a case whose truth is known."""
    generator = Generator().manual_seed(SEED + number)
    scene = make_scene(case.slices, SIDE, "clean", generator, kind=case.kind, lab=case.lab)
    counts = (scene.counts.numpy() * COUNTS + OFFSET).round().clip(0, 65_535).astype(np.uint16)
    truth = scene.truth.numpy() * COUNTS + OFFSET
    known = Known(
        name=f"{case.kind} {number}",
        stack=Stack.from_array(counts[np.newaxis], axes="CZYX"),
        truth=truth[np.newaxis],
        height=scene.height.numpy().astype(np.float64),
        textured=scene.structure.numpy() > 0.5,
        overlap=scene.overlap.numpy(),
        data_range=(max(float(np.ptp(truth)), 0.05 * COUNTS),),
    )
    return counts, known


def write(path: Path, counts: np.ndarray, case: Case) -> None:
    pixel, step = case.lab.microscopes[0].pixel, case.lab.z_step
    scale = {"PhysicalSizeX": pixel, "PhysicalSizeY": pixel, "PhysicalSizeZ": step}
    units = {f"{name}Unit": "µm" for name in scale}
    lit = {"Channel": {"ContrastMethod": ["Phase"], "Name": ["phase"]}} if case.kind == "transmitted" else {}
    metadata = {"axes": "CZYX", **scale, **units, **lit}
    tifffile.imwrite(path, counts[np.newaxis], metadata=metadata, photometric="minisblack")


def compared(cases: list[Known], start: str, model: Path) -> dict[str, Gain]:
    before, after = (np.array([scores(case, name) for case in cases]) for name in (start, str(model)))
    figures = (("PSNR, dB", True), ("height error, slices", False))
    gains = {
        name: paired_gain(after[:, index], before[:, index], more_is_better=more)
        for index, (name, more) in enumerate(figures)
    }
    return {name: gain for name, gain in gains.items() if gain is not None}


def scores(case: Known, model: str) -> tuple[float, float]:
    result = fuse(case.stack, model=model)
    fused, height = result.fused[0, 0, 0], result.height_slices[0, 0, 0]
    visible = case.textured if case.overlap is None else case.textured & ~case.overlap
    return psnr(case.truth[0], fused, case.data_range[0]), height_error(case.height, height, visible)


if __name__ == "__main__":
    main()
