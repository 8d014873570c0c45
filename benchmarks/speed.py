"""Speed and peak memory of `hybridfusion fuse` beside other focus stackers, as whole processes on the same cores.

    python benchmarks/speed.py                                  # all parts, on one core and on two
    python benchmarks/speed.py --only rivals --repeats 5 --trend docs/trend.csv
    python benchmarks/speed.py --only startup --repeats 9
    python benchmarks/speed.py --only growth --sides 1024 2048 4096 8192 16384
    python benchmarks/speed.py --only end-to-end --side 8192

Every figure covers a whole process: start, import, reading (an OME-TIFF; the rivals read its slices as TIFF files),
fusing, all products, writing OME-Zarr with pyramids. Methods run in alternation, one round after the other, and ratios
are taken round by round, so that they hold when the machine's speed drifts. How cost grows is fitted to CPU seconds
beyond those of a tiny stack, because what a process costs before its first pixel does not grow. End to end, in this
process, is from an OME-Zarr of uint16 to another, beside what the network alone took of that for the same tiles.
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter

import memory
import rivals
from hybridfusion_core import fuse_to
from hybridfusion_core.fusion import window
from hybridfusion_core.fusion.provenance import ALGORITHM_VERSION
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.io.tiff.writer import write_stack
from hybridfusion_core.stack import Axis, Channel

# Words of each of our own methods.
OURS = {
    "network, OpenVINO": ("--method", "network", "--device", "openvino"),
    "network, PyTorch": ("--method", "network", "--device", "cpu"),
    "tenengrad": ("--method", "tenengrad", "--device", "cpu"),
}
REFERENCES = ("focus-stack, no alignment, depth map", "focus-stack", "tenengrad")  # the first that ran is the measure
BORDER = 24  # pixels that PSNR leaves out
GREATEST = 4096  # px; side of what is made, and repeated
TREND = ("version", "algorithm", "job", "cores", "method", "cpu_s", "speed_over", "reference", "rss_mib", "psnr_db")


class Run(NamedTuple):
    """One process."""

    cpu: float  # seconds, user and system
    wall: float  # seconds
    rss: float  # peak, MiB


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", choices=list(PARTS), help="one of the parts")
    options.add_argument("--side", type=int, default=2048, help="of the plane beside rivals and end to end, pixels")
    options.add_argument("--slices", type=int, default=10)
    options.add_argument("--cores", type=int, nargs="+", default=[1, 2], help="each on its own, in every part")
    options.add_argument("--sides", type=int, nargs="+", default=[512, 1024, 2048], help="planes to scale over")
    options.add_argument("--depths", type=int, nargs="+", default=[2, 10, 50, 200], help="slices of 512² to scale over")
    options.add_argument("--methods", nargs="+", choices=OURS, default=list(OURS), help="of our own")
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--memory", type=int, default=2, metavar="GIB", help="byte budget of a fusion (default: 2)")
    options.add_argument("--focus-stack", default="focus-stack", help="its executable")
    options.add_argument("--trend", type=Path, help="CSV file that this release's figures are appended to")
    chosen = options.parse_args()
    if find_spec("openvino") is None:
        chosen.methods = [method for method in chosen.methods if "OpenVINO" not in method]
    for part in (chosen.only,) if chosen.only else PARTS:
        for cores in chosen.cores:
            PARTS[part](chosen, cores)


def beside_rivals(options: argparse.Namespace, cores: int) -> None:
    """Print one table of our methods and the rivals, on so many cores."""
    others = rivals.installed(options.focus_stack)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        truth = make_stack(folder / "stack.ome.tif", options.slices, options.side)
        slices = as_files(folder / "stack.ome.tif", folder)
        runs: dict[str, list[Run]] = {}
        quality: dict[str, float] = {}
        for _ in range(options.repeats):
            for method in options.methods:
                output = folder / "fused.ome.zarr"
                runs.setdefault(method, []).append(fuse(folder / "stack.ome.tif", output, method, options, cores))
                with open_stack(output) as stack:
                    quality[method] = psnr(stack.read(0, 0, (0,), slice(None), slice(None))[0], truth)
            for rival in others:
                output = folder / "fused.tif"
                words = rival.command(slices, output, cores)
                runs.setdefault(rival.name, []).append(measured(words, cores, rival.environment))
                quality[rival.name] = psnr(tifffile.imread(output), truth)
    job = f"{options.slices} × {options.side}² uint8"
    reference = next(name for name in (*REFERENCES, *runs) if name in runs)
    print(f"\n**{job}, {cores} core{'s' * (cores > 1)}**, {options.repeats} rounds: median (least–greatest)\n")
    print(f"| method | CPU s | wall s | Mpx·slices per CPU s | peak RSS, MiB | PSNR, dB | speed over {reference} |")
    print("|---|---|---|---|---|---|---|")
    work = options.slices * options.side**2 / 1e6
    for method, figures in runs.items():
        cpu, wall, rss = (list(column) for column in zip(*figures, strict=True))
        ratios = [theirs.cpu / mine for theirs, mine in zip(runs[reference], cpu, strict=True)]
        columns = (cpu, wall, [work / seconds for seconds in cpu], rss)
        print(
            f"| {method} | {' | '.join(map(spread, columns))} | {quality[method]:.2f} | {spread(ratios)} |", flush=True
        )
        figures_of = (statistics.median(cpu), statistics.median(ratios), reference, max(rss), quality[method])
        remember(options.trend, (job, cores, method, *figures_of))


def startup(options: argparse.Namespace, cores: int) -> None:
    """Print what each of our methods costs before its first pixel: a whole process with a tiny stack."""
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "stack.ome.tif"
        make_stack(source, 3, 64)
        runs: dict[str, list[Run]] = {}
        for _ in range(options.repeats):
            for method in options.methods:
                run = fuse(source, Path(name) / "fused.ome.zarr", method, options, cores)
                runs.setdefault(method, []).append(run)
    print(f"\n**3 × 64² uint8, {cores} core{'s' * (cores > 1)}**, {options.repeats} rounds: median (least–greatest)\n")
    print("| method | CPU s | wall s | peak RSS, MiB |")
    print("|---|---|---|---|")
    for method, figures in runs.items():
        print(f"| {method} | {' | '.join(map(spread, map(list, zip(*figures, strict=True))))} |", flush=True)


def growth(options: argparse.Namespace, cores: int) -> None:
    """Print how CPU seconds grow with pixels and with slices on so many cores."""
    for method in options.methods:
        runs = [cost(2, 64, method, options, cores) for _ in range(options.repeats)]
        base = statistics.median(run.cpu for run in runs)
        start = statistics.median(run.wall for run in runs)
        print(
            f"\n**{method}, {cores} core{'s' * (cores > 1)}**: {base:.1f} CPU s before the first pixel; beyond them:\n"
        )
        print("| slices | side | CPU s | wall s | Mpx·slices per CPU s | peak RSS, MiB |")
        print("|---|---|---|---|---|---|")
        for what, jobs in (
            ("pixels", [(options.slices, side) for side in options.sides]),
            ("slices", [(depth, 512) for depth in options.depths]),
        ):
            seconds = []
            for slices, side in jobs:
                run = cost(slices, side, method, options, cores)
                seconds.append(run.cpu - base)
                rate = slices * side**2 / 1e6 / seconds[-1]
                figures = f"{seconds[-1]:.1f} | {run.wall - start:.1f} | {rate:.2f} | {run.rss:.0f}"
                print(f"| {slices} | {side} | {figures} |", flush=True)
            if len(jobs) < 2:
                continue
            amounts = [slices * side**2 for slices, side in jobs]
            steps = [exponent(*zip(*pair, strict=True)) for pair in pairwise(zip(amounts, seconds, strict=True))]
            print(f"\nExponent in {what}: {exponent(amounts, seconds):.2f}; step by step", end=" ")
            print(f"{', '.join(f'{step:.2f}' for step in steps)}\n")


def cost(slices: int, side: int, method: str, options: argparse.Namespace, cores: int) -> Run:
    """Fuse one stack in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "stack.ome.tif"
        make_stack(source, slices, side)
        return fuse(source, Path(name) / "fused.ome.zarr", method, options, cores)


