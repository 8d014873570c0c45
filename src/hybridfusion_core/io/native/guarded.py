"""A native file that is read by another process, within bounds of time and memory.

Measured with copies of real files that were cut short or had bits flipped: a ring of sectors in an OIB is followed
for ever, and a CZI may ask for memory that no computer has.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.errors import StoredDataError, UserInputError
from hybridfusion_core.io.native.formats import NativeFormat, check_installed
from hybridfusion_core.io.native.messages import from_json
from hybridfusion_core.io.native.scene import Scene

PATIENCE = 60.0  # s that a library may take to open a file, and to read a region of little more than nothing
_SLOWEST = 2**20  # bytes per second of a drive that is still waited for
_LONGEST = 64 * 2**20  # bytes of an answer's first line
_KEPT = 2  # processes that wait for the next file
_idle: list[_Process] = []
_lock = threading.Lock()


class GuardedReader:
    """A native file, by the process that opened it; see `NativeReader`.

    Args:
        path: of the file.

    Raises:
        UserInputError: its library is not installed.
        StoredDataError: the library cannot read it, does not come to an end, takes too much memory or crashes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kind = check_installed(path)
        self._process = _taken()
        # A layer of a viewer is never closed: the process ends with it.
        self._end = weakref.finalize(self, _give_back, self._process)
        head, _ = self._ask({"do": "open", "path": str(path.absolute())}, PATIENCE)
        try:
            self.scenes: tuple[Scene, ...] = tuple(from_json(each) for each in head["scenes"])
            self.companions: tuple[str, ...] = tuple(str(each) for each in head["companions"])
            self.warnings: tuple[str, ...] = tuple(f"{self._kind.library}: {each}" for each in head["warnings"])
        except (LookupError, TypeError, ValueError) as error:
            raise self._unreadable(f"{type(error).__name__}: {error}") from error

    def read(self, scene: int, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        """Read a region of one slice; see `NativeReader`."""
        about = self.scenes[scene]
        rows, columns = about.shape[3:]
        asked = {"scene": scene, "t": t, "z": z, "channels": list(channels)}
        region = {"y": [y.start, y.stop], "x": [x.start, x.stop]}
        most = len(channels) * rows * columns * np.dtype(about.dtype).itemsize
        head, pixels = self._ask({"do": "read", **asked, **region}, PATIENCE + most / _SLOWEST, most)
        return np.frombuffer(pixels, np.dtype(head["dtype"])).reshape(head["shape"])

    def close(self) -> None:
        """Close the file."""
        self._end()

    def _ask(self, asked: Mapping[str, Any], patience: float, most: int = 0) -> tuple[dict[str, Any], bytes]:
        try:
            head, pixels = self._process.ask(asked, patience, most)
        except TimeoutError:
            raise self._unreadable(f"its library, {self._kind.library}, took longer than {patience:.0f} s") from None
        except (EOFError, OSError, ValueError):
            raise self._unreadable(f"its library, {self._kind.library}, crashed") from None
        if "error" in head:
            raise self._unreadable(str(head["error"]))
        return head, pixels

    def _unreadable(self, why: str) -> StoredDataError:
        return unreadable(self._path, self._kind, why)


def unreadable(path: Path, kind: NativeFormat, why: str) -> StoredDataError:
    """Return the refusal of a file that its library cannot read."""
    return StoredDataError(
        f"{path.name}: this is no readable {kind.title} file ({why}); expected an intact one. It is cut short, damaged "
        "or something else under that name: copy it again, or export it as OME-TIFF."
    )


class _Process:
    """One process that runs `serve`."""

    def __init__(self) -> None:
        self.parent = os.getpid()
        self.sound = True
        # The same packages as here; one thread, since what it does is read.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
        environment |= {f"{each}_NUM_THREADS": "1" for each in ("OMP", "OPENBLAS", "MKL")}
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "hybridfusion_core.io.native.serve"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        except OSError as error:
            raise UserInputError(
                f"The process that reads microscopes' files cannot be started ({error}); expected a computer that "
                "lets one more process run. Close other programs."
            ) from error

    def ask(self, asked: Mapping[str, Any], patience: float, most: int) -> tuple[dict[str, Any], bytes]:
        """Ask and wait for the answer.

        Raises:
            TimeoutError: there was none in time; the process is ended.
            EOFError, OSError, ValueError: the process ended, or answered nonsense.
        """
        assert self._child.stdin is not None  # noqa: S101  (for mypy: they are pipes)
        assert self._child.stdout is not None  # noqa: S101
        late = threading.Event()

        def stop() -> None:
            late.set()
            self._child.kill()

        watch = threading.Timer(patience, stop)
        watch.daemon = True
        watch.start()
        self.sound = False
        try:
            self._child.stdin.write(json.dumps(asked).encode() + b"\n")
            self._child.stdin.flush()
            head = json.loads(self._child.stdout.readline(_LONGEST) or b"null")
            if not isinstance(head, dict):
                raise EOFError
            length = int(head.get("bytes", 0))
            pixels = self._child.stdout.read(length) if 0 <= length <= most else b""
            if len(pixels) != length:
                raise EOFError
        except (EOFError, OSError, ValueError):
            self.end()
            if late.is_set():
                raise TimeoutError from None
            raise
        finally:
            watch.cancel()
        self.sound = True
        return head, pixels

    def end(self) -> None:
        """End the process and wait until it is gone."""
        self.sound = False
        self._child.kill()
        for pipe in (self._child.stdin, self._child.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self._child.wait()


def _taken() -> _Process:
    """Return a process that waits, or a new one: it takes half a second of computing to start."""
    with _lock:
        while _idle:
            process = _idle.pop()
            if process.parent == os.getpid():
                return process
    return _Process()


def _give_back(process: _Process) -> None:
    if process.parent != os.getpid():
        return
    if process.sound:
        with suppress(EOFError, OSError, ValueError):
            process.ask({"do": "close"}, PATIENCE, 0)
    with _lock:
        if process.sound and len(_idle) < _KEPT:
            _idle.append(process)
            return
    process.end()


@atexit.register
def end_idle() -> None:
    """End the processes that wait."""
    with _lock:
        for process in _idle:
            if process.parent == os.getpid():
                process.end()
        _idle.clear()
