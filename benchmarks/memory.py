"""Peak memory of `fuse_to` from OME-Zarr to OME-Zarr, each fusion a process of its own, against its byte budget.

    python benchmarks/memory.py            # 10 × 4096², 10 × 16384² and 200 × 2048²: tens of minutes, 9 GB of disk
    python benchmarks/memory.py --small    # 10 × 1024², 10 × 4096² and 50 × 512²: a minute
    python benchmarks/memory.py --planned  # what the plan expects beside what was measured: 12 combinations, minutes

The network, if no other is named, is tiny and untrained, one block with small windows and large patches, and is told no
energies: this is about memory, not about pictures, and its tiles are of one size whatever the plane. Exit status 0 if
every fusion stays below its budget and the interpreter's base together, and if 16 times the plane costs less than 15 %
more memory.
"""

# ruff: noqa: PLC0415  (the process that measures stays small)

import argparse
import itertools
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

JOBS = ((10, 4096), (10, 16384), (200, 2048))
SMALL_JOBS = ((10, 1024), (10, 4096), (50, 512))
GROWTH = 0.15
PLANNED_SIDE, PLANNED_WITHIN = 640, 0.15
_TILE = 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="smaller stacks, in a minute")
    parser.add_argument("--memory", type=int, default=1024, metavar="MIB", help="budget of each fusion (default: 1024)")
    parser.add_argument("--method", default="network", help="as for fuse (default: network)")
    parser.add_argument("--model", help="a name or file, as for fuse (default: a tiny one)")
    parser.add_argument("--device", default="cpu", help="as for fuse (default: cpu, which is PyTorch)")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--folder", type=Path, help="where the stacks go for a while (default: the system's)")
    parser.add_argument("--planned", action="store_true", help="compare the plan with the measured peak, and stop")
    chosen = parser.parse_args()
    if chosen.planned:
        beside_the_plan(chosen.folder)
        return
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        folder = Path(name)
        measured_apart("make_model", folder / "tiny.safetensors")
        # What Python and its libraries take before any pixel counts: a fusion too small to matter.
        base, _ = fused_apart(folder, 2, 64, chosen)
        print(f"interpreter's base: {base} MiB; budget of each fusion: {chosen.memory} MiB\n")
        print("| stack, uint16 | peak RSS, MiB | above the base | wall s |")
        print("|---|---|---|---|")
        peaks = []
        for slices, side in SMALL_JOBS if chosen.small else JOBS:
            peak, seconds = fused_apart(folder, slices, side, chosen)
            peaks.append(peak)
            print(f"| {slices} × {side}² | {peak} | {peak - base} | {seconds:.0f} |", flush=True)
    growth = peaks[1] / peaks[0] - 1
    print(f"\nfrom the first to the second, with 16 times the plane: {growth:+.1%}")
    if max(peaks) > chosen.memory + base or growth >= GROWTH:
        raise SystemExit("memory is not bounded as promised")


def beside_the_plan(place: Path | None) -> None:
    """Print the planned and the measured peak of tiles, slices, methods and devices; base and threads as usual."""
    print("| method | device | tile | slices | planned, MiB | measured above the base, MiB | measured over planned |")
    print("|---|---|---|---|---|---|---|")
    wrong = []
    for method, device in (("tenengrad", "cpu"), ("network", "openvino")):
        with tempfile.TemporaryDirectory(dir=place) as name:
            folder = Path(name)
            base = planned_apart(folder, 2, 64, method, device, 64)[1]
            for tile, slices in itertools.product((128, 256, 512), (6, 40)):
                expected, peak = planned_apart(folder, slices, PLANNED_SIDE, method, device, tile)
                ratio = (peak - base) / expected
                figures = f"{expected:.0f} | {peak - base} | {ratio:.2f}"
                print(f"| {method} | {device} | {tile} | {slices} | {figures} |", flush=True)
                wrong += [] if abs(ratio - 1) <= PLANNED_WITHIN else [(method, device, tile, slices)]
    if wrong:
        raise SystemExit(f"farther than {PLANNED_WITHIN:.0%} from the plan: {wrong}")


def planned_apart(folder: Path, slices: int, side: int, method: str, device: str, tile: int) -> tuple[float, int]:
    """What the plan of a fusion by the shipped network expects, MiB, and its peak RSS."""
    source, result = folder / f"{slices}x{side}.ome.zarr", folder / "fused.ome.zarr"
    measured_apart("make_stack", source, slices, side)
    peak = measured_apart("fuse", source, result, "auto", 8 << 30, method, device, tile)
    expected = float((folder / "planned").read_text())
    measured_apart("remove", source, result, folder / "fused.maps.ome.zarr")
    return expected, peak


def fused_apart(folder: Path, slices: int, side: int, options: argparse.Namespace) -> tuple[int, float]:
    """Make a stack and fuse it, in processes of their own; peak RSS of the fusion in MiB, its seconds."""
    source = folder / f"{slices}x{side}.ome.zarr"
    measured_apart("make_stack", source, slices, side)
    result = folder / "fused.ome.zarr"
    started = time.perf_counter()
    model = options.model or folder / "tiny.safetensors"
    words = (source, result, model, options.memory << 20, options.method, options.device)
    peak = measured_apart("fuse", *words, threads=options.threads)
    seconds = time.perf_counter() - started
    measured_apart("remove", source, result, folder / "fused.maps.ome.zarr")
    return peak, seconds


def measured_apart(function: str, *arguments: object, threads: int = 1) -> int:
    """Run a function of this file in a process of its own; its peak RSS in MiB."""
    words = [sys.executable, __file__, "--call", function, *map(str, arguments)]
    # This process stays small, since a child's peak starts at that of its parent.
    process = subprocess.Popen(words, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(words)} failed with status {os.waitstatus_to_exitcode(status)}")
    return round(usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10))