def end_to_end(options: argparse.Namespace, cores: int) -> None:
    """Print what reading, statistics, maps and writing add to the network's own seconds."""
    own: list[float] = []
    score = window.score

    def timed(*arguments: Any) -> Any:
        started = time.perf_counter()
        found = score(*arguments)
        own.append(time.perf_counter() - started)
        return found

    with tempfile.TemporaryDirectory() as name, mock.patch.object(window, "score", timed):
        for side in (64, options.side):  # the first loads libraries and weights
            source = Path(name) / f"{side}.ome.zarr"
            memory.make_stack(str(source), str(options.slices), str(side))
            own.clear()
            started = time.perf_counter()
            output, budget = source.with_name(f"fused {side}.ome.zarr"), options.memory << 30
            fuse_to(source, output, method="network", threads=cores, memory=budget)
            seconds = time.perf_counter() - started
    print(f"\n{options.slices} × {options.side}² uint16, zarr to zarr, {cores} thread{'s' * (cores > 1)}:", end=" ")
    print(f"{seconds:.1f} s, of which the network {sum(own):.1f} s: {seconds / sum(own):.2f} times", flush=True)


def exponent(amounts: Iterable[int], seconds: Iterable[float]) -> float:
    """Slope of seconds over amounts, both logarithmic, by least squares."""
    return float(np.polyfit(np.log(list(amounts)), np.log(np.maximum(list(seconds), 1e-3)), 1)[0])


