"""What can be typed after `hybridfusion batch`. Imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from hybridfusion_core.cli.options import add_absent, add_scale, command, positive


def add_batch(commands: Any, add_choices: Callable[[argparse.ArgumentParser], Any]) -> None:
    """Add the command.

    Args:
        commands: to add it to.
        add_choices: adds how to fuse, as `fuse` has it, and returns that group.
    """
    parser = command(
        commands,
        "batch",
        "fuse every field of a plate or folder",
        "  hybridfusion batch screen7 screen7_fused.ome.zarr --dry-run\n"
        "  hybridfusion batch screen7 screen7_fused.ome.zarr --wells B02:C05,D07 --fields 1,3-5\n"
        "  hybridfusion batch screen7 screen7_fused.ome.zarr --only screen7_fused.hybridfusion/failures.csv\n"
        "  hybridfusion batch plate.czi plate_fused.ome.zarr\n"
        "  hybridfusion batch screen7 screen7_fused --format tiff --name '{well}_s{field}_w{channel}.tif'\n"
        "  hybridfusion batch scans out.ome.zarr --pattern '{row}{column}_f{field}_z{z}_c{channel}.tif' --workers 4\n"
        "  hybridfusion batch screen7 screen7_fused.ome.zarr --cluster slurm --cluster-config slurm.toml\n"
        "  hybridfusion batch screen7 screen7_fused.ome.zarr --shard $SLURM_ARRAY_TASK_ID/8\n"
        "The same command again resumes what was stopped or killed. Records, failures.csv, report.csv and report.html\n"
        "are in the folder NAME.hybridfusion beside OUTPUT.",
    )
    # The titles of the table in `plates`, which is not imported here; a test compares them.
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="OME-Zarr HCS 0.4 and 0.5, also behind s3:// and https:// (extra 'cloud'); "
        "folder of OME-TIFFs, one field or more in each; a microscope's own file or a folder of stacks, each file or "
        "subfolder of slices a field; names that --pattern "
        "describes; ImageXpress (MetaXpress); Yokogawa CV7000 and CV8000; and, written from documentation, since no "
        "real export of them has been read yet: Opera Phenix and Operetta (Harmony), ImageXpress HCS.ai (MetaXpress "
        "Acquire), Yokogawa CQ1 and CQ3K, Evident (Olympus) scanR, IN Cell Analyzer. The index file of a plate stands "
        "for its folder",
    )
    parser.add_argument(
        "output",
        metavar="OUTPUT",
        help="an .ome.zarr or .zarr, or a folder for the files of --format; on a disk, outside INPUT",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="only show what is there, what would be fused and fail, and the time and disk to expect",
    )
    which = parser.add_argument_group("Selection")
    which.add_argument(
        "--pattern",
        metavar="P",
        help="how the files are named: '{row}{column}_f{field}_t{time}_z{z}_c{channel}.tif', with {well} "
        "(a name or a number) in place of row and column, {plate}, and * for anything; or a regular expression with "
        "groups of these names. Without {z}, each file is a whole stack. With '/' in it, paths inside INPUT "
        "are compared",
    )
    which.add_argument("--wells", metavar="LIST", help="such as B02:C05,D07; a range is a rectangle (default: all)")
    which.add_argument("--fields", metavar="LIST", help="as the plate names them, such as 1,3-5 (default: all)")
    which.add_argument(
        "--times", metavar="LIST", help="indices from 0, such as 0:10 without the 10 itself (default: all)"
    )
    which.add_argument("--pilot", type=positive, metavar="N", help="only N wells, spread over the plate")
    which.add_argument(
        "--missing",
        choices=("fail", "drop"),
        default="fail",
        help="what becomes of fields with missing planes: they fail, or are fused without the slices of these planes, "
        "all others at their heights (default: fail)",
    )
    which.add_argument("--only", metavar="failures.csv", help="only what this list of an earlier batch names")
    how = add_choices(parser)
    how.add_argument(
        "--stats",
        choices=("plate", "well", "field"),
        default="plate",
        help="normalise all fields with statistics of the plate, so that empty and crowded ones are treated alike, "
        "with those of their well, or each with its own (default: plate)",
    )
    which.add_argument(
        "--shard",
        metavar="K/N",
        help="one of N jobs that share OUTPUT: every N-th well, from the K-th; the last one to end completes the plate",
    )
    cluster = parser.add_argument_group("Cluster")
    where = cluster.add_mutually_exclusive_group()
    where.add_argument(
        "--workers", type=positive, metavar="N", help="processes on this computer (default: as it has room for)"
    )
    where.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster, such as tcp://host:8786")
    where.add_argument("--scheduler-file", metavar="F", help="that `dask scheduler --scheduler-file F` wrote")
    where.add_argument(
        "--cluster",
        choices=("slurm", "pbs", "sge", "lsf"),
        help="submit workers as jobs of this queue (extra 'cluster')",
    )
    cluster.add_argument(
        "--cluster-config",
        metavar="FILE",
        help="TOML with what dask-jobqueue takes, such as queue, cores, memory and walltime, and maximum_jobs",
    )
    unsaid = parser.add_argument_group("What the files do not say")
    unsaid.add_argument("--axes", help="what the axes of stacks are, such as ZYX: plain TIFFs in a folder of stacks")
    add_absent(unsaid)
    add_scale(unsaid)
    form = parser.add_argument_group("Output")
    form.add_argument(
        "--format",
        choices=("ome-zarr", "ome-tiff", "tiff"),
        default="ome-zarr",
        help="an OME-Zarr plate, or files in the folder OUTPUT: OME-TIFF, or TIFF as ImageJ and CellProfiler read it, "
        "with load_data.csv for CellProfiler (default: ome-zarr)",
    )
    form.add_argument(
        "--name",
        metavar="TEMPLATE",
        help="how the files are named (default: '{plate}_{well}_T{t:04}F{field:03}C{channel:02}' and the suffix), of "
        "{plate}, {well}, {row}, {column}, {field}, {t} from 0, {channel} from 1 and {channel_name}. Without a "
        "channel in it, one file holds all of them",
    )
    form.add_argument(
        "--ngff", choices=("0.5", "0.4"), help="version of OME-Zarr; 0.4 is for older readers (default: 0.5)"
    )
    form.add_argument(
        "--stitch",
        choices=("none", "stage", "register"),
        default="none",
        help="also make one image of each whole well, OUTPUT/ROW/COLUMN/stitched beside its fields, and its maps: "
        "fields lie where the stage puts them, or where their overlaps fit (default: none)",
    )
    form.add_argument(
        "--overwrite",
        action="store_true",
        help="begin anew: the plate, its maps and the folder of records are removed, if a batch made them, once the "
        "first field of the new one is fused; a run that fails before gives them back",
    )
    form.add_argument(
        "--recheck", action="store_true", help="read what was fused before, and fuse again what is damaged or gone"
    )
    form.add_argument(
        "--finish", action="store_true", help="fuse nothing; bring metadata and reports up to date after --shard"
    )
