"""What each loss asks for: the mask that it finds by itself on three synthetic stacks, its terms from right to wrong.

    python benchmarks/loss_pictures.py docs/pictures

No network takes part. Every pixel has free logits, the slices are fused with their softmax, and Adam minimises the
loss; so a picture shows what a loss wants, not what a network learns from it. Seeded, one thread, under a minute.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import Generator, Tensor

from hybridfusion_core.scenes.camera import Noise
from hybridfusion_core.scenes.scene import SceneKind, make_scene
from hybridfusion_core.train.losses import mask, presets, supervised, targets
from hybridfusion_core.train.losses.presets import PRESETS, Preset, PresetName
from hybridfusion_core.train.recipe import LossWeights
from hybridfusion_core.train.scene_batches import Batch, collate

Terms = Callable[[Batch, Tensor], dict[str, Tensor]]

_SIDE = 72  # px of a scene; shown twice as large
_TILE, _GAP, _LEFT, _TOP, _BELOW = 2 * _SIDE, 8, 30, 84, 26  # px of the picture
_PLOTS = 205  # px, height of the row of curves with its titles
_DPI = 100
_GREYS = 27  # steps between black and white: noise in all 256 would make the files twice as large
_SLICES = {2: ("#0072b2", "#d55e00"), 3: ("#0072b2", "#f0d13c", "#d55e00")}  # colour-blind safe, by Z
_STYLES = ("o-", "s--", "^:")  # of the curves, by scene


@dataclass(frozen=True)
class Example:
    """A scene that shows something."""

    title: str
    kind: SceneKind
    slices: int
    noise: Noise
    seed: int


EXAMPLES = (
    Example("nuclei", "volume", 3, "ordinary", 59),
    Example("photograph", "photographic", 2, "clean", 125),
    Example("dark borders, noisy", "layers", 2, "starved", 34),
)


@dataclass(frozen=True)
class Loss:
    """A loss as the pictures need it: what it is called, its terms and weights, and the image that it aims at."""

    name: str
    terms: Terms
    weights: dict[str, float]
    target: Callable[[Batch], Tensor] | None  # Y X counts; None: the truth
    target_name: str = ""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path, help="where to write losses_NAME.png")
    options.add_argument("--steps", type=int, default=200, help="of Adam")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    batches = [batch_of(example) for example in EXAMPLES]
    for loss in (*map(unsupervised, PRESETS), with_truth()):
        found = [minimise(loss, batch, chosen.steps) for batch in batches]
        picture(loss, batches, found).save(chosen.folder / f"losses_{loss.name}.png", optimize=True)


def batch_of(example: Example) -> Batch:
    generator = Generator().manual_seed(example.seed)
    scene = make_scene(example.slices, _SIDE, example.noise, generator, haze=0, kind=example.kind)
    return collate([scene], [[1.0], [1.0]], torch.device("cpu"))


def unsupervised(name: PresetName) -> Loss:
    preset = PRESETS[name]
    weights = {part.name: getattr(preset.weights, part.name) for part in fields(preset.weights)}
    largest = name == "baseline"
    return Loss(
        name,
        lambda batch, posterior: presets.unsupervised_terms(preset, batch.guide, posterior, batch.noise),
        {term: weight for term, weight in weights.items() if weight},
        (lambda batch: batch.counts[0].amax(dim=0)) if largest else (lambda batch: soft_target(preset, batch)),
        "target: maximum" if largest else "soft target",
    )


def soft_target(preset: Preset, batch: Batch) -> Tensor:
    """In counts, to be looked at beside the slices; the losses mix the guide with the same shares."""
    share = targets.focus_weights(batch.guide, batch.noise, preset.measure, preset.window, preset.exponent)
    return targets.soft_target(batch.counts, share)[0]


def with_truth() -> Loss:
    weights = LossWeights()
    names = ("l1", "gradient", "cross_entropy", "height", "total_variation")
    return Loss("supervised", supervised_terms, {name: getattr(weights, name) for name in names}, None)


def supervised_terms(batch: Batch, posterior: Tensor) -> dict[str, Tensor]:
    """As `train.loss_terms`, with the posterior for both outputs of the network."""
    weight, sure = batch.weight[:, None, None], 0.05 + batch.structure
    fused, truth = (posterior * batch.counts).sum(dim=1) * weight, batch.truth * weight
    logits = posterior.clamp(min=1e-3).log()  # right and wrong masks are 0 in places
    return {
        "l1": supervised.l1(fused, truth),
        "gradient": supervised.gradient_l1(fused, truth),
        "cross_entropy": supervised.focus_cross_entropy(logits, batch.height, sure),
        "height": supervised.height_l1(posterior, batch.height, sure),
        "total_variation": mask.total_variation(posterior),
    }


def total(loss: Loss, terms: dict[str, Tensor]) -> Tensor:
    return torch.stack([loss.weights[name] * value for name, value in terms.items()]).sum()


def minimise(loss: Loss, batch: Batch, steps: int) -> Tensor:
    """The posterior, 1 Z H W, that Adam finds from undecided."""
    logits = torch.zeros_like(batch.guide, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.2)
    for _ in range(steps):
        optimiser.zero_grad()
        total(loss, loss.terms(batch, logits.softmax(dim=1))).backward()
        optimiser.step()
    return logits.detach().softmax(dim=1)


def right_mask(batch: Batch) -> Tensor:
    """1 Z H W: the slice next to the true height; all alike where there is nothing to see, as in the truth."""
    slices = batch.counts.shape[1]
    nearest = torch.nn.functional.one_hot(batch.height.round().long(), slices).movedim(-1, 1)
    seen = batch.structure[:, None]
    return seen * nearest + (1 - seen) / slices


def slide(loss: Loss, batch: Batch, shares: list[float]) -> dict[str, NDArray[np.float64]]:
    """Weighted terms and their total where so much of the right slice is exchanged for the next one."""
    right = right_mask(batch)
    masks = [(1 - share) * right + share * right.roll(1, dims=1) for share in shares]
    values = [loss.terms(batch, mask) for mask in masks]
    curves = {name: np.array([float(value[name]) for value in values]) for name in loss.weights}
    return {"the whole loss": np.array([float(total(loss, value)) for value in values]), **curves}


def picture(loss: Loss, batches: list[Batch], found: list[Tensor]) -> Image.Image:
    columns = 8 if loss.target else 7
    width = _LEFT + columns * (_TILE + _GAP)
    height = _TOP + len(batches) * (_TILE + _BELOW) + _PLOTS
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    for index, (example, batch, shown) in enumerate(zip(EXAMPLES, batches, found, strict=True)):
        draw_row(figure, index, example.title, tiles(loss, batch, shown))
    draw_heads(figure, loss, columns)
    draw_curves(figure, loss, batches)
    stream = BytesIO()
    figure.savefig(stream, format="png")
    # 256 colours instead of 16 million: half the bytes. Medians of colours would give masks those of another slice.
    return (
        Image.open(stream)
        .convert("RGB")
        .quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
    )


@dataclass(frozen=True)
class Tile:
    """One square of a picture: column, colours Y X 3 in [0, 1], what stands below it, and the colour of its frame."""

    column: int
    image: NDArray[np.float64]
    below: str = ""
    frame: str = "white"


def tiles(loss: Loss, batch: Batch, found: Tensor) -> list[Tile]:
    counts, truth = batch.counts[0], batch.truth[0]
    low, high = (float(q) for q in torch.quantile(counts.flatten(), torch.tensor([0.005, 0.995])))

    def grey(plane: Tensor) -> NDArray[np.float64]:
        bright = np.clip((plane.double().numpy() - low) / (high - low), 0, 1)[..., None]
        return np.repeat(np.round(bright * _GREYS) / _GREYS, 3, axis=-1)

    fused, right = (found * batch.counts).sum(dim=1)[0], right_mask(batch)
    seen = batch.structure[0] > 0.5
    agree = (found.argmax(dim=1) == right.argmax(dim=1))[0][seen].float().mean()
    shown = [
        Tile(index, grey(plane), f"{decibels(plane, truth):.1f} dB", colour)
        for index, (plane, colour) in enumerate(zip(counts, _SLICES[len(counts)], strict=True))
    ]
    at = 3
    if loss.target is not None:
        target = loss.target(batch)
        shown.append(Tile(at, grey(target), f"{decibels(target, truth):.1f} dB"))
        at += 1
    return [
        *shown,
        Tile(at, grey(fused), f"{decibels(fused, truth):.1f} dB"),
        Tile(at + 1, grey(truth)),
        Tile(at + 2, coloured(found, batch.structure), f"{100 * float(agree):.0f} % right"),
        Tile(at + 3, coloured(right, batch.structure)),
    ]


def decibels(image: Tensor, truth: Tensor) -> float:
    """PSNR against the truth, full scale 1."""
    return float(-10 * (image - truth).square().mean().log10())


def coloured(mask: Tensor, structure: Tensor) -> NDArray[np.float64]:
    """The slices' colours mixed as the mask mixes the slices; pale where there is nothing to see."""
    palette = np.array([[int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)] for colour in _SLICES[mask.shape[1]]])
    colours = np.einsum("zyx,zc->yxc", mask[0].double().numpy(), palette)
    strength: NDArray[np.float64] = 0.3 + 0.7 * structure[0].double().numpy()[..., None]
    return np.asarray(1 - (1 - colours) * strength)


