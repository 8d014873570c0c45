"""An output whose channels are files of their own."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.io.create import create_output
from hybridfusion_core.io.result_spec import ResultSpec


class ChannelFiles:
    """A result being written as files, each with the decision and the maps that are its own beside it.

    Args:
        folder: where they are built; whatever an earlier try left there goes.
        names: of the files, one for each channel, or one for all.
        spec: of the whole result.
        decisions: how many there are: one for all channels, or one for each.
        block: side of the blocks that will be written.
    """

    def __init__(self, folder: Path, names: Sequence[str], spec: ResultSpec, *, decisions: int, block: int) -> None:
        self._open = ExitStack()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        specs = [spec] if len(names) == 1 else [_of_channel(spec, each, decisions) for each in range(len(names))]
        self._settings = [each.provenance["settings"] for each in specs]
        with ExitStack() as opened:
            self._outputs = [
                opened.enter_context(create_output(folder / name, each, block=block))
                for name, each in zip(names, specs, strict=True)
            ]
            self._open = opened.pop_all()
        if len(names) == 1:
            self.arrays: Mapping[str, Any] = self._outputs[0].arrays
            return
        places = {
            "fused": [(channel, 0) for channel in range(len(names))],
            "decision": [(number, 0) for number in range(len(spec.decision_channels))],
            "maps": [(number % decisions, number // decisions) for number in range(len(spec.maps))],
        }
        self.arrays = {
            name: _Spread([(self._outputs[owner].arrays[name], at) for owner, at in places[name]])
            for name in spec.array_shapes()
        }

    def record(self, provenance: Mapping[str, Any]) -> None:
        """Replace what `commit` will write of how the result was made, but for what each file alone says."""
        for output, own in zip(self._outputs, self._settings, strict=True):
            output.record({**provenance, "settings": own})

    def commit(self) -> None:
        """Finish and verify every file."""
        for output in self._outputs:
            output.commit()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)


class _Spread:
    """An array T C 1 Y X whose channels stand in several arrays."""

    def __init__(self, places: Sequence[tuple[Any, int]]) -> None:
        self._paths = places
        first = places[0][0].shape
        self.shape = (first[0], len(places), *first[2:])

    def __getitem__(self, key: tuple[Any, int, Any, slice, slice]) -> NDArray[Any]:
        array, at = self._paths[key[1]]
        return np.asarray(array[key[0], at, *key[2:]])

    def __setitem__(self, key: tuple[Any, int, Any, slice, slice], values: NDArray[Any]) -> None:
        array, at = self._paths[key[1]]
        array[key[0], at, *key[2:]] = values


def _of_channel(spec: ResultSpec, channel: int, decisions: int) -> ResultSpec:
    """Describe one channel; a decision that serves all is the first one's."""
    own = channel if decisions > 1 else 0
    has = decisions > 1 or channel == 0
    maps = tuple(each for number, each in enumerate(spec.maps) if has and number % decisions == own)
    settings = dict(spec.provenance["settings"])
    # What is asked of this file: another one has the rest.
    settings["products"] = [each for each in settings["products"] if has or each == "fused"]
    return replace(
        spec,
        shape=(spec.shape[0], 1, *spec.shape[2:]),
        channels=(spec.channels[channel],),
        decision_channels=spec.decision_channels[own : own + 1] if has else (),
        maps=maps,
        provenance={**spec.provenance, "settings": settings},
    )
