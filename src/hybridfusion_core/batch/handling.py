"""What is done with an output that is there already: resumed, checked, or set aside to begin anew."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hybridfusion_core.batch.records.finished import with_stored_name
from hybridfusion_core.batch.records.paths import BatchPaths
from hybridfusion_core.errors import UserInputError
from hybridfusion_core.plates.plate import Plate, PlateField

_COMPLETE = "complete"  # marks that all of it was set aside


@dataclass(frozen=True)
class Handling:
    """What is done with an output that is there already.

    Attributes:
        overwrite: begin anew: the plate, its maps and the folder of records are removed, if a batch made them, once
            the first field of the new plate is fused.
        recheck: read what was fused before, and fuse again what is damaged.
    """

    overwrite: bool = False
    recheck: bool = False


RESUME = Handling()


def as_stored(plate: Plate, units: Sequence[PlateField], paths: BatchPaths) -> tuple[Plate, Sequence[PlateField]]:
    """Call a plate as it was called when the batch began, if only its folder was renamed."""
    renamed = with_stored_name(plate, paths)
    if renamed is plate:
        return plate, units
    chosen = {(unit.well, unit.field, unit.t) for unit in units}
    return renamed, [unit for unit in renamed.fields() if (unit.well, unit.field, unit.t) in chosen]


class SetAside:
    """What an earlier batch left at an output, out of the way until the first field of the new one is there.

    A run that fails before puts it back. It lies in the folder of records, so that nothing is copied, and one that is
    killed leaves it there for `recover`.

    Args:
        paths: of the batch; its lock is held.
    """

    def __init__(self, paths: BatchPaths) -> None:
        self._paths, self._folder = paths, _aside(paths)
        (self._folder / "records").mkdir(parents=True)
        for name, path in _results(paths).items():
            if path.is_dir():
                path.rename(self._folder / name)
        for each in _records(paths):
            each.rename(self._folder / "records" / each.name)
        (self._folder / _COMPLETE).touch()

    @property
    def is_there(self) -> bool:
        """Whether it was not dropped yet."""
        return self._folder.is_dir()

    def drop(self) -> None:
        """Remove it: something new is there."""
        # Without the mark first, a run that is killed in between would put half of it back.
        shutil.rmtree(self._folder.rename(self._folder.with_name("dropped")))

    def restore(self) -> None:
        """Put it back, in place of what the new run wrote."""
        _restore(self._paths)


def recover(paths: BatchPaths) -> None:
    """Put back what a run that was killed had set aside, unless it had fused a field.

    Args:
        paths: of the batch; its lock is held.

    Raises:
        UserInputError: several shards may be about to do so.
    """
    aside = _aside(paths)
    if paths.shard and aside.is_dir():
        raise UserInputError(
            f"A run with --overwrite was ended before its first field, and what it was to replace lies in {aside}; "
            "expected one run of the whole to put it back, before shards share the output. Run the batch with --finish "
            "once, then the shards."
        )
    if not paths.shard:
        shutil.rmtree(paths.folder / "dropped", ignore_errors=True)
    if aside.is_dir():
        _restore(paths)


def _restore(paths: BatchPaths) -> None:
    aside = _aside(paths)
    whole = (aside / _COMPLETE).exists()  # otherwise what was not moved yet is still the old
    for each in _records(paths) if whole else ():
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    for each in sorted((aside / "records").iterdir()):
        each.rename(paths.folder / each.name)
    for name, path in _results(paths).items():
        if whole and path.is_dir():
            shutil.rmtree(path)
        if (aside / name).is_dir():
            (aside / name).rename(path)
    shutil.rmtree(aside)


def _aside(paths: BatchPaths) -> Path:
    return paths.folder / "before"


def _results(paths: BatchPaths) -> dict[str, Path]:
    return {"output": paths.output} if paths.maps == paths.output else {"maps": paths.maps, "output": paths.output}


def _records(paths: BatchPaths) -> list[Path]:
    """Return all that lies in the folder of records but for the lock and what was set aside."""
    return [each for each in sorted(paths.folder.iterdir()) if each not in (paths.lock, _aside(paths))]
