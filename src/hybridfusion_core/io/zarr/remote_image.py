"""Open an OME-Zarr image behind a URL as a `Stack`; nothing but its metadata is read."""

from __future__ import annotations

import itertools
from dataclasses import replace
from math import prod
from typing import Any

import zarr
from zarr.storage import FsspecStore

from hybridfusion_core.errors import StoredDataError
from hybridfusion_core.io.disk.access import guarded
from hybridfusion_core.io.zarr.chunk_files import Absent, check_present, chunk_grid
from hybridfusion_core.io.zarr.image import axis_letters, chosen_multiscale, ome_attributes, stack_of
from hybridfusion_core.io.zarr.ngff_reading import describe, described_axes
from hybridfusion_core.io.zarr.source import UrlSource, reached
from hybridfusion_core.stack import Stack

_MOST_CHUNKS = 1_000_000  # of one image; each is looked for


def open_remote_image(url: str, absent: Absent = "refuse") -> Stack:
    """Open an OME-Zarr image, 0.4 or 0.5.

    Args:
        url: `s3://` or `http(s)://`.
        absent: what to do about slices of which no chunk is there: "refuse" them, or "fill" them.

    Raises:
        UserInputError: the server does not answer or does not let us in, or the libraries are missing.
        StoredDataError: the metadata are damaged, or chunks are missing.
    """
    source = UrlSource(url)
    damage = "those of an OME-Zarr image. They are damaged: write the image again."
    with guarded(f"{source.url}: the metadata cannot be understood", damage), reached(source.url):
        attributes = ome_attributes(_opened(source.url, zarr.open_group))
        entry = chosen_multiscale(attributes, source.name)
        inside = str(entry["datasets"][0]["path"])
        if not source.holds(inside):
            raise StoredDataError(
                f"{source.url}: the dataset path {inside!r} leads out of the store; expected an array inside it. The "
                "store is damaged or hostile: do not open it."
            )
        array = _opened(f"{source.url}/{inside}", zarr.open_array)
        letters = axis_letters(described_axes(entry, array.ndim, source.name), array.shape, source.name)
        warnings = check_present(_present(source, inside, array), array, letters, source.name, absent)
        stack = stack_of(array, letters, source.name, describe(entry, attributes, source.name), warnings)
        return replace(stack, source=(source.url,))


def _opened(url: str, how: Any) -> Any:
    return how(FsspecStore.from_url(url, read_only=True), mode="r")


def _present(source: UrlSource, inside: str, array: Any) -> set[tuple[int, ...]]:
    """Return the places in the grid whose chunks, or shards, are there: what is not there would be read as black."""
    grid = chunk_grid(array)
    if prod(grid) > _MOST_CHUNKS:
        raise StoredDataError(
            f"{source.url}: the array {inside!r} has {prod(grid)} chunks; expected at most {_MOST_CHUNKS}. The "
            "metadata are damaged: write the image again, with larger chunks."
        )
    keys = {array.metadata.encode_chunk_key(index): index for index in itertools.product(*map(range, grid))}
    return {keys[name] for name in source.names(inside, list(keys))}
