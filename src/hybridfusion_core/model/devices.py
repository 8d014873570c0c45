"""Where networks run, and through what: a device option becomes a device that exists, and a runtime.

PyTorch is the reference everywhere. On a CPU, OpenVINO gives the same scores in less time, where it is installed.
Importing this imports no PyTorch: the command line takes the names of devices from here.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Sequence
from ctypes.util import find_library
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from hybridfusion_core.errors import UserInputError

if TYPE_CHECKING:
    from hybridfusion_core.model.parameters import Parameters

AUTO, TORCH, OPENVINO, NUMPY = "auto", "torch", "openvino", "numpy"


@dataclass(frozen=True)
class Device:
    """A device that this machine has, and what a person calls it; `name` is what the device option takes."""

    name: str
    title: str


@dataclass(frozen=True)
class DeviceKind:
    """A kind of device that networks can run on.

    Attributes:
        tip: what it is, for the command line's help.
        count: how many of it this machine has.
        title: what a person calls the one of an index.
        tensors: PyTorch's name of the place where its tensors live.
        numbered: a machine may have several, which are told apart as NAME:INDEX.
    """

    tip: str
    count: Callable[[], int]
    title: Callable[[int], str]
    tensors: str
    numbered: bool = False


def _cpu(what: str) -> str:
    from hybridfusion_core.model.threads import thread_count

    count = thread_count()
    return f"{what}, {count} thread{'s' * (count > 1)}"


# What a driver leaves where programs look for it: NVIDIA's, that of Windows' Linux, AMD's, and that of NVIDIA's boards.
_DRIVERS = ("/dev/nvidiactl", "/proc/driver/nvidia", "/dev/dxg", "/dev/kfd", "/dev/nvmap")


def _may_have_gpu() -> bool:
    """Whether it is worth asking PyTorch for a GPU, which takes seconds unless it is imported already."""
    if "torch" in sys.modules:
        return True
    if find_spec("torch") is None:
        return False
    if sys.platform == "linux":
        return any(Path(driver).exists() for driver in _DRIVERS)
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    return sys.platform != "win32" or find_library("nvcuda") is not None


def _cuda_count() -> int:
    if not _may_have_gpu():
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _cuda_name(index: int) -> str:
    import torch

    return f"cuda:{index}, {torch.cuda.get_device_name(index)}"


def _mps_count() -> int:
    if not _may_have_gpu():
        return 0
    import torch

    return int(torch.backends.mps.is_available())


# What "auto" prefers comes first, except that OpenVINO also has to be willing to run the network.
DEVICE_KINDS: dict[str, DeviceKind] = {
    "cuda": DeviceKind("NVIDIA or AMD GPU, cuda:N for one of several", _cuda_count, _cuda_name, "cuda", numbered=True),
    "mps": DeviceKind("Apple GPU", _mps_count, lambda _: "mps, Apple GPU", "mps"),
    OPENVINO: DeviceKind(
        "CPU through OpenVINO", lambda: int(find_spec(OPENVINO) is not None), lambda _: _cpu("CPU, OpenVINO"), "cpu"
    ),
    "cpu": DeviceKind("CPU through PyTorch", lambda: 1, lambda _: _cpu("CPU, PyTorch"), "cpu"),
}


def available() -> list[Device]:
    """Return what the device option takes on this machine: "auto", and every device there is.

    OpenVINO is listed where it is installed; whether it runs a given network, `choose_runtime` knows.
    """
    found = []
    for name, kind in DEVICE_KINDS.items():
        found += [
            Device(f"{name}:{index}" if kind.numbered else name, kind.title(index)) for index in range(kind.count())
        ]
    return [Device(AUTO, f"auto ({found[0].title})"), *found]


@dataclass(frozen=True)
class Runtime:
    """What computes.

    Attributes:
        package: `TORCH`, `OPENVINO`, or `NUMPY` for classical methods on a CPU.
        note: why it is not OpenVINO, although that is installed; None if there is nothing to say.
    """

    package: str
    note: str | None = None

    def __str__(self) -> str:
        stated = f"{self.package} {version(self.package)}"
        if self.package == TORCH:
            import torch

            stated = f"{self.package} {torch.__version__}"  # which says for what it was built
        return stated if self.note is None else f"{stated} ({self.note})"


NUMPY_ALONE = Runtime(NUMPY)


def resolve_device(name: str) -> str:
    """Turn a device option into a device that exists.

    Args:
        name: "auto" takes a GPU, else the CPU; "openvino" is the CPU, whatever runs on it.

    Returns:
        PyTorch's name of it: "cpu", "mps", "cuda" or "cuda:N". PyTorch is asked for GPUs alone.

    Raises:
        UserInputError: unknown name, or no such device here.
    """
    if name == AUTO:
        return next(kind.tensors for kind in DEVICE_KINDS.values() if kind.count())
    kind_name, _, index = name.partition(":")
    kind = DEVICE_KINDS.get(kind_name)
    if kind is None or (index and not (kind.numbered and index.isascii() and index.isdecimal())):
        raise UserInputError(f"Unknown device {name!r}; expected auto, cuda:N, or one of {', '.join(DEVICE_KINDS)}.")
    # Whether OpenVINO is there, and why not, is said by `choose_runtime`.
    if kind_name != OPENVINO and int(index or 0) >= kind.count():
        have = ", ".join(known for known, other in DEVICE_KINDS.items() if other.count())
        raise UserInputError(f"Device {name!r} is not on this machine, which has: {have}. Use --device auto.")
    return f"{kind.tensors}:{int(index)}" if index else kind.tensors


def choose_runtime(
    name: str,
    device: str,
    networks: Sequence[Parameters],
    precision: str,
    threads: int | None,
    *,
    exact: bool = False,
) -> Runtime:
    """Choose what computes.

    Args:
        name: the device option; "openvino" insists, "auto" takes OpenVINO on a CPU if it is installed and willing.
        device: what `resolve_device` made of it.
        networks: that will run; none for classical methods.
        precision: "auto", "float32" or "bfloat16".
        threads: that will run them; None for `thread_count`'s choice.
        exact: only the reference will do, which is PyTorch.

    Raises:
        UserInputError: OpenVINO was asked for by name and is missing or refuses a network, or PyTorch is needed and is
            not installed.
    """
    if exact and name == OPENVINO:
        raise UserInputError(
            "--exact means PyTorch, the reference, so --device openvino contradicts it. Leave one of them out."
        )
    if not networks:
        return Runtime(NUMPY if device == "cpu" else TORCH)
    willing = not exact and name == AUTO and device == "cpu" and find_spec(OPENVINO) is not None
    reason = None
    if willing or name == OPENVINO:
        reason = _openvino_s_refusal(networks, precision, threads)
        if reason is None:
            return Runtime(OPENVINO)
    if name == OPENVINO:
        raise UserInputError(
            f"OpenVINO cannot run this network here: {reason}. Expected the extra napari-hybridfusion[cpu] to be "
            "installed, and a network like the shipped ones. Use --device cpu for PyTorch."
        )
    if find_spec(TORCH) is None:
        raise UserInputError(
            "This needs PyTorch, which is not installed; without it, networks run through OpenVINO on the CPU. Install "
            "torch and timm, or use --device openvino."
        )
    return Runtime(TORCH, None if reason is None else f"not openvino: {reason}")


def _openvino_s_refusal(networks: Sequence[Parameters], precision: str, threads: int | None) -> str | None:
    """Why OpenVINO cannot run these networks, or None."""
    try:
        from hybridfusion_core.model.openvino.runtime import refusal  # only where it is installed

        reasons = [refusal(network, precision, threads) for network in networks]
    except (ImportError, OSError) as error:
        return f"it cannot be imported ({error})"
    return next((reason for reason in reasons if reason is not None), None)


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, that of the computer or that of a GPU."""
    torch = sys.modules.get("torch")
    return isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError))


def give_back_memory() -> None:
    """Give back what PyTorch keeps of a GPU's memory for later."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.cuda.empty_cache()
