"""Speed of a GPU: whole fusions beside the network alone, and the same pixels as the CPU gives. About four minutes.

    python benchmarks/gpu.py                    # device cuda
    python benchmarks/gpu.py --device cpu       # a try of the command without a GPU; its figures say nothing

Three questions, each answered by one line or table: does the GPU decide as the CPU does; how many pixels × slices a
second does a fusion make from OME-Zarr to OME-Zarr, and how much of that is the network; what happens when its memory
runs out. Every fusion is done twice and the second one counts, because the first one loads libraries and weights.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import hybridfusion_core as hf
import memory
from hybridfusion_core.fusion import window

JOBS = ((10, 2048), (10, 4096), (50, 2048))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", default="cuda")
    options.add_argument("--small", action="store_true", help="tiny stacks, to try the command")
    chosen = options.parse_args()
    agreement(chosen.device)
    print("\n| stack, uint16 | method | wall s | Mpx·slices/s | of which the method |")
    print("|---|---|---|---|---|")
    for slices, side in ((3, 256),) if chosen.small else JOBS:
        for method in ("network", "tenengrad"):
            whole, own = timed(slices, side, method, chosen.device)
            rate = slices * side**2 / 1e6 / whole
            print(f"| {slices} × {side}² | {method} | {whole:.2f} | {rate:.1f} | {own / whole:.0%} |", flush=True)


def agreement(device: str) -> None:
    """Fuse one stack on both, and print where they differ."""
    rng = np.random.default_rng(0)
    stack = rng.normal(1000, 40, (6, 300, 300))
    for z in range(6):
        stack[z, 50 * z : 50 * (z + 1)] += rng.normal(0, 200, (50, 300))
    stack = stack.clip(0).astype(np.uint16)
    for method in ("network", "tenengrad"):
        ours, theirs = (hf.fuse(stack, method=method, device=each, z_step_um=1.0) for each in (device, "cpu"))
        apart = np.abs(ours.fused.astype(int) - theirs.fused.astype(int))
        same = (ours.decision == theirs.decision).mean()
        print(f"{method}: pixels differ by {apart.max()} counts at most; {same:.3%} of the decisions are the same")


def timed(slices: int, side: int, method: str, device: str) -> tuple[float, float]:
    """Seconds of the second fusion from disk to disk, and of what scored the slices in it."""
    own: list[float] = []
    score = window.score

    def measured(*arguments: Any) -> Any:
        _wait(device)
        started = time.perf_counter()
        found = score(*arguments)
        _wait(device)
        own.append(time.perf_counter() - started)
        return found

    with tempfile.TemporaryDirectory() as name, mock.patch.object(window, "score", measured):
        source = Path(name) / "stack.ome.zarr"
        memory.make_stack(str(source), str(slices), str(side))
        for _ in range(2):
            own.clear()
            started = time.perf_counter()
            hf.fuse_to(source, Path(name) / "fused.ome.zarr", method=method, device=device, overwrite=True)
            whole = time.perf_counter() - started
    return whole, sum(own)


def _wait(device: str) -> None:
    """Wait for the GPU, which is asked for results before they are there."""
    if device.startswith("cuda"):
        import torch  # noqa: PLC0415 - a try without a GPU needs none

        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
