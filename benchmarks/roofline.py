"""Where a network's time goes: arithmetic, bytes and seconds of every part, beside what this machine could do.

    python benchmarks/roofline.py --side 320 --slices 10

The machine's own speed comes first: matrix products of float32 and bfloat16, and a copy that no cache holds. Then every
operation that PyTorch runs is timed and counted (multiplications and additions of products and convolutions; bytes of
all tensors that it reads and makes), and given to the function of ours that asked for it. The bound is the time that
the machine would need for that arithmetic or for those bytes, whichever is longer; bytes that stay in a cache may beat
it. What OpenVINO needs for the same window stands in the last rows, for the whole and for each of its graphs alone.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

import hybridfusion_core
from hybridfusion_core.model.focus_measures import has_structure
from hybridfusion_core.model.model_file import load_model

_PARTS = ("network.py", "coarse.py", "exchange.py", "swin.py")
_FILES = {str(Path(hybridfusion_core.__file__).parent / "model" / name) for name in _PARTS}
_SIDE = 1024  # of matrices whose product measures arithmetic
_COPIED = 1 << 28  # bytes, more than caches hold


@dataclass
class Part:
    """What one function of ours asked for."""

    seconds: float = 0.0
    operations: float = 0.0
    bytes: float = 0.0


class Counter(TorchDispatchMode):
    """Times and counts every operation, by the innermost function of the network that asked for it."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: dict[str, Part] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation."""
        started = time.process_time()
        made = func(*args, **(kwargs or {}))
        seconds = time.process_time() - started
        part = self.parts.setdefault(_asking(), Part())
        part.seconds += seconds
        if (counted := flop_registry.get(func.overloadpacket)) is not None:
            part.operations += counted(*args, **(kwargs or {}), out_val=made)
        if not func.is_view:
            tensors = [each for each in tree_leaves((args, kwargs, made)) if isinstance(each, Tensor)]
            part.bytes += sum(each.numel() * each.element_size() for each in tensors)
        return made


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="fluorescence")
    options.add_argument("--side", type=int, default=320, help="of a window with its halo, pixels")
    options.add_argument("--slices", type=int, default=10)
    options.add_argument("--threads", type=int, default=1)
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    peak, speed = machine()
    network = load_model(chosen.model).network
    guide = torch.randn(1, chosen.slices, chosen.side, chosen.side, generator=torch.Generator().manual_seed(0))
    noise = torch.tensor([0.2])
    with torch.no_grad():  # inference mode would not show what convolutions and products are made of
        whole = best(lambda: network(guide, noise, 1)) / guide.numel()
        with Counter() as counter:
            network(guide, noise, 1)
        structure = best(lambda: has_structure(guide, noise)) / guide.numel()
    print(f"\n**{chosen.model}**, {chosen.slices} × {chosen.side}², one slice at a time, per pixel and slice:\n")
    print("| part | FLOP | bytes | ns | bound, ns |")
    print("|---|---|---|---|---|")
    pixels = guide.numel()
    for name, part in sorted(counter.parts.items(), key=lambda item: -item[1].seconds):
        bound = max(part.operations / peak, part.bytes / speed)
        figures = (part.operations, part.bytes, 1e9 * part.seconds, 1e9 * bound)
        print(f"| `{name}` | {' | '.join(f'{figure / pixels:,.0f}' for figure in figures)} |")
    print(f"| whole network, PyTorch | | | {1e9 * whole:,.0f} | |")
    print(f"| where anything is in focus at all | | | {1e9 * structure:,.0f} | |")
    if find_spec("openvino") is not None:
        through_openvino(network, guide, noise, chosen.threads)


def through_openvino(network: Any, guide: Tensor, noise: Tensor, threads: int) -> None:
    from hybridfusion_core.model.openvino.runtime import compiled  # noqa: PLC0415 - only where it is installed

    for precision in ("float32", "bfloat16"):
        run = compiled(network, precision, threads)
        with torch.inference_mode():
            seconds = best(lambda run=run: run(guide, noise, network.config.halo))
        print(f"| whole network, OpenVINO {precision} | | | {1e9 * seconds / guide.numel():,.0f} | |")
        wanted = guide.shape[1] * (guide.shape[2] - 2 * network.config.halo) ** 2
        print(f"| …, per pixel of the core, its halo counted | | | {1e9 * seconds / wanted:,.0f} | |")
        for graph in run.graphs(*guide.shape[2:]):
            request = graph.create_infer_request()
            for port in graph.inputs:
                request.get_tensor(port).data[:] = torch.randn(*port.shape)
            name, shape = graph.get_property("NETWORK_NAME"), tuple(graph.inputs[0].shape)
            # A slice of the window at a time, or windows of tokens.
            pixels = shape[0] * shape[1] * network.config.token_side**2 if name == "block" else guide[0, 0].numel()
            print(f"| its {name}, from {shape} | | | {1e9 * best(request.infer, 30) / pixels:,.0f} | |")


def machine() -> tuple[float, float]:
    """Print what the machine can do; float32 operations and copied bytes per second."""
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.randn(_SIDE, _SIDE).to(dtype)
        found[dtype] = 2 * _SIDE**3 / best(lambda matrix=matrix: matrix @ matrix, 10)
    source = torch.zeros(_COPIED, dtype=torch.uint8)
    target = torch.zeros_like(source)
    speed = 2 * _COPIED / best(lambda: target.copy_(source), 5)
    print(f"{torch.get_num_threads()} thread(s), {torch.backends.cpu.get_cpu_capability()}: float32", end=" ")
    print(f"{found[torch.float32] / 1e9:,.0f} GFLOP/s, bfloat16 {found[torch.bfloat16] / 1e9:,.0f} GFLOP/s,", end=" ")
    print(f"memory {speed / 1e9:.1f} GB/s read and written")
    return found[torch.float32], speed


def best(action: Callable[[], Any], repeats: int = 3) -> float:
    """Least seconds of some runs, after one that does not count."""
    action()
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        action()
        seconds.append(time.process_time() - started)
    return min(seconds)


def _asking() -> str:
    frame = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename not in _FILES:
        frame = frame.f_back
    return "elsewhere" if frame is None else frame.f_code.co_qualname


if __name__ == "__main__":
    main()
