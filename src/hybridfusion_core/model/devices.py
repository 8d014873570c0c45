"""Where networks run, and through what: a device option becomes a device that exists, and a runtime.

PyTorch is the reference everywhere. On a CPU, OpenVINO gives the same scores in less time, where it is installed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch

from hybridfusion_core.errors import UserInputError

if TYPE_CHECKING:  # the network's libraries take seconds to import
    from hybridfusion_core.model.network import HybridFusionNet

TORCH, OPENVINO = "torch", "openvino"


@dataclass(frozen=True)
class Runtime:
    """What runs networks.

    Attributes:
        package: `TORCH` or `OPENVINO`.
        note: why it is not OpenVINO, although that is installed; None if there is nothing to say.
    """

    package: str
    note: str | None = None

    def __str__(self) -> str:
        stated = f"torch {torch.__version__}"
        if self.package != TORCH:
            stated = f"{self.package} {version(self.package)}, {stated}"
        return stated if self.note is None else f"{stated} ({self.note})"


PYTORCH = Runtime(TORCH)


def resolve_device(name: str) -> torch.device:
    """Turn a device option into a device that exists.

    Args:
        name: "auto" takes CUDA, else MPS, else the CPU; "openvino" is the CPU, whatever runs on it.

    Raises:
        UserInputError: unknown name, or no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device("cpu" if name == OPENVINO else name)
    except RuntimeError:
        device = torch.device("meta")
    present = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }
    if device.type not in present:
        raise UserInputError(f"Unknown device {name!r}; expected auto, cpu, openvino, cuda, cuda:N or mps.")
    if (device.index or 0) >= present[device.type]:
        have = ", ".join(kind for kind, count in present.items() if count)
        raise UserInputError(f"Device {name!r} is not on this machine, which has: {have}. Use --device auto.")
    return device


def choose_runtime(
    name: str, device: torch.device, networks: Sequence[HybridFusionNet], precision: str, threads: int | None
) -> Runtime:
    """Choose what runs networks.

    Args:
        name: the device option; "openvino" insists, "auto" takes OpenVINO on a CPU if it is installed and willing.
        device: what `resolve_device` made of it.
        networks: that will run; none for classical methods.
        precision: "auto", "float32" or "bfloat16".
        threads: that will run them; None for PyTorch's own choice.

    Raises:
        UserInputError: OpenVINO was asked for by name and is missing or refuses a network.
    """
    willing = name == "auto" and device.type == "cpu" and find_spec(OPENVINO) is not None
    if not networks or not (willing or name == OPENVINO):
        return PYTORCH
    try:
        from hybridfusion_core.model.openvino.runtime import refusal  # noqa: PLC0415 - only where it is installed

        reasons = [refusal(network, precision, threads) for network in networks]
    except (ImportError, OSError) as error:
        reasons = [f"it cannot be imported ({error})"]
    reason = next((reason for reason in reasons if reason is not None), None)
    if reason is None:
        return Runtime(OPENVINO)
    if name == OPENVINO:
        raise UserInputError(
            f"OpenVINO cannot run this network here: {reason}. Expected the extra napari-hybridfusion[cpu] to be "
            "installed, and a network like the shipped ones. Use --device cpu for PyTorch."
        )
    return Runtime(TORCH, f"not openvino: {reason}")


@contextmanager
def limited_threads(count: int | None) -> Iterator[None]:
    """Let PyTorch use so many threads on the CPU; None leaves it its own choice."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
