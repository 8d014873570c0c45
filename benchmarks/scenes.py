"""Contact sheets of the synthetic scenes that networks are trained on, and how fast they are drawn.

    python benchmarks/scenes.py docs/pictures
    python benchmarks/scenes.py --rates

Each row of a sheet is one scene, twice: three slices (first, middle, last), the truth, the height (blue first slice,
red last; pale where nothing stands in focus, black where a second layer is in focus too), and where something is in
focus (white; grey where that is left open). Lonely things are shown by the inverse hyperbolic sine of their counts.
"""

import argparse
import time
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from PIL import Image
from torch import Generator

from hybridfusion_core.scenes.camera import NOISES
from hybridfusion_core.scenes.scene import KINDS, Scene, SceneKind, make_scene


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", nargs="?", type=Path, help="where to write scenes_KIND.png")
    options.add_argument("--kinds", nargs="+", default=list(KINDS))
    options.add_argument("--size", type=int, default=96, help="side of a scene in pixels")
    options.add_argument("--rows", type=int, default=6)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--rates", action="store_true", help="print milliseconds per slice of 96 x 96, one thread")
    chosen = options.parse_args()
    for kind in chosen.kinds:
        if chosen.folder is not None:
            chosen.folder.mkdir(parents=True, exist_ok=True)
            sheet(kind, chosen.size, chosen.rows, chosen.seed).save(chosen.folder / f"scenes_{kind}.png", optimize=True)
        if chosen.rates:
            print(f"{kind}: {rate(kind):.1f} ms a slice")


def sheet(kind: SceneKind, size: int, rows: int, seed: int) -> Image.Image:
    """Two columns of scenes, in all noise regimes and depths of the stack."""
    drawn = []
    for number in range(2 * rows):
        generator = Generator().manual_seed(seed + number)
        scene = make_scene((3, 5, 7, 10)[number % 4], size, NOISES[number % 3], generator, kind=kind)
        drawn.append(row(scene, stretch=kind == "isolated"))
    gap = np.full((rows * drawn[0].shape[0], 10, 3), 255, dtype=np.uint8)
    picture = np.hstack([np.vstack(drawn[:rows]), gap, np.vstack(drawn[rows:])])
    # 144 colours instead of 16 million: a sheet stays below 400 kB.
    return Image.fromarray(picture).quantize(palette=palette(), dither=Image.Dither.NONE)


def row(scene: Scene, stretch: bool) -> np.ndarray:
    slices = len(scene.counts)
    shown, truth = scene.counts[[0, slices // 2, slices - 1]], scene.truth
    if stretch:
        ground, noise = shown.median(), max(4 * scene.noise, 1e-4)
        shown, truth = (torch.asinh((part - ground) / noise) for part in (shown, truth))
    low, high = (float(q) for q in torch.quantile(shown.flatten(), torch.tensor([0.002, 0.998])))
    grey = [np.clip((plane.numpy() - low) / max(high - low, 1e-6), 0, 1) for plane in (*shown, truth)]
    tiles = [np.repeat((255 * plane).astype(np.uint8)[..., None], 3, axis=-1) for plane in grey]
    colours = mpl.colormaps["turbo"](scene.height.numpy() / (slices - 1))[..., :3]
    tiles.append((255 * paled(colours, scene.structure.numpy()) * ~scene.overlap.numpy()[..., None]).astype(np.uint8))
    label = torch.where(scene.in_focus_weight > 0, scene.in_focus, torch.tensor(0.5)).numpy()
    tiles.append(np.repeat((255 * label).astype(np.uint8)[..., None], 3, axis=-1))
    return np.pad(np.hstack([np.pad(tile, ((0, 0), (0, 2), (0, 0))) for tile in tiles]), ((0, 2), (0, 0), (0, 0)))


def paled(colours: np.ndarray, seen: np.ndarray) -> np.ndarray:
    return 1 - (1 - colours) * (0.25 + 0.75 * seen[..., None])


def palette() -> Image.Image:
    """48 greys, and 24 heights in four strengths."""
    grey = np.repeat(np.linspace(0, 1, 48)[:, None], 3, axis=1)
    hues = mpl.colormaps["turbo"](np.linspace(0, 1, 24))[:, :3]
    colours = np.vstack([grey, *(paled(hues, np.full(24, seen)) for seen in (0, 0.33, 0.67, 1))])
    image = Image.new("P", (1, 1))
    image.putpalette((255 * colours).astype(np.uint8).tobytes())
    return image


def rate(kind: SceneKind) -> float:
    """Milliseconds of CPU per slice, over stacks of 2 to 10 slices in every noise regime."""
    torch.set_num_threads(1)
    generator = Generator().manual_seed(0)
    for _ in range(30):  # the tables of the optics
        make_scene(3, 96, "ordinary", generator, kind=kind)
    start, slices = time.process_time(), 0
    for number in range(135):
        depth = 2 + number % 9
        make_scene(depth, 96, NOISES[number % 3], generator, kind=kind)
        slices += depth
    return 1e3 * (time.process_time() - start) / slices


if __name__ == "__main__":
    main()