def draw_row(figure: Figure, row: int, title: str, shown: list[Tile]) -> None:
    y = _TOP + row * (_TILE + _BELOW)
    write(figure, _LEFT / 2, y + _TILE / 2, title, rotation=90)
    for tile in shown:
        x = _LEFT + tile.column * (_TILE + _GAP)
        axes = figure.add_axes(box(figure, x, y, _TILE, _TILE))
        axes.imshow(tile.image, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(color=tile.frame, linewidth=3)
        write(figure, x + _TILE / 2, y + _TILE + 11, tile.below)


def draw_heads(figure: Figure, loss: Loss, columns: int) -> None:
    names = ["slice 1", "slice 2", "slice 3", "fused", "truth", "mask it finds", "true mask"]
    if loss.target is not None:
        names.insert(3, loss.target_name)
    for column, name in zip(range(columns), names, strict=True):
        write(figure, _LEFT + column * (_TILE + _GAP) + _TILE / 2, _TOP - 12, name, weight="bold")
    middle = figure.bbox.width / 2
    write(figure, middle, 16, f"What the loss “{loss.name}” asks for", size=14, weight="bold")
    legend = "A mask has the colour of the slice's frame, pale where there is nothing to see. dB: likeness to the truth"
    write(figure, middle, 42, legend)


def draw_curves(figure: Figure, loss: Loss, batches: list[Batch]) -> None:
    """One panel a term; each curve on the scale of its own largest value, a mark where it is lowest."""
    shares = [step / 20 for step in range(21)]
    slides = [slide(loss, batch, shares) for batch in batches]
    pitch = (figure.bbox.width - _LEFT) / len(slides[0])
    top = _TOP + len(batches) * (_TILE + _BELOW)
    for panel, name in enumerate(slides[0]):
        axes = figure.add_axes(box(figure, _LEFT + panel * pitch, top + 80, pitch - 40, _PLOTS - 110))
        for curves, style, example in zip(slides, _STYLES, EXAMPLES, strict=True):
            curve = curves[name] / max(curves[name].max(), 1e-12)
            lowest = [int(curve.argmin())]
            axes.plot(shares, curve, style, color="black", markevery=lowest, label=example.title, clip_on=False)
        axes.set(xlim=(0, 1), ylim=(0, 1.05), yticks=[0], xticks=[0, 1], xticklabels=["right", "wrong"])
        first, last = axes.get_xticklabels()  # so that neighbouring panels' labels keep apart
        first.set_horizontalalignment("left")
        last.set_horizontalalignment("right")
        axes.spines[["top", "right"]].set_visible(False)
        weight = f"  × {loss.weights[name]:g}" if name in loss.weights else ""
        axes.set_title(name.replace("_", " ") + weight, fontsize=10, fontweight="normal" if weight else "bold")
        if not panel:
            handles, labels = axes.get_legend_handles_labels()
            place = (0.5, 1 - (top + 42) / figure.bbox.height)
            figure.legend(
                handles, labels, loc="center", bbox_to_anchor=place, ncols=3, frameon=False, fontsize=10, handlelength=4
            )
    what = "The loss and its terms while every pixel goes from the right slice to the next, wrong one (mark: lowest)"
    write(figure, figure.bbox.width / 2, top + 18, what, weight="bold")


def write(figure: Figure, x: float, y: float, text: str, size: int = 10, **style: Any) -> None:
    """Centred at a pixel of the picture, counted from its top left."""
    width, height = figure.bbox.size
    figure.text(x / width, 1 - y / height, text, ha="center", va="center", fontsize=size, **style)


def box(figure: Figure, x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
    """As matplotlib counts: shares of the figure, from its bottom left."""
    whole, tall = figure.bbox.size
    return x / whole, 1 - (y + height) / tall, width / whole, height / tall


if __name__ == "__main__":
    main()
