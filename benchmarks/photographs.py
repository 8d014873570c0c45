"""Photographs: 8-slice stacks and pairs with truth, and pairs of others without; the network beside Tenengrad.

    python benchmarks/photographs.py                      # the photographs that scikit-image carries
    python benchmarks/photographs.py --data FOLDER        # also FOLDER/{lytro,mfi_whu,classic_grey,cytology}

Stacks: 8 slices of a photograph (or of a cytology reference), blurred by a Gaussian of 0.8 px for each slice of
distance from a smooth, tilted height; noise of σ 1.5 on 8 bits. Pairs: a photograph is cut along a wave, and each side
is blurred by 3 px in one of the two. `natural` learned from the same photographs of scikit-image, with other blurs and
masks: figures on them say that the recipe works, not how it fares on yours. Cytology was never seen.
"""

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import skimage
from scipy.ndimage import gaussian_filter
from skimage.io import imread
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

import hybridfusion_core as hf
from hybridfusion_core.evaluate.metrics.agreement import edge_preservation, published_grey

NAMES = ("camera", "brick", "grass", "gravel", "coins", "moon", "page", "text")
METHODS = {
    "network, soft": {"model": "natural"},
    "network, hard": {"model": "natural", "select": "hard"},
    "Tenengrad, hard": {"method": "tenengrad", "select": "hard"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of pairs and cytology")
    parser.add_argument("--pairs", type=int, default=12, help="at most so many of each folder")
    options = parser.parse_args()
    photographs = [getattr(skimage.data, name)()[:512, :512] for name in NAMES]
    print("| what | number | method | PSNR, dB | least | SSIM |\n|---|---|---|---|---|---|")
    with_truth("8 slices of photographs, noise 1.5", [noisy_stack(each, n) for n, each in enumerate(photographs)])
    with_truth("pairs of photographs", [pair(each) for each in photographs])
    if options.data is None:
        return
    references = [imread(path) for path in sorted((options.data / "cytology").glob("*_edf_reference.png"))]
    with_truth("8 slices of cytology, noise 1.5", [noisy_stack(each, n) for n, each in enumerate(references)])
    print("\n| pairs | number | method | Q^AB/F, mean | least |\n|---|---|---|---|---|")
    for folder in ("lytro", "mfi_whu", "classic_grey"):
        without_truth(folder, list(found_pairs(options.data / folder))[: options.pairs])


def with_truth(what: str, cases: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Print how near each method comes to the truth."""
    for method, options in METHODS.items():
        ratios, likeness = [], []
        for stack, truth in cases:
            fused = hf.fuse(stack, products=("fused",), **options).fused
            ratios.append(peak_signal_noise_ratio(truth, fused, data_range=255))
            likeness.append(structural_similarity(truth, fused, data_range=255))
        means = f"{statistics.mean(ratios):.2f} | {min(ratios):.2f} | {statistics.mean(likeness):.4f}"
        print(f"| {what} | {len(cases)} | {method} | {means} |", flush=True)


def without_truth(what: str, pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Print how much of the edges of both images each method keeps (Xydeas and Petrović 2000)."""
    for method, options in METHODS.items():
        kept = []
        for first, second in pairs:
            stack = np.stack([first, second])  # Z C Y X, C is 1 or 3
            made = hf.fuse(stack, axes="ZCYX", focus_from="joint", products=("fused",), **options)
            images = (*stack, made.fused[0, :, 0])
            grey = [published_grey(each) if len(each) == 3 else each[0] for each in images]
            kept.append(edge_preservation(grey[:2], grey[2]))
        print(f"| {what} | {len(pairs)} | {method} | {statistics.mean(kept):.4f} | {min(kept):.4f} |", flush=True)


def noisy_stack(photograph: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return 8 slices, Z Y X uint8, and what they show, Y X."""
    random = np.random.default_rng(seed)
    height = gaussian_filter(random.standard_normal(photograph.shape), 60)
    height = 7 * (height - height.min()) / np.ptp(height)
    blurs = np.stack([gaussian_filter(photograph.astype(float), 0.8 * distance) for distance in np.arange(0, 8, 0.25)])
    slices = []
    for z in range(8):
        level = np.rint(4 * np.abs(z - height)).astype(int)
        plane = np.take_along_axis(blurs, level[None], 0)[0] + random.normal(0, 1.5, height.shape)
        slices.append(np.clip(np.rint(plane), 0, 255))
    return np.stack(slices).astype(np.uint8), photograph


def pair(photograph: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two images, each sharp on another side of a wave, Z Y X uint8, and what they show, Y X."""
    y, x = np.indices(photograph.shape)
    left = x < photograph.shape[1] / 2 + 60 * np.sin(y / 40)
    blurred = np.rint(gaussian_filter(photograph.astype(float), 3)).astype(np.uint8)
    return np.stack([np.where(left, photograph, blurred), np.where(left, blurred, photograph)]), photograph


def found_pairs(folder: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for first in sorted(folder.glob("*_A.*")):
        images = imread(first), imread(first.with_name(first.name.replace("_A.", "_B.")))
        near, far = (np.moveaxis(np.atleast_3d(each), 2, 0) for each in images)  # Y X or Y X C -> C Y X
        yield near, far


if __name__ == "__main__":
    main()
