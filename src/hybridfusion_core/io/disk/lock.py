"""One writer at a time: a file that a process holds locked for as long as it writes an output.

The system frees the lock when its holder finishes, fails or is killed, so that no dead process keeps an output.

The library filelock was tried in place of this module and does less: it leaves the file beside the output when the lock
is released, and where a file system knows no locks it falls back to a marker that a killed process leaves behind.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from hybridfusion_core.errors import UserInputError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


class Lock:
    """Held from its making until `release`.

    Args:
        path: of the lock file, which is removed on release.
        guarded: what it guards, for the message.

    Raises:
        UserInputError: another output of this name is being written, by this or another process.
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path, guarded: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        while self._descriptor is None:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            if not _take(descriptor):
                os.close(descriptor)
                raise UserInputError(
                    f"{guarded} is being written by another process; expected one writer at a time. Wait for it, "
                    "stop it, or choose another name."
                )
            # Its last holder may have removed the file after it was opened here.
            if _is_at(descriptor, path):
                self._descriptor = descriptor
            else:
                os.close(descriptor)

    def release(self) -> None:
        """Let others write; may be called again."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        if sys.platform == "win32":
            os.close(descriptor)  # an open file cannot be removed there
        with suppress(OSError):
            self._path.unlink()
        if sys.platform != "win32":
            os.close(descriptor)

    def __del__(self) -> None:
        self.release()  # of a writer that was made only to see whether it may write


def _take(descriptor: int) -> bool:
    """Lock an open file; a file system that knows no locks lets everybody through."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