def make_model(path: str) -> None:
    import torch

    from hybridfusion_core.model.config import NetworkConfig
    from hybridfusion_core.model.model_file import ModelCard, save_model
    from hybridfusion_core.model.network import HybridFusionNet

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"channels": 2, "dim": 4, "heads": 1, "depth": 1, "window": 4, "patch": 4, "mlp_ratio": 1.0}
    network = HybridFusionNet(NetworkConfig(dilations=(1,), focus_windows=(), **sizes))
    torch.nn.init.normal_(network.head.weight, std=0.5)
    save_model(Path(path), network, ModelCard("tiny", "for the memory benchmark", "none", "everything", {}))


def make_stack(path: str, slices: str, side: str) -> None:
    """Write a noisy stack tile by tile; every slice is another shift of one texture."""
    import numpy as np
    import zarr

    length = int(side)
    texture = np.random.default_rng(0).normal(1000, 50, (2 * _TILE, 2 * _TILE)).astype(np.uint16)
    group = zarr.open_group(path, mode="w", zarr_format=3)
    array = group.create_array(
        "0",
        shape=(1, 1, int(slices), length, length),
        chunks=(1, 1, 1, math.gcd(512, length), math.gcd(512, length)),
        shards=(1, 1, 1, min(_TILE, length), min(_TILE, length)),
        dtype="uint16",
        compressors=zarr.codecs.BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle"),
    )
    for z in range(int(slices)):
        for y in range(0, length, _TILE):
            for x in range(0, length, _TILE):
                shift = (17 * z + 7 * (y // _TILE)) % _TILE, (31 * z + 3 * (x // _TILE)) % _TILE
                tile = texture[shift[0] : shift[0] + _TILE, shift[1] : shift[1] + _TILE]
                array[0, 0, z, y : y + _TILE, x : x + _TILE] = tile[: length - y, : length - x]
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    scale = {"type": "scale", "scale": [1.0, 1.0, 2.0, 0.5, 0.5]}
    datasets = [{"path": "0", "coordinateTransformations": [scale]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"name": "noise", "axes": axes, "datasets": datasets}]}


def fuse(source: str, result: str, model: str, memory: str, method: str, device: str, tile: str = "0") -> None:
    import hybridfusion_core as hf
    from hybridfusion_core.fusion.job import resolve
    from hybridfusion_core.fusion.request import make_request

    threads = int(os.environ["OMP_NUM_THREADS"])
    options: dict[str, Any] = {"method": method, "model": model, "memory": int(memory), "device": device}
    options |= {"threads": threads, "tile": int(tile) or None}
    with hf.open_stack(source) as stack:
        planned = resolve(make_request(**options), stack).plan.bytes_needed / 2**20
    Path(result).with_name("planned").write_text(str(planned))
    hf.fuse_to(source, result, **options)


def remove(*paths: str) -> None:
    import shutil

    for path in paths:
        shutil.rmtree(path)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--call"]:
        globals()[sys.argv[2]](*sys.argv[3:])
    else:
        main()
