"""The output that `--overwrite` replaces: set aside when the new run begins, and gone once that has fused a field.

It stands in `.NAME.old` beside the output meanwhile. A run that fuses nothing, because it is refused, stopped or killed
before, gives it back; a batch that is killed later is resumed as any other.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from hybridfusion_core.batch.records.paths import BatchPaths


class EarlierOutput:
    """What a batch has left at an output: the plate, its maps and the records; its lock is held, and stays.

    Args:
        paths: of the batch. What a run that was killed has set aside is given back at once.
    """

    def __init__(self, paths: BatchPaths) -> None:
        self._paths = paths
        self._aside = paths.output.with_name(f".{paths.output.name}.old")
        self._gone = paths.output.with_name(f".{paths.output.name}.gone")
        shutil.rmtree(self._gone, ignore_errors=True)
        self.restore()

    def set_aside(self) -> None:
        """Make room for a new output."""
        records = self._aside / "records"
        records.mkdir(parents=True)
        for each in self._records():
            each.rename(records / each.name)
        # The plate last: where it is, all of it is.
        for path in reversed(self._plates()):
            if path.exists() or path.is_symlink():
                path.rename(self._aside / path.name)

    def forget(self) -> None:
        """Remove what was set aside, for good."""
        if self._aside.is_dir():
            self._aside.rename(self._gone)  # at once: nobody takes half of it for the whole
            shutil.rmtree(self._gone, ignore_errors=True)

    def restore(self) -> bool:
        """Put what was set aside back in the place of what is there now; says whether there was something."""
        if not self._aside.is_dir():
            return False
        whole = (self._aside / self._paths.output.name).exists()
        for path in self._plates():
            old = self._aside / path.name
            if whole or old.exists() or old.is_symlink():
                _remove(path)
            if old.exists() or old.is_symlink():
                old.rename(path)
        for each in self._records() if whole else ():
            _remove(each)
        self._paths.folder.mkdir(exist_ok=True)
        for each in (self._aside / "records").iterdir():
            _remove(self._paths.folder / each.name)
            each.rename(self._paths.folder / each.name)
        shutil.rmtree(self._aside)
        return whole

    def _plates(self) -> list[Path]:
        return list(dict.fromkeys((self._paths.output, self._paths.maps)))

    def _records(self) -> list[Path]:
        return [each for each in self._paths.folder.iterdir() if each != self._paths.lock]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError):
            path.unlink()
