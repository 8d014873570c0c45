"""Damage the headers of small images at random and open them, to find what ends in neither pixels nor a message.

    python benchmarks/fuzz.py --minutes 10

Every finding is printed with what reproduces it; exit status 1 if there is any.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybridfusion_core.errors import HybridFusionError
from hybridfusion_core.io.open import open_stack

_SECONDS = 10  # one file may take
_BYTES = 6 << 30  # address space of this process
_VALUES = (0, 1, 2, 3, 7, 8, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1)
_JSON = (
    None,
    0,
    -1,
    1,
    10**6,
    10**15,
    2**63,
    1e308,
    "",
    "0",
    "../..",
    "/etc",
    [],
    [0],
    [-1],
    {},
    True,
    "\0",
    "é" * 300,
)

Mutation = list[tuple[int, int, int]]


def main() -> int:
    """Fuzz until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    deadline = time.monotonic() + 60 * parser.parse_args().minutes
    resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    findings: dict[str, str] = {}
    tried = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        targets = [*_tiffs(folder), *_zarrs(folder)]
        while time.monotonic() < deadline:
            for target in targets:
                tried += _examples(target, findings, deadline)
    print(f"{tried} damaged files, {len(findings)} findings")
    for where, how in findings.items():
        print(f"\n== {where}\n{how}")
    return 1 if findings else 0


def _examples(target: Callable[[Mutation], Path], findings: dict[str, str], deadline: float) -> int:
    tried = 0
    mutations = st.lists(
        st.tuples(st.integers(0, 2**16), st.integers(0, 3), st.integers(0, 255)), min_size=1, max_size=4
    )

    @settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(mutations)
    def one(mutation: Mutation) -> None:
        nonlocal tried
        if time.monotonic() > deadline:
            return
        tried += 1
        path = target(mutation)
        try:
            with _time_limit():
                _read(path)
        except HybridFusionError as error:
            if str(error).count(".") + str(error).count(";") < 2:
                findings.setdefault(f"message of one part: {error}", f"{path.name} {mutation}")
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            last = traceback.extract_tb(error.__traceback__)[-1]
            findings.setdefault(
                f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}",
                f"{path.name} {mutation}\n{''.join(traceback.format_exception(error))[-3000:]}",
            )

    one()
    return tried


def _read(path: Path) -> None:
    with open_stack(path, axes="ZYX" if path.suffix == ".tif" and "plain" in path.name else None) as stack:
        t, c, z, y, x = stack.shape
        stack.read(t - 1, c - 1, [0, z - 1] if z > 1 else [0], slice(0, min(y, 64)), slice(max(x - 64, 0), x))


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError(f"longer than {_SECONDS} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)


def _tiffs(folder: Path) -> Iterator[Callable[[Mutation], Path]]:
    pixels = np.random.default_rng(0).integers(0, 4000, (3, 32, 32)).astype("uint16")
    kinds: dict[str, dict[str, Any]] = {
        "ome": {"ome": True, "metadata": {"axes": "ZYX"}},
        "imagej": {"imagej": True, "metadata": {"axes": "ZYX", "spacing": 2.0, "unit": "um"}},
        "plain": {"metadata": None, "photometric": "minisblack"},
        "zlib": {"ome": True, "compression": "zlib", "tile": (16, 16), "metadata": {"axes": "ZYX"}},
        "big": {"ome": True, "bigtiff": True, "compression": "zstd", "metadata": {"axes": "ZYX"}},
        "lzw_plain": {"compression": "lzw", "metadata": None, "photometric": "minisblack"},
    }
    for kind, options in kinds.items():
        path = folder / f"{kind}.tif"
        tifffile.imwrite(path, pixels, **options)
        content = path.read_bytes()
        # Header, directories and texts; pixels in between are not worth the time.
        with tifffile.TiffFile(path) as file:
            data = {
                at
                for page in file.pages
                for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)
                for at in range(start + 4, start + count)
            }
        places = [at for at in range(len(content)) if at not in data]

        def damaged(
            mutation: Mutation, path: Path = path, content: bytes = content, places: list[int] = places
        ) -> Path:
            changed = bytearray(content)
            for where, kind_of_change, value in mutation:
                at = places[where % len(places)]
                if kind_of_change == 0:
                    changed[at] = value
                elif kind_of_change == 1:
                    changed[at : at + 4] = _VALUES[value % len(_VALUES)].to_bytes(4, "little")
                elif kind_of_change == 2:
                    changed[at : at + 2] = (_VALUES[value % len(_VALUES)] & 0xFFFF).to_bytes(2, "little")
                else:
                    changed[at] ^= 1 << value % 8
            if mutation[0][2] == 0:
                del changed[places[mutation[0][0] % len(places)] :]
            path.write_bytes(changed)
            return path

        yield damaged


def _zarrs(folder: Path) -> Iterator[Callable[[Mutation], Path]]:
    for version in (2, 3):
        path = folder / f"v{version}.ome.zarr"
        group = zarr.create_group(path, zarr_format=version)
        more: dict[str, Any] = {"shards": (1, 32, 32)} if version == 3 else {}
        array = group.create_array("0", shape=(3, 32, 32), chunks=(1, 16, 16), dtype="uint16", **more)
        array[...] = np.arange(3 * 32 * 32).reshape(3, 32, 32)
        axes = [{"name": letter, "type": "space", "unit": "micrometer"} for letter in "zyx"]
        scale = [{"type": "scale", "scale": [1.0, 0.5, 0.5]}]
        multiscales = [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}], "name": "a"}]
        omero = {"channels": [{"label": "a", "color": "00FF00", "window": {"start": 0, "end": 9, "min": 0, "max": 9}}]}
        metadata = {"multiscales": multiscales, "omero": omero}
        group.attrs.update({"ome": {"version": "0.5", **metadata}} if version == 3 else metadata)
        names = [each for each in path.rglob("*") if each.is_file()]
        texts = {each.relative_to(path).as_posix(): each.read_bytes() for each in names}

        def damaged(mutation: Mutation, path: Path = path, texts: dict[str, bytes] = texts) -> Path:
            shutil.rmtree(path, ignore_errors=True)
            for name, content in texts.items():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                (path / name).write_bytes(content)
            described = sorted(name for name in texts if name.endswith(("json", ".zattrs", ".zarray", ".zgroup")))
            for where, kind_of_change, value in mutation:
                name = described[where % len(described)]
                if kind_of_change < 3:
                    with contextlib.suppress(ValueError):
                        tree = json.loads((path / name).read_bytes())
                        _change(tree, where // len(described), _JSON[value % len(_JSON)])
                        (path / name).write_text(json.dumps(tree))
                else:
                    other = sorted(texts)[where % len(texts)]
                    content = bytearray((path / other).read_bytes())
                    if content:
                        content[where % len(content)] ^= 1 << value % 8
                    (path / other).write_bytes(content[: -value or None] if value < 32 else content)
            return path

        yield damaged


def _change(tree: Any, where: int, value: Any) -> None:
    """Replace one node of a JSON tree."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            walk(node[key])

    walk(tree)
    if places:
        node, key = places[where % len(places)]
        node[key] = value


if __name__ == "__main__":
    sys.exit(main())
