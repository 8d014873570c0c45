"""Open a native file as a `Stack`, or list its scenes."""

from __future__ import annotations

from pathlib import Path

from hybridfusion_core.errors import StoredDataError, UserInputError
from hybridfusion_core.io.native.guarded import GuardedReader
from hybridfusion_core.io.native.planes import ScenePlanes
from hybridfusion_core.io.native.scene import Scene
from hybridfusion_core.io.region import RegionView
from hybridfusion_core.io.series import chosen_series
from hybridfusion_core.io.suffixes import image_name
from hybridfusion_core.stack import SUPPORTED_DTYPES, Stack


def open_native(path: Path, axes: str | None = None, series: str | int | None = None) -> Stack:
    """Open one scene; nothing but metadata is read.

    Args:
        path: of the file.
        axes: must be None, since such files say it themselves.
        series: index or name of the scene, for a file with several.

    Raises:
        UserInputError: its library is not installed, axes were given, or the file has several scenes and none was
            chosen.
        StoredDataError: the file is damaged, or the scene is no stack.
    """
    if axes is not None:
        raise UserInputError(
            f"{path.name} says itself what its axes are; --axes {axes} (axes=) was given. Expected none: leave it out."
        )
    reader = GuardedReader(path)
    try:
        return _stack(path, reader, series)
    except BaseException:
        reader.close()
        raise


def native_scenes(path: Path) -> tuple[Scene, ...]:
    """Describe all scenes of a file.

    Raises:
        UserInputError: its library is not installed.
        StoredDataError: the file is damaged.
    """
    reader = GuardedReader(path)
    reader.close()
    return reader.scenes


def _stack(path: Path, reader: GuardedReader, series: str | int | None) -> Stack:
    scenes = reader.scenes
    if not scenes:
        raise StoredDataError(f"{path.name} holds no image; expected one at least. Export it again.")
    index = chosen_series([each.about.name for each in scenes], [each.shape for each in scenes], series, path.name)
    scene = scenes[index]
    several = len(scenes) > 1
    name = f"{image_name(path)} {scene.about.name or index}" if several else image_name(path)
    which = f"{path.name}, {scene.about.name or index!r}" if several else path.name
    if scene.problem:
        raise StoredDataError(f"{which}: {scene.problem}.")
    if scene.dtype not in SUPPORTED_DTYPES:
        raise UserInputError(
            f"{which}: pixels are {scene.dtype}; expected one of {', '.join(SUPPORTED_DTYPES)}. Export it so."
        )
    about = scene.about
    return Stack(
        array=RegionView(ScenePlanes(reader, index), "TCZYX", path.name),
        axes="TCZYX",
        name=name,
        channels=about.channels if len(about.channels) == scene.shape[1] else (),
        t=about.t,
        z=about.z,
        y=about.y,
        x=about.x,
        z_positions_um=_positions(scene),
        rgb=scene.rgb,
        na=about.na,
        objective=scene.objective,
        source=reader.companions,
        warnings=(*about.warnings, *reader.warnings),
        decode_unit=scene.decode_unit,
        closers=(reader.close,),
    )


def _positions(scene: Scene) -> tuple[float, ...] | None:
    positions = scene.about.z_positions_um
    return positions if positions is not None and len(positions) == scene.shape[2] else None
