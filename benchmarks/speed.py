"""CPU seconds, peak memory and throughput of `hybridfusion fuse`, beside its own Tenengrad, as whole processes.

    python benchmarks/speed.py --sides 2048 4096 --repeats 3

Every figure covers a whole process: start, import, reading an OME-TIFF, fusing, all products, writing OME-Zarr with
pyramids. Methods run in alternation, so that the ratio holds when the machine's speed drifts.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from hybridfusion_core.stack import Axis, Channel
from hybridfusion_core.store.tiff_writer import write_stack

METHODS = ("network", "tenengrad")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sides", type=int, nargs="+", default=[2048, 4096], help="side of the plane in pixels")
    options.add_argument("--slices", type=int, default=10)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--memory", default="2G", help="byte budget of a fusion")
    chosen = options.parse_args()
    print(
        "| job | method | CPU s | wall s | Mpx·slices per CPU s | peak RSS, MiB | CPU of the network over Tenengrad |"
    )
    print("|---|---|---|---|---|---|---|")
    for side in chosen.sides:
        with tempfile.TemporaryDirectory() as folder:
            source = make_stack(Path(folder) / "stack.ome.tif", chosen.slices, side)
            runs: dict[str, list[tuple[float, float, float]]] = {method: [] for method in METHODS}
            for repeat in range(chosen.repeats):
                for method in METHODS:
                    output = Path(folder) / f"{method}{repeat}.ome.zarr"
                    runs[method].append(fuse(source, output, method, chosen))
            ratios = [ours[0] / theirs[0] for ours, theirs in zip(*runs.values(), strict=True)]
            work = chosen.slices * side * side / 1e6
            for method, figures in runs.items():
                cpu, wall, rss = (list(column) for column in zip(*figures, strict=True))
                ratio = spread(ratios) if method == "network" else "1"
                print(
                    f"| {chosen.slices} × {side}² uint8 | {method} | {spread(cpu)} | {spread(wall)} | "
                    f"{spread([work / seconds for seconds in cpu])} | {spread(rss)} | {ratio} |",
                    flush=True,
                )


def make_stack(path: Path, slices: int, side: int) -> Path:
    """Write a textured, tilted stack: every slice is sharp in another band."""
    random = np.random.default_rng(0)
    texture = gaussian_filter(random.standard_normal((side, side), dtype=np.float32), 1.0, mode="wrap")
    levels = [texture, *(gaussian_filter(texture, sigma, mode="wrap") for sigma in range(1, 6))]
    height = np.linspace(0, slices - 1, side)[:, None]
    pixels = np.empty((1, 1, slices, side, side), np.uint8)
    for z in range(slices):
        level = np.abs(z - height).round().astype(int).clip(max=len(levels) - 1)
        image = np.choose(np.broadcast_to(level, (side, side)), levels)
        pixels[0, 0, z] = np.clip(120 + 120 * image + random.normal(0, 2, image.shape), 0, 255)
    um = Axis(0.325, "micrometer")
    write_stack(path, pixels, name="stack", channels=(Channel("0"),), z=Axis(2.0, "micrometer"), y=um, x=um)
    return path


def fuse(source: Path, output: Path, method: str, options: argparse.Namespace) -> tuple[float, float, float]:
    """Run one fusion as a process of its own; CPU seconds, wall seconds, peak RSS in MiB."""
    words = [sys.executable, "-m", "hybridfusion_core.cli", "fuse", str(source), "-o", str(output), "--method", method]
    words += ["--threads", str(options.threads), "--memory", options.memory, "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    started = time.perf_counter()
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(words)} failed with status {os.waitstatus_to_exitcode(status)}")
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - started, usage.ru_maxrss / 1024


def spread(values: list[float]) -> str:
    """Median with minimum and maximum."""
    middle = statistics.median(values)
    digits = max(0, 2 - len(str(int(middle))) + 1)
    return f"{middle:.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


if __name__ == "__main__":
    main()