def make_stack(path: Path, slices: int, side: int) -> np.ndarray:
    """Write a textured, tilted stack, every slice sharp in another band; returns its truth, Y X uint8.

    Planes beyond `GREATEST` px repeat it: what they cost is all that they are for.
    """
    random, whole = np.random.default_rng(0), side
    side = min(side, GREATEST)
    texture = gaussian_filter(random.standard_normal((side, side), dtype=np.float32), 1.0, mode="wrap")
    levels = [texture, *(gaussian_filter(texture, sigma, mode="wrap") for sigma in range(1, 6))]
    height = np.linspace(0, slices - 1, side)[:, None]
    pixels = np.empty((1, 1, slices, side, side), np.uint8)
    for z in range(slices):
        level = np.abs(z - height).round().astype(int).clip(max=len(levels) - 1)
        image = np.choose(np.broadcast_to(level, (side, side)), levels)
        pixels[0, 0, z] = np.clip(120 + 120 * image + random.normal(0, 2, image.shape), 0, 255)
    pixels = np.tile(pixels, (-(-whole // side),) * 2)[..., :whole, :whole]
    um = Axis(0.325, "micrometer")
    write_stack(path, pixels, name="stack", channels=(Channel("0"),), z=Axis(2.0, "micrometer"), y=um, x=um)
    return np.clip(120 + 120 * texture, 0, 255).astype(np.uint8)


def as_files(source: Path, folder: Path) -> list[Path]:
    """Write each slice of an OME-TIFF of one channel as a TIFF file of its own, uncompressed."""
    planes = tifffile.imread(source)
    files = [folder / f"slice{z:04}.tif" for z in range(len(planes))]
    for file, plane in zip(files, planes, strict=True):
        tifffile.imwrite(file, plane)
    return files


def psnr(fused: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal to noise of 8-bit pictures, dB, without their border; of a colour picture its first channel."""
    grey = fused[..., 0] if fused.ndim > truth.ndim else fused
    difference = (grey.astype(float) - truth)[BORDER:-BORDER, BORDER:-BORDER]
    return float(10 * np.log10(255**2 / np.mean(difference**2)))


def fuse(source: Path, output: Path, method: str, options: argparse.Namespace, cores: int) -> Run:
    """Run one of our own fusions."""
    words = [sys.executable, "-m", "hybridfusion_core.cli", "fuse", str(source), "-o", str(output), "--overwrite"]
    words += [*OURS[method], "--threads", str(cores), "--memory", f"{options.memory}G"]
    return measured(words, cores, {})


def measured(words: list[str], cores: int, environment: Mapping[str, str]) -> Run:
    """Run a process on the first cores of those that are allowed."""
    variables = {**os.environ, "OMP_NUM_THREADS": str(cores), **environment}
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(cores), *words]
    done = subprocess.run(launcher, env=variables, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed: {done.stdout}")
    cpu, wall, kib = map(float, done.stdout.split())
    return Run(cpu, wall, kib / 1024)


# A process inherits the peak memory of the one that starts it: a small one must.
_LAUNCHER = """
import os, sys, time
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:int(sys.argv[1])])
null = os.open(os.devnull, os.O_WRONLY)
started = time.perf_counter()
silent = [(os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)]
_, status, usage = os.wait4(os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ, file_actions=silent), 0)
print(usage.ru_utime + usage.ru_stime, time.perf_counter() - started, usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def remember(path: Path | None, figures: tuple[str | int | float, ...]) -> None:
    """Append one method's figures to the trend, one line for each release, job, number of cores and method."""
    if path is None:
        return
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        if new:
            rows.writerow(TREND)
        rounded = [f"{value:.4g}" if isinstance(value, float) else value for value in figures]
        rows.writerow([version("napari-hybridfusion"), ALGORITHM_VERSION, *rounded])


def spread(values: list[float]) -> str:
    """Median with minimum and maximum."""
    middle = statistics.median(values)
    digits = max(0, 2 - len(str(int(middle))) + 1)
    return f"{middle:.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


PARTS: dict[str, Callable[[argparse.Namespace, int], None]] = {
    "startup": startup,
    "rivals": beside_rivals,
    "growth": growth,
    "end-to-end": end_to_end,
}

if __name__ == "__main__":
    main()
