"""The ways to fuse: one row each, and nothing else in this project lists them.

A new focus measure is its function in `focus_measures` and its row here; the command line, the forms, the loop and the
report read the table. It imports neither torch nor NumPy, so that `--help` answers at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hybridfusion_core.errors import UserInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hybridfusion_core.model.arrays import Array


@dataclass(frozen=True)
class Method:
    """A way to fuse. Without `energy` and `project` it is a network's.

    Attributes:
        title: what a form calls it.
        tip: one sentence for the command line and for tooltips.
        energy: focus measure of one slice's guide, 1 h w -> 1 h w, ≥ 0; higher is sharper.
        reach: pixels that `energy` looks at around each one.
        project: counts Z Y X -> Y X, without any decision: fused is the only product.
        to_float: the fused image is float32, whatever the stack is.
        one_slice: all pixels come from the slice in which most is in focus.
    """

    title: str
    tip: str
    energy: Callable[[Array], Array] | None = None
    reach: int = 0
    project: Callable[[NDArray[Any]], NDArray[Any]] | None = None
    to_float: bool = False
    one_slice: bool = False

    @property
    def decides(self) -> bool:
        """Whether it decides which slice is in focus, so that there can be other products than the fused image."""
        return self.project is None

    @property
    def by_network(self) -> bool:
        """Whether a network scores the slices."""
        return self.energy is None and self.project is None


def _later(module: str, name: str) -> Callable[[Any], Any]:
    """Give a function whose module is imported when it is first called."""

    def called(values: Any) -> Any:
        return getattr(import_module(f"hybridfusion_core.{module}"), name)(values)

    return called


_KERNELS = 13  # px: one of a Sobel or Laplacian kernel, and three standard deviations of the window of 4 px

METHODS: dict[str, Method] = {
    "network": Method("network", "a trained network; --model says which"),
    "tenengrad": Method(
        "Tenengrad (gradients)",
        "squared Sobel gradient in a Gaussian window",
        energy=_later("model.focus_measures", "tenengrad"),
        reach=_KERNELS,
    ),
    "laplacian": Method(
        "Laplacian energy",
        "squared Laplacian in a Gaussian window",
        energy=_later("model.focus_measures", "laplacian_energy"),
        reach=_KERNELS,
    ),
    "best-slice": Method(
        "best slice",
        "the one slice of each field in which most is in focus, as the network sees it",
        one_slice=True,
    ),
    "mean": Method("mean of the slices", "mean of the slices", project=_later("fusion.projections", "mean")),
    "max": Method("maximum of the slices", "maximum of the slices", project=_later("fusion.projections", "maximum")),
    "sum": Method(
        "sum of the slices",
        "sum of the slices as float32",
        project=_later("fusion.projections", "total"),
        to_float=True,
    ),
}


def method_named(name: str) -> Method:
    """Return the row of a method.

    Raises:
        UserInputError: there is none of that name.
    """
    if name not in METHODS:
        raise UserInputError(f"Unknown method {name!r}; expected one of {', '.join(METHODS)}.")
    return METHODS[name]
