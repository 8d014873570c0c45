"""How graphs are run: on arrays that they read and fill in place, whose memory is used again."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import openvino
from numpy.typing import NDArray

from hybridfusion_core.model.threads import Lanes

Floats = NDArray[np.float32]


class Buffers:
    """Working memory that one call after another may fill anew."""

    def __init__(self) -> None:
        self._kept: dict[str, Floats] = {}

    def take(self, name: str, *shape: int) -> Floats:
        """Return an array of any values; it must not be used any more when the same name is taken again."""
        size = math.prod(shape)
        if name not in self._kept or len(self._kept[name]) < size:
            self._kept[name] = np.empty(size, np.float32)
        return self._kept[name][:size].reshape(shape)


def each_slice(
    lanes: Lanes, graph: openvino.CompiledModel, sliced: Sequence[Floats], shared: Sequence[Floats], output: Floats
) -> None:
    """Run a graph for every slice: its inputs are a slice of each in `sliced`, then those in `shared`."""

    def lane() -> Callable[[int], None]:
        run = Run(graph)
        return lambda z: run([*(each[z : z + 1] for each in sliced), *shared], output[z : z + 1])

    lanes.each(lane, range(len(output)))


class Run:
    """One request of a graph, on arrays that it reads and fills in place: graphs know dense ones only."""

    def __init__(self, graph: openvino.CompiledModel) -> None:
        self._request = graph.create_infer_request()

    def __call__(self, inputs: Sequence[Floats], output: Floats) -> None:
        """Compute, from inputs in the order of the graph's parameters."""
        # Kept until the end: OpenVINO holds no references. It takes no array that must not be written to.
        dense = [np.require(array, requirements=["C", "W"]) for array in inputs]
        for index, array in enumerate(dense):
            self._request.set_input_tensor(index, openvino.Tensor(array, shared_memory=True))
        self._request.set_output_tensor(0, openvino.Tensor(output, shared_memory=True))
        self._request.infer()
