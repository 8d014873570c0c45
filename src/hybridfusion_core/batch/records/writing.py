"""What the world outside does to an output while it is written: a full disk, a lack of rights, a read-only drive."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hybridfusion_core.errors import HybridFusionError, UserInputError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM}
_SHORT = re.compile(r"\d+ requested and \d+ written")  # NumPy says no more when a disk is full


def unwritable(error: BaseException | None, output: Path) -> str:
    """Say why an output cannot be written, if that is what an error means, however a library wrapped it.

    Args:
        error: that was raised while the output was written.
        output: the plate or the folder of files.

    Returns:
        What was found, what was expected and the cure; "" if the error means something else.
    """
    while error is not None:
        if isinstance(error, OSError):
            if error.errno in _FULL or _SHORT.fullmatch(str(error)):
                return (
                    f"There is no room left for {output} ({error}); expected enough for the results, their smaller "
                    "copies and records. What is finished is safe: free some space, and run the same command again."
                )
            if error.errno == errno.EROFS or (error.errno in _FORBIDDEN and _inside(error.filename, output)):
                return (
                    f"{error.filename or output} may not be written ({error.strerror}); expected the right to write to "
                    f"{output.parent}. Change its permissions, or choose another output."
                )
        error = error.__cause__ or error.__context__
    return ""


@contextmanager
def written(output: Path) -> Iterator[None]:
    """Explain why an output cannot be written.

    Raises:
        UserInputError: the disk is full, or the output may not be written.
    """
    try:
        yield
    except HybridFusionError:
        raise
    except Exception as error:
        reason = unwritable(error, output)
        if not reason:
            raise
        raise UserInputError(reason) from error


def _inside(name: object, output: Path) -> bool:
    return isinstance(name, str) and Path(name).absolute().is_relative_to(output.absolute().parent)
