"""The process in which the libraries run: it opens one file at a time and answers what it is asked.

What a damaged file makes a library do (take all memory, hang, crash) ends with this process. A request is a line of
JSON; so is an answer, with as many bytes of pixels behind it as it says.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hybridfusion_core.io.native.formats import open_reader
from hybridfusion_core.io.native.messages import as_json
from hybridfusion_core.io.native.scene import NativeReader

_ROOM = 4 * 2**30  # bytes that a library may take beside the file itself


def main() -> None:
    """Answer requests until there are no more."""
    answers = _answers()
    reader: NativeReader | None = None
    for line in sys.stdin.buffer:
        pixels: memoryview | bytes = b""
        try:
            asked = json.loads(line)
            if asked["do"] == "read" and reader is not None:
                head, pixels = _read(reader, asked)
            else:
                if reader is not None:
                    reader.close()
                reader = None
                head = {}
                if asked["do"] == "open":
                    reader, head = _open(Path(asked["path"]))
        except Exception as error:
            head, pixels = {"error": f"{type(error).__name__}: {error}"[:1000]}, b""
        answers.write(json.dumps(head).encode() + b"\n")
        answers.write(pixels)
        answers.flush()


def _answers() -> BinaryIO:
    """Return where answers go; whatever a library prints goes to the error stream."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def _open(path: Path) -> tuple[NativeReader, dict[str, Any]]:
    _limit(_ROOM + path.stat().st_size)
    with _noted() as notes:
        reader = open_reader(path)
    return reader, {
        "scenes": [as_json(scene) for scene in reader.scenes],
        "companions": list(reader.companions),
        "warnings": [note[:500] for note in notes[:10]],
    }


def _read(reader: NativeReader, asked: Any) -> tuple[dict[str, Any], memoryview | bytes]:
    y, x = (slice(*asked[letter]) for letter in "yx")
    with _noted() as notes:
        pixels = np.ascontiguousarray(reader.read(asked["scene"], asked["t"], asked["z"], asked["channels"], y, x))
    if notes:  # the libraries fill up with black what they cannot read, and say so here alone
        raise ValueError(notes[0])
    data = pixels.reshape(-1).view(np.uint8).data if pixels.size else b""
    return {"shape": pixels.shape, "dtype": pixels.dtype.name, "bytes": pixels.nbytes}, data


def _limit(room: int) -> None:
    with suppress(ImportError, ValueError, OSError):  # Windows has none, and macOS not this one
        import resource  # noqa: PLC0415

        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        allowed = room if most == resource.RLIM_INFINITY else min(room, most)
        resource.setrlimit(resource.RLIMIT_DATA, (allowed, most))


@contextmanager
def _noted() -> Iterator[list[str]]:
    """Collect what libraries warn of and log."""
    notes: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            notes.append(record.getMessage())

    collector = Collector(logging.WARNING)
    logging.getLogger().addHandler(collector)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            yield notes
            notes += [str(each.message) for each in caught if issubclass(each.category, UserWarning)]
    finally:
        logging.getLogger().removeHandler(collector)


if __name__ == "__main__":
    main()
