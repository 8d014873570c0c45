"""How well drifting stacks are put in place, and what is left of the light of a vignette.

    python benchmarks/alignment.py --stacks 4
    python benchmarks/alignment.py --stacks 2 --method network --picture docs/pictures/alignment.png

Scenes of the project's own generator; the drift is put into their noise-free light (quintic splines, one
interpolation), and the camera records afterwards. "Left" is how far the corners (scale) or the centre (shift) of
slices lie from their place after alignment, in pixels: the root mean square over a stack, of which median and worst
over stacks are printed. "Told" are stacks that were moved at all; the others show nothing that all quarters of the
plane agree about, and stay as they are. "dB" is what alignment leaves lost of the fused image: its PSNR inside of the
frame that all slices cover, against the fusion of light without drift and noise, taken from that of the stack without
drift.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import affine_transform
from torch import Generator

import hybridfusion_core as hf
from hybridfusion_core.fusion.treated import placement_in
from hybridfusion_core.registration.placement import Slice
from hybridfusion_core.scenes.camera import NOISES, Noise, draw_camera
from hybridfusion_core.scenes.draw import Draw
from hybridfusion_core.scenes.scene import KINDS, SceneKind, draw_light

SIDE, DEPTH = 256, 9
DRIFTS = {"none": (0.0, 0.0, "similarity"), "shift": (2.5, 0.0, "shift"), "scale": (0.0, 0.01, "similarity")}


@dataclass(frozen=True)
class Case:
    """One stack: as it drifts, as it would be without, and without noise; and where its slices lie."""

    drifting: np.ndarray
    still: np.ndarray
    light: np.ndarray
    true: tuple[Slice, ...]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--stacks", type=int, default=4, help="per kind, noise and drift")
    options.add_argument("--kind", action="append", choices=KINDS)
    options.add_argument("--drift", action="append", choices=DRIFTS)
    options.add_argument("--method", default="tenengrad")
    options.add_argument("--picture", type=Path, help="fused without drift, with it, and aligned")
    chosen = options.parse_args()
    shown = []
    print("| drift | scenes | noise | told | left: median (worst) px | dB: median (worst) | s |")
    print("|---|---|---|---|---|---|---|")
    for name in chosen.drift or DRIFTS:
        for kind in chosen.kind or KINDS:
            for noise in NOISES:
                print(row(name, kind, noise, chosen.stacks, chosen.method, shown), flush=True)
    if chosen.picture:
        Image.fromarray(np.vstack(shown)).save(chosen.picture, optimize=True)


def row(name: str, kind: SceneKind, noise: Noise, stacks: int, method: str, shown: list[np.ndarray]) -> str:
    step, growth, align = DRIFTS[name]
    told, left, lost, seconds = 0, [], [], []
    for seed in range(stacks):
        case = make_case(kind, noise, seed, step, growth)
        started = time.perf_counter()
        aligned = hf.fuse(case.drifting, z_step_um=1.0, method=method, align=align)
        seconds.append(time.perf_counter() - started)
        placement = placement_in(aligned.spec.provenance["treatment"])
        assert placement is not None
        if not placement.moves:
            if name == "none":
                left.append(0.0)
            continue
        told += 1
        left.append(remains(case, placement.frames[0], corners=name != "shift"))
        inner = (slice(24, -24), slice(24, -24))
        truth = hf.fuse(case.light, z_step_um=1.0, method=method).fused[inner]
        still, drifting = (hf.fuse(each, z_step_um=1.0, method=method).fused for each in (case.still, case.drifting))
        lost.append(psnr(still[inner], truth) - psnr(aligned.fused[inner], truth))
        if seed == 0 and name == "shift" and noise == "ordinary":
            shown.append(strip([still, drifting, aligned.fused]))
    cells = (name, kind, noise, f"{told} of {stacks}", spread(left), spread(lost), f"{np.median(seconds):.1f}")
    return f"| {' | '.join(cells)} |"


def make_case(kind: SceneKind, noise: Noise, seed: int, step: float, growth: float) -> Case:
    rng, draw = np.random.default_rng(seed), Draw(Generator().manual_seed(seed))
    margin = -(-(int(step * DEPTH) + int(growth * SIDE) + 8) // 8) * 8
    light = draw_light(draw, SIDE + 2 * margin, DEPTH, kind=kind).image.numpy().astype(np.float64)
    away, turn = np.arange(DEPTH) - DEPTH // 2, rng.uniform(0, 2 * np.pi)
    moves = step * (np.outer(away, [np.cos(turn), np.sin(turn)]) + rng.normal(0, 0.12, (DEPTH, 2)))
    moves -= moves[DEPTH // 2]
    true = tuple(Slice(dy, dx, 1 + growth * z / (DEPTH - 1)) for (dy, dx), z in zip(moves, away, strict=True))
    middle = (SIDE - 1) / 2
    drifted = np.stack(
        [
            affine_transform(
                plane,
                [1 / at.scale] * 2,
                margin + middle - (middle + np.array([at.dy, at.dx])) / at.scale,
                (SIDE, SIDE),
                order=5,
            )
            for plane, at in zip(light, true, strict=True)
        ]
    )
    still = light[:, margin:-margin, margin:-margin]
    camera, seen = draw_camera(draw, noise, kind), int(draw.integer(0, 1 << 30))
    records = [
        camera.record(Draw(Generator().manual_seed(seen)), torch.tensor(each, dtype=torch.float32)).numpy()
        for each in (drifted if step or growth else still, still)
    ]
    return Case(*records, still.astype(np.float32), true)


def remains(case: Case, found: dict[int, Slice], *, corners: bool) -> float:
    plane, last = (SIDE, SIDE), SIDE - 1.0
    points = np.array([(0, 0), (0, last), (last, 0), (last, last)] if corners else [(last / 2, last / 2)])
    misses = [found[z].at(points, plane) - true.at(points, plane) for z, true in enumerate(case.true)]
    return float(np.sqrt(np.square(np.linalg.norm(misses, axis=-1)).mean()))


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    return float(10 * np.log10(np.ptp(truth) ** 2 / np.square(image - truth).mean()))


def spread(values: list[float]) -> str:
    return f"{np.median(values):.2f} ({max(values):.2f})" if values else "–"


def strip(images: list[np.ndarray]) -> np.ndarray:
    low, high = np.percentile(images[0], (0.5, 99.8))
    return np.hstack([(255 * np.clip((each - low) / (high - low), 0, 1)).astype(np.uint8) for each in images])


if __name__ == "__main__":
    sys.exit(main())
