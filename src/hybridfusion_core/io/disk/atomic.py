"""Files and results that appear whole or not at all: built under hidden names, verified, then renamed.

Beside `NAME` there may stand `.NAME.part` (being written), `.NAME.old` (the previous result,
between two renames) and `.NAME.lock`. They are cleaned up here, also those that a killed run left behind.
"""

from __future__ import annotations

import errno
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hybridfusion_core.errors import HybridFusionError, UserInputError
from hybridfusion_core.io.disk.access import system_error
from hybridfusion_core.io.disk.lock import Lock
from hybridfusion_core.io.result_spec import ResultSpec

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


class Delivery:
    """One result made of several files or folders that belong together.

    Args:
        family: every path that a result of this name may have, the main one first. All of them are
            replaced together, so that no map of an older result stays beside a newer image.
        overwrite: replace an existing result.

    Raises:
        UserInputError: the folder is missing or may not be written, a result exists and may not be replaced,
            or another process is writing one of this name.
    """

    def __init__(self, family: Sequence[Path], *, overwrite: bool) -> None:
        self.main = family[0]
        self._family = tuple(family)
        folder = self.main.parent
        if not folder.is_dir():
            raise UserInputError(
                f"The folder {folder} does not exist; expected an existing folder for the output {self.main.name}. "
                "Create it or choose another one."
            )
        with explained(self.main, creating=True):
            self._lock = Lock(self.main.with_name(f".{self.main.name}.lock"), self.main)
        try:
            self._recover()
            existing = [path for path in family if _exists(path)]
            if existing and not overwrite:
                raise UserInputError(
                    f"{existing[0]} exists already; expected a new name. Choose another name, or --overwrite "
                    "(Python: overwrite=True)."
                )
            for path in family:
                _remove(part_path(path))
        except BaseException:
            self._lock.release()
            raise

    def part(self, final: Path) -> Path:
        """Return where to build what will be called `final`."""
        if final not in self._family:
            raise ValueError(f"{final} is no part of the result {self.main}")
        return part_path(final)

    def remove_part(self, final: Path) -> None:
        """Remove what was built for `final`."""
        _remove(self.part(final))

    def publish(self) -> None:
        """Give every built part its final name, the main one last; on failure put the old result back."""
        try:
            for path in self._family:
                if _exists(path):
                    path.rename(_old_path(path))
                elif _exists(part_path(path)):
                    _old_path(path).touch()  # an empty file says that nothing was here before
            for path in reversed(self._family):
                if _exists(part_path(path)):
                    part_path(path).rename(path)
        except BaseException:
            self._restore()
            raise
        # The new result is whole; what cannot be removed now goes at the next start.
        with suppress(OSError):
            for path in self._family:
                _remove(_old_path(path))

    def discard(self) -> None:
        """Remove everything that was built, and let others write."""
        try:
            for path in self._family:
                _remove(part_path(path))
        finally:
            self._lock.release()

    def _recover(self) -> None:
        """Finish or undo a publication that was killed."""
        # The main path is moved away first and appears last.
        if not _exists(self.main):
            self._restore()
        for path in self._family:
            _remove(_old_path(path))

    def _restore(self) -> None:
        """Put everything that was moved aside back to its place."""
        for path in self._family:
            old = _old_path(path)
            if not _exists(old):
                continue
            _remove(path)
            if old.is_file() and old.stat().st_size == 0:
                old.unlink()
            else:
                old.rename(path)


class AtomicOutput(ABC):
    """What all outputs share: arrays to write into, and commit or nothing."""

    arrays: Mapping[str, Any]

    def __init__(self, delivery: Delivery, spec: ResultSpec) -> None:
        self._delivery = delivery
        self._spec = spec
        self._open = True

    def record(self, provenance: Mapping[str, Any]) -> None:
        """Replace what `commit` will write of how the result was made: more may be known than at the start."""
        self._spec = replace(self._spec, provenance=provenance)

    @abstractmethod
    def _finish(self) -> None:
        """Complete and verify the parts."""

    def commit(self) -> None:
        """Finish, verify and move everything to its final name.

        Raises:
            StoredDataError: what was read back is not what was written.
        """
        if not self._open:
            raise ValueError(f"the output {self._delivery.main} is closed")
        try:
            with explained(self._delivery.main):
                self._finish()
                self._delivery.publish()
        finally:
            self._close()

    def _close(self) -> None:
        self._open = False
        self._delivery.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open:
            self._close()
        if error is not None:
            with explained(self._delivery.main):
                raise error


def write_whole(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file that is there whole or not at all, whenever its writer is killed.

    Args:
        path: of the file.
        content: of it.
        durable: it is there after a power cut, too. That takes 5 to 30 ms; and pixels, which a record must not
            outlive, are not written so.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_path(path)
    try:
        with part.open("wb") as stream:
            stream.write(content)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


@contextmanager
def explained(path: Path, *, creating: bool = False) -> Iterator[None]:
    """Explain what the system said while an output was written.

    Args:
        path: the output.
        creating: nothing but the output was touched, so that a lack of rights concerns it.

    Raises:
        UserInputError: the disk is full; or, creating, the output may not be written or its name is too long.
    """
    try:
        yield
    except HybridFusionError:
        raise
    except Exception as error:
        reason = system_error(error)
        code = None if reason is None else reason.errno
        if code in _FULL:
            raise UserInputError(
                f"There is no room left for {path} ({reason}); expected enough for the result and its smaller copies. "
                "Nothing was left behind and the input is untouched: free some space, or write to another disk."
            ) from error
        if creating and code in _FORBIDDEN:
            raise UserInputError(
                f"The folder {path.parent} may not be written ({reason}); expected the right to. Change its "
                f"permissions, or write {path.name} to another folder."
            ) from error
        if creating and code == errno.ENAMETOOLONG:
            raise UserInputError(
                f"The name {path.name!r} is too long for this disk ({len(path.name.encode())} bytes); expected some "
                "20 fewer than it allows, for hidden files beside it. Choose a shorter one."
            ) from error
        raise


def part_path(path: Path) -> Path:
    """Return the hidden name under which `path` is built."""
    return path.with_name(f".{path.name}.part")


def _old_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
