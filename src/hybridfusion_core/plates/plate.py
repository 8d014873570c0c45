"""What a plate is: wells, fields, time points, and for each of them its planes or what is wrong with it.

A description knows names and numbers only; no file is open and no pixel was read. All of it is frozen and pickles
small, so that a task on another computer is handed one `PlateField` and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from hybridfusion_core.stack import Axis, Channel

DefectKind = Literal["missing", "failed", "duplicate", "refused"]
_UNKNOWN = Axis()


@dataclass(frozen=True, slots=True)
class Plane:
    """One slice of one channel in a file of its own.

    Attributes:
        file: path inside the plate's folder, with "/".
        z: its number as written.
        z_um: its height in µm, or None if the metadata do not say.
    """

    file: str
    z: int
    z_um: float | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """An image that holds all slices and channels of a field, and perhaps all its time points.

    Attributes:
        path: of a file or OME-Zarr image inside the plate's folder, with "/"; "" for the folder itself.
        series: index of the image in a file that holds several.
        t: index of the time point in the image.
        axes: what its axes are, if the user had to say it.
    """

    path: str
    series: int | None = None
    t: int = 0
    axes: str | None = None


@dataclass(frozen=True, slots=True)
class Defect:
    """Why a field cannot be fused at one time point.

    Attributes:
        kind: "missing" planes, planes that the microscope says have "failed", "duplicate" planes, or files that are
            "refused" because they lie outside the plate.
        message: what was found, what was expected, what to do about it.
        channel: index of the channel that it concerns, or None if it concerns all.
    """

    kind: DefectKind
    message: str
    channel: int | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """One time point of a field.

    Attributes:
        time: as written.
        slices: Z of every channel of the plate; 0 where a channel was not imaged.
        planes: of every channel in order of z, when each plane has a file of its own.
        image: where all of it is, when one image holds it.
        images: where every channel is, when each has an image of its own; `path` is "" for one that is missing.
        defects: what is wrong with it; a frame with defects has holes in `planes`.
        dropped: numbers of slices that are left out of `planes`, because planes of them are missing.
        not_acquired: indices of channels that are fused at other time points, and that no field has at this one.
    """

    time: str
    slices: tuple[int, ...]
    planes: tuple[tuple[Plane, ...], ...] = ()
    image: Image | None = None
    images: tuple[Image, ...] = ()
    defects: tuple[Defect, ...] = ()
    dropped: tuple[int, ...] = ()
    not_acquired: tuple[int, ...] = ()

    @property
    def files(self) -> frozenset[str]:
        """Everything that it consists of, as paths in the plate's folder."""
        images = (*((self.image,) if self.image is not None else ()), *self.images)
        planes = (plane.file for planes in self.planes for plane in planes)
        return frozenset((*(image.path for image in images if image.path or not self.images), *planes))


@dataclass(frozen=True, slots=True)
class Field:
    """One position of a well.

    Attributes:
        name: as written, without leading zeros if it is a number.
        frames: its time points, in order.
        position_um: of its centre on the stage, y and x in µm, both in the direction in which the pixels of an image
            are counted; of its first pixel for OME-Zarr; or None.
        z_um: of its first slice, where the metadata state a translation along z, or None.
        acquisition: id of the acquisition that it belongs to, or None.
    """

    name: str
    frames: tuple[Frame, ...]
    position_um: tuple[float, float] | None = None
    z_um: float | None = None
    acquisition: int | None = None


@dataclass(frozen=True, slots=True)
class Well:
    """One well.

    Attributes:
        row: as written, such as "B".
        column: as written, such as "02".
        row_index: counted from 0.
        column_index: counted from 0.
        fields: in natural order.
    """

    row: str
    column: str
    row_index: int
    column_index: int
    fields: tuple[Field, ...]

    @property
    def name(self) -> str:
        """Row and column as written, such as "B02"."""
        return f"{self.row}{self.column}"


@dataclass(frozen=True, slots=True)
class Acquisition:
    """One run of the microscope over the plate."""

    id: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Projection:
    """What the microscope itself made of a stack: a projection along z, kept as a reference.

    Attributes:
        row_index: of the well, from 0.
        column_index: of the well, from 0.
        field: name of the field.
        time: of the frame, as written.
        channel: index of the channel.
        file: path inside the plate's folder, with "/".
    """

    row_index: int
    column_index: int
    field: str
    time: str
    channel: int
    file: str


@dataclass(frozen=True)
class Imaging:
    """What all fields of a plate have in common.

    Attributes:
        channels: in order of their numbers.
        plane: lengths Y and X in pixels, or None if no header could be read.
        dtype: name of the pixel type, or None if no header could be read.
        rgb: the three channels are the colours of one image.
        t, z, y, x: physical steps.
    """

    channels: tuple[Channel, ...]
    plane: tuple[int, int] | None = None
    dtype: str | None = None
    rgb: bool = False
    t: Axis = _UNKNOWN
    z: Axis = _UNKNOWN
    y: Axis = _UNKNOWN
    x: Axis = _UNKNOWN


@dataclass(frozen=True, slots=True)
class PlateField:
    """One field at one time point: what one task fuses, with all that it needs to know.

    Attributes:
        folder: of the plate; `Plane.file` and `Image.path` lie in it.
        plate: name of the plate.
        row: of the well, as written.
        column: of the well, as written.
        field: name of the field.
        t: index of the time point among those of the field, from 0.
        frame: what is there.
        imaging: what all fields have in common.
    """

    folder: str
    plate: str
    row: str
    column: str
    field: str
    t: int
    frame: Frame
    imaging: Imaging

    @property
    def well(self) -> str:
        """Row and column as written, such as "B02"."""
        return f"{self.row}{self.column}"

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return f"{self.well} field {self.field} time {self.t}"


@dataclass(frozen=True)
class Plate:
    """A plate, or a folder of stacks.

    Attributes:
        folder: that holds everything, absolute.
        layout: name of the layout in `LAYOUTS`.
        name: of the plate.
        wells: in order of rows, then columns.
        imaging: what all fields have in common.
        rows: of the plate, used or not.
        columns: of the plate, used or not.
        row_names: of all rows that the metadata list; empty if they list none.
        column_names: of all columns that the metadata list.
        acquisitions: runs of the microscope, if the metadata tell them apart.
        projections: that the microscope made of the stacks; none of the planes.
        metadata: files that describe the plate, as they were found.
        warnings: what the user should know about this plate.
        file: name in the folder of the one file that is all of it; "" if the folder is.
    """

    folder: str
    layout: str
    name: str
    wells: tuple[Well, ...]
    imaging: Imaging
    rows: int
    columns: int
    row_names: tuple[str, ...] = ()
    column_names: tuple[str, ...] = ()
    acquisitions: tuple[Acquisition, ...] = ()
    projections: tuple[Projection, ...] = ()
    metadata: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    file: str = ""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Paths that no output may replace or lie in."""
        return (f"{self.folder}/{self.file}", f"{self.folder}/{self.file}.files") if self.file else (self.folder,)

    def fields(self) -> Iterator[PlateField]:
        """Yield every field at every time point, in order of wells, fields and times."""
        for well in self.wells:
            for field in well.fields:
                for t, frame in enumerate(field.frames):
                    yield PlateField(self.folder, self.name, well.row, well.column, field.name, t, frame, self.imaging)
