"""Parsers of what is done with a height map: `project` and `measure`. Imports nothing heavy."""

from __future__ import annotations

import argparse
from typing import Any

from hybridfusion_core.cli.options import add_choice, add_file_facts, command, names
from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.request import FuseRequest, Prefer, SurfaceFrom

HOWS = ("max", "mean", "sum", "median", "stack")


def add_planes(parser: argparse.ArgumentParser) -> None:
    """Add which surfaces, or which planes, a fusion gives."""
    group = parser.add_argument_group("Surfaces and slabs")
    add_choice(
        group,
        "--surface-from",
        SurfaceFrom,
        FuseRequest.surface_from,
        "posterior finds a smooth surface through what is in focus, and fuses along it (takes about twice the time)",
    )
    group.add_argument(
        "--smooth",
        type=float,
        default=FuseRequest.smooth,
        metavar="S",
        help="how smooth that surface is; 0 takes every 4 × 4 pixels for themselves (default: 1)",
    )
    add_choice(
        group,
        "--prefer",
        Prefer,
        FuseRequest.prefer,
        "which surface, where something is in focus at several heights; top is the greatest height",
    )
    group.add_argument(
        "--surfaces",
        type=int,
        choices=(1, 2),
        default=FuseRequest.surfaces,
        help="2 gives the top and the bottom of hollow things, as two planes along Z (default: 1)",
    )
    group.add_argument(
        "--channel-offset",
        action="append",
        metavar="auto|NAME:UM",
        help="where a channel is in focus beside the one that decides (--focus-from NAME); auto measures it; NAME:UM "
        "may be given several times (default: at the same height)",
    )
    group.add_argument(
        "--project",
        action="append",
        metavar="NAME:OFFSET:THICKNESS:HOW",
        help="read a channel along the height that is found instead of fusing it, in µm, such as membrane:-5:4:max; "
        "NAME may be * for all others; may be given several times",
    )
    group.add_argument(
        "--slab",
        metavar="N[:OVERLAP]",
        help="fuse every N slices into one, so that the result is a stack again (default: all into one)",
    )


def add_project(commands: Any) -> None:
    """Add `project`."""
    parser = command(
        commands,
        "project",
        "read every channel of a stack along a height map, at, above or below it",
        "  hybridfusion project organoid.ome.tif --surface organoid_fused.ome.zarr -o around.ome.zarr --thickness 4\n"
        "  hybridfusion project organoid.ome.tif --surface heights.tif -o membrane.ome.tif --channels membrane "
        "--offset -5",
    )
    parser.add_argument("input", nargs="+", metavar="STACK", help="as for fuse")
    parser.add_argument(
        "--surface",
        required=True,
        metavar="HEIGHT",
        help="what fuse wrote, corrected or not, or another program's heights as a float TIFF: µm on the stack's own "
        "z positions, or slices counted from 0",
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="its suffix chooses the format, as in fuse"
    )
    where = parser.add_argument_group("Where")
    where.add_argument("--offset", type=float, default=0.0, metavar="UM", help="from the surface (default: 0)")
    where.add_argument(
        "--thickness", type=float, default=0.0, metavar="UM", help="of the slab around that place (default: 0, a sheet)"
    )
    where.add_argument("--how", choices=HOWS, default="max", help="what becomes of the slab (default: max)")
    where.add_argument(
        "--channel",
        action="append",
        type=_channel,
        default=[],
        metavar="NAME:OFFSET:THICKNESS:HOW",
        help="another place for one channel, such as DAPI:0:4:max; may be given several times",
    )
    where.add_argument("--channels", type=names, metavar="LIST", help="names or indices to project (default: all)")
    where.add_argument(
        "--fill",
        choices=("0", "nan"),
        default="0",
        help="what stands where there is no height, or no slice; nan makes the image float32 (default: 0)",
    )
    heights = parser.add_argument_group("What the heights do not say")
    heights.add_argument("--height-unit", choices=("um", "slices"), help="default: as stated, else um")
    heights.add_argument("--map", metavar="NAME", help="which map, where a file has several heights")
    heights.add_argument("--sheet", type=int, metavar="N", help="which surface, where there are two: 1 or 2")
    heights.add_argument(
        "--other-stack", action="store_true", help="they were found in another file of the same field and slices"
    )
    add_file_facts(parser)
    output = parser.add_argument_group("Output")
    output.add_argument("--ngff", choices=("0.5", "0.4"), default="0.5", help="version of OME-Zarr (default: 0.5)")
    output.add_argument("--checksum", action="store_true", help="record the sha256 of the input")
    output.add_argument("--overwrite", action="store_true", help="replace OUT once the new one is complete")


def add_measure(commands: Any) -> None:
    """Add `measure`."""
    parser = command(
        commands,
        "measure",
        "measure the labels of a segmented result in three dimensions",
        "  hybridfusion measure organoid_fused.ome.zarr --labels nuclei.tif -o nuclei.csv\n"
        "  hybridfusion measure organoid_fused.ome.zarr --labels nuclei.tif -o nuclei.zarr --mesh organoid.ply",
    )
    parser.add_argument("input", metavar="RESULT", help="what fuse wrote, with its maps beside it")
    parser.add_argument("--labels", required=True, metavar="LABELS", help="integers of the same plane; 0 is background")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="TABLE",
        help=".csv, or .zarr for a table of OME-Zarr as ngio reads it, to be put into `tables` of an image",
    )
    parser.add_argument("--sheet", type=int, metavar="N", help="which surface, where there are two: 1 or 2")
    parser.add_argument("--mesh", metavar="FILE", help="also write the height in µm as .ply, .obj or .stl")
    parser.add_argument("--overwrite", action="store_true", help="replace TABLE and the mesh")


def _channel(text: str) -> tuple[str, tuple[float, float, str]]:
    parts = text.rsplit(":", 3)
    try:
        name, offset, thickness, how = parts
        if how not in HOWS:
            raise UserInputError(how)
        return name, (float(offset), float(thickness), how)
    except (ValueError, UserInputError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not NAME:OFFSET:THICKNESS:HOW, such as DAPI:0:4:max, with HOW one of {', '.join(HOWS)}"
        ) from None
