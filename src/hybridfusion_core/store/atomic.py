"""Results that appear whole or not at all: built under hidden names, verified, then renamed.

Beside `NAME` there may stand `.NAME.part` (being written) and `.NAME.old` (the previous result,
between two renames). Both are cleaned up here, also those that a killed run left behind.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hybridfusion_core.errors import UserInputError


class Delivery:
    """One result made of several files or folders that belong together.

    Args:
        family: every path that a result of this name may have, the main one first. All of them are
            replaced together, so that no map of an older result stays beside a newer image.
        overwrite: replace an existing result.

    Raises:
        UserInputError: the folder is missing, or a result exists and may not be replaced.
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
        self._recover()
        existing = [path for path in family if _exists(path)]
        if existing and not overwrite:
            raise UserInputError(
                f"{existing[0]} exists already; expected a new name. Choose another name, or --overwrite "
                "(Python: overwrite=True)."
            )
        for path in family:
            _remove(part_path(path))

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
        """Remove everything that was built."""
        for path in self._family:
            _remove(part_path(path))

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

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._open = True

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
