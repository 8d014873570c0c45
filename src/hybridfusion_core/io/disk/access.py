"""Whether what is named can be read at all: it is there, a file or folder, permitted, and its drive answers."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hybridfusion_core.errors import HybridFusionError, StoredDataError, UserInputError

PATIENCE = 30.0  # s that a drive may take to look a path up and to open it
_FORBIDDEN = {errno.EACCES, errno.EPERM}
_GONE_NAMES = (
    "EIO",
    "ESTALE",
    "ENOTCONN",
    "ETIMEDOUT",
    "EHOSTDOWN",
    "EHOSTUNREACH",
    "ENETDOWN",
    "ENETUNREACH",
    "ENODEV",
)
_GONE = {getattr(errno, name) for name in _GONE_NAMES if hasattr(errno, name)}  # not every system has all of them


def existing(path: Path, expected: str) -> Path:
    """Check that a path leads to a file or folder that may be read; no pixel is read.

    A drive that hangs would hold its caller for ever: it is asked by a thread of its own.

    Args:
        path: as the user typed it.
        expected: what should be there, for the messages.

    Raises:
        UserInputError: nothing is there, or a pipe, a socket or a device; it may not be read; or its drive has not
            answered within `PATIENCE`.
    """
    failures: list[Exception] = []

    def ask() -> None:
        try:
            _touch(path, expected)
        except Exception as error:
            failures.append(error)

    asker = threading.Thread(target=ask, daemon=True)
    asker.start()
    asker.join(PATIENCE)
    if asker.is_alive():
        raise UserInputError(
            f"{path} has not answered for {PATIENCE:g} s; expected {expected}, on a drive that answers. Check the "
            "connection of the network drive, or copy the image to this computer."
        )
    for failure in failures:
        raise failure
    return path


def _touch(path: Path, expected: str) -> None:
    try:
        with permitted(path):
            found = path.exists()
    except HybridFusionError:
        raise
    except (OSError, ValueError) as error:  # a loop of links, a name with NUL or of a thousand bytes
        raise UserInputError(f"{str(path)!r} cannot be looked up ({error}); expected {expected}. Check it.") from error
    if not found:
        raise UserInputError(f"{path} does not exist; expected {expected}. Check the spelling and the folder.")
    if not (path.is_file() or path.is_dir()):
        raise UserInputError(
            f"{path} is a pipe, a socket or a device; expected {expected}, because reading anything else may wait "
            "forever. Save the image to a file first."
        )
    with permitted(path):
        if path.is_file():
            path.open("rb").close()
        else:
            os.scandir(path).close()
            # A folder may be listed and not entered; `Path` drops the dot that asks for it.
            os.stat(f"{path}{os.sep}{os.curdir}")  # noqa: PTH116


@contextmanager
def guarded(found: str, expected: str) -> Iterator[None]:
    """Explain whatever error a library raises on a file, which may be damaged or hostile in any way.

    Args:
        found: the file, and what it seems to be.
        expected: what it should be, and the cure.

    Raises:
        UserInputError: it may not be read, or its drive fails.
        StoredDataError: anything else went wrong.
    """
    try:
        with permitted():
            yield
    except HybridFusionError:
        raise
    except Exception as error:
        raise StoredDataError(f"{found} ({type(error).__name__}: {error}); expected {expected}") from error


@contextmanager
def permitted(path: Path | None = None) -> Iterator[None]:
    """Explain when the system does not let a file be read; all else passes.

    Args:
        path: what is read, for a system that does not say.

    Raises:
        UserInputError: it may not be read, or its drive fails.
    """
    try:
        yield
    except HybridFusionError:
        raise
    except Exception as error:
        reason = system_error(error)
        if reason is None or reason.errno not in _FORBIDDEN | _GONE:
            raise
        where = reason.filename or path or "A file"
        if reason.errno in _FORBIDDEN:
            raise UserInputError(
                f"{where} may not be read ({reason.strerror}); expected the right to read it and to enter its folder. "
                "Change its permissions, or copy it to where you may read it."
            ) from error
        raise UserInputError(
            f"{where} cannot be reached ({reason.strerror}); expected a drive that answers. Check the drive and its "
            "connection, or copy the image to this computer."
        ) from error


def system_error(error: BaseException | None) -> OSError | None:
    """Return what the system said, however a library wrapped it."""
    while error is not None and not (isinstance(error, OSError) and error.errno is not None):
        error = error.__cause__ or error.__context__
    return error
