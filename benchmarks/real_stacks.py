"""Fuse real stacks whose licence lets us show them: a picture of each, and what the methods leave in them.

    python benchmarks/real_stacks.py FOLDER docs/pictures

FOLDER, or folders in it, hold the files named below. Writes real_NAME.png for each (sharpest slice, fused, decision,
height) and prints the table of docs/real_stacks.md: no truth is known, so the figures describe and judge nothing.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

import hybridfusion_core as hf
from hybridfusion_core.evaluate.methods import NETWORK, TENENGRAD
from hybridfusion_core.evaluate.run import evaluate_folder
from hybridfusion_core.evaluate.scores import FIGURES

STACKS = (
    "dfnn_mitochondria",
    "neubias_chromosomes",
    "neubias_dna_ch0",
    "neubias_golgi_bfa",
    "neubias_nuclear_envelope_fly",
    "macro_noah",
    "beads_E07_s1",
    "beads_E07_s2",
    "beads_E08_s1",
)
KEYS = (
    "edges_fused",
    "edges_height",
    "dark_ring",
    "speckle",
    "unknown",
    "bright_kept",
    "false_ring",
    "false_ring_sure",
    "glow",
    "far_decided",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--model", default="auto")
    chosen = parser.parse_args()
    missing = [name for name in STACKS if not source(chosen.folder, name).exists()]
    if missing:
        sys.exit(f"{chosen.folder} lacks {', '.join(missing)} (.ome.tif); expected all of them. Give their folder.")
    with tempfile.TemporaryDirectory() as scratch:
        shown = Path(scratch) / "stacks"
        shown.mkdir()
        for name in STACKS:
            (shown / f"{name}.ome.tif").symlink_to(source(chosen.folder, name).resolve())
            picture = chosen.pictures / f"real_{name}.png"
            picture.unlink(missing_ok=True)
            result = Path(scratch) / f"{name}.ome.zarr"
            hf.fuse_to(source(chosen.folder, name), result, model=chosen.model, preview=picture)
        measured = evaluate_folder(shown, chosen.model)
    head = [figure.heading for key in KEYS for figure in FIGURES if figure.key == key]
    print("| stack | method | " + " | ".join(head) + " |")
    print("|---" * (2 + len(KEYS)) + "|")
    for board in measured.boards.values():
        for index, name in enumerate(board.stacks):
            for method in (NETWORK, TENENGRAD):
                values = [board.figures[method][key][index] for key in KEYS]
                cells = ["–" if np.isnan(value) else f"{value:.3f}" for value in values]
                print(f"| {name} | {method} | {' | '.join(cells)} |")


def source(folder: Path, name: str) -> Path:
    """Where a stack lies, in the folder or in one below it."""
    return next(folder.rglob(f"{name}.ome.tif"), folder / f"{name}.ome.tif")


if __name__ == "__main__":
    main()
