"""What can be typed. Imports nothing heavy: `--help` answers at once."""

from __future__ import annotations

import argparse
from importlib.metadata import version
from typing import Any

from hybridfusion_core.cli.model_parsers import add_finetune, add_models
from hybridfusion_core.cli.options import (
    EXIT_STATUS,
    add_choice,
    add_device,
    add_file_facts,
    add_memory,
    add_model,
    add_scale,
    camera,
    command,
    names,
    positive,
)
from hybridfusion_core.fusion.methods import METHODS
from hybridfusion_core.fusion.products import PRODUCTS, default_products
from hybridfusion_core.fusion.request import FuseRequest, Nan, Precision, Select


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of every command; `command` names the function in `commands`."""
    parser = argparse.ArgumentParser(
        prog="hybridfusion",
        description="Fuse focal stacks into one sharp image, with the decision mask, height and confidence behind it.",
        epilog=f"hybridfusion COMMAND --help explains each command with an example.\n\n{EXIT_STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('napari-hybridfusion')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    _add_fuse(commands)
    _add_batch(commands)
    _add_info(commands)
    _add_verify(commands)
    _add_sample(commands)
    add_models(commands)
    add_finetune(commands)
    _add_train(commands)
    _add_evaluate(commands)
    return parser


def _add_fuse(commands: Any) -> None:
    parser = command(
        commands,
        "fuse",
        "fuse one focal stack into one sharp image",
        "  hybridfusion fuse organoid.ome.tif -o organoid_fused.ome.zarr --focus-from DAPI --preview organoid.png\n"
        "  hybridfusion fuse near.png far.png -o sharp.png --select hard",
    )
    parser.add_argument(
        "input",
        nargs="+",
        metavar="INPUT",
        help="one OME-TIFF, TIFF, ImageJ TIFF or OME-Zarr image, a folder of slice images, "
        "or two or more slice images in slice order",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUTPUT",
        help="its suffix chooses the format: .ome.zarr, .ome.tif, .tif (fused only as ImageJ reads it), .png",
    )
    how = _add_choices(parser)
    how.add_argument(
        "--stats",
        default="field",
        metavar="field|FILE",
        help="normalise with this field's own statistics, or with those that `fuse --json` printed to FILE",
    )
    add_file_facts(parser)
    output = parser.add_argument_group("Output")
    output.add_argument(
        "--preview", metavar="PATH.png", help="also write a montage: sharpest slice, fused, decision mask, height"
    )
    output.add_argument(
        "--ngff",
        choices=("0.5", "0.4"),
        default="0.5",
        help="version of OME-Zarr to write; 0.4 (zarr 2, not sharded) is for older readers (default: 0.5)",
    )
    output.add_argument("--checksum", action="store_true", help="record the sha256 of the input")
    output.add_argument("--overwrite", action="store_true", help="replace OUTPUT once the new one is complete")


def _add_choices(parser: argparse.ArgumentParser) -> Any:
    """Add what a fusion can be asked for, the same for a stack and a plate; returns the group of how to do it."""
    what = parser.add_argument_group("Results")
    what.add_argument(
        "--products",
        type=names,
        metavar="LIST",
        help=f"some of {','.join(PRODUCTS)} (default: {','.join(default_products())}; the height is in slices where "
        "the z step is unknown)",
    )
    add_choice(
        what,
        "--select",
        Select,
        FuseRequest.select,
        "soft averages agreeing slices against noise; hard copies every pixel from one slice",
    )
    what.add_argument(
        "--focus-from",
        default=FuseRequest.focus_from,
        metavar="WHO",
        help="who decides what is in focus: auto (all fluorescence channels together, transmitted light for itself), "
        "each channel for itself, joint, or a channel's name or index (default: auto)",
    )
    what.add_argument("--channels", type=names, metavar="LIST", help="names or indices to fuse (default: all)")
    what.add_argument("--z", metavar="START:STOP[:STEP]", help="slices to use, counted from 0 (default: all)")
    how = parser.add_argument_group("Method")
    add_choice(
        how,
        "--method",
        METHODS,
        FuseRequest.method,
        "; ".join(f"{name}: {method.tip}" for name, method in METHODS.items()),
    )
    add_model(how)
    how.add_argument(
        "--camera",
        type=camera,
        metavar="GAIN,OFFSET,READNOISE",
        help="known noise, in counts per electron, counts and counts (default: estimated from the stack)",
    )
    add_choice(how, "--nan", Nan, FuseRequest.nan, "what to do about NaN and infinite pixels")
    machine = parser.add_argument_group("Hardware")
    add_device(machine)
    add_choice(
        machine,
        "--precision",
        Precision,
        FuseRequest.precision,
        "auto is float32 everywhere; bfloat16 is less exact and on some devices faster",
    )
    machine.add_argument(
        "--exact",
        action="store_true",
        help="no shortcut of any kind: PyTorch in float32, also where OpenVINO would give nearly the same sooner",
    )
    machine.add_argument("--tile", type=positive, metavar="PIXELS", help="core of a tile (default: planned)")
    add_memory(machine)
    return how


def _add_batch(commands: Any) -> None:
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
        "The same command again resumes a batch that was stopped. Records, failures.csv, report.csv and\n"
        "report.html are in the folder NAME.hybridfusion beside OUTPUT.",
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
        "output", metavar="OUTPUT", help="an .ome.zarr, or a folder for the files of --format; on a disk, outside INPUT"
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
    how = _add_choices(parser)
    how.add_argument(
        "--stats",
        choices=("plate", "well", "field"),
        default="plate",
        help="normalise all fields with statistics of the plate, so that empty and crowded ones are treated alike, "
        "with those of their well, or each with its own (default: plate)",
    )
    where = parser.add_argument_group("Cluster").add_mutually_exclusive_group()
    where.add_argument(
        "--workers", type=positive, metavar="N", help="processes on this computer (default: as it has room for)"
    )
    where.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster, such as tcp://host:8786")
    where.add_argument("--scheduler-file", metavar="F", help="that `dask scheduler --scheduler-file F` wrote")
    unsaid = parser.add_argument_group("What the files do not say")
    unsaid.add_argument("--axes", help="what the axes of stacks are, such as ZYX: plain TIFFs in a folder of stacks")
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


def _add_info(commands: Any) -> None:
    parser = command(
        commands,
        "info",
        "say what a file holds, what would be fused, and the memory and time to expect",
        "  hybridfusion info organoid.ome.tif",
    )
    parser.add_argument("input", nargs="+", metavar="INPUT", help="as for fuse")
    add_file_facts(parser)
    machine = parser.add_argument_group("Hardware")
    add_device(machine)
    add_memory(machine)


def _add_verify(commands: Any) -> None:
    parser = command(
        commands,
        "verify",
        "read a result, from its metadata to its last pixel, and list what is wrong with it",
        "  hybridfusion verify organoid_fused.ome.zarr",
    )
    parser.add_argument(
        "output", metavar="OUTPUT", help="what fuse or batch wrote; its decision and maps are found by name"
    )


def _add_sample(commands: Any) -> None:
    parser = command(
        commands,
        "sample",
        "write a sample to try things on",
        "  hybridfusion sample organoid organoid.ome.tif\n  hybridfusion sample pair pair\n"
        "  hybridfusion sample plate plate.ome.zarr",
    )
    parser.add_argument(
        "name",
        choices=("organoid", "pair", "plate"),
        help="organoid: a two-channel stack; pair: two images; plate: four wells of two fields",
    )
    parser.add_argument(
        "path", metavar="PATH", help="an .ome.tif for the organoid, a folder for the pair, an .ome.zarr for the plate"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")


def _add_train(commands: Any) -> None:
    parser = command(
        commands,
        "train",
        "train a model from scratch, or resume an interrupted training",
        "  hybridfusion train recipes/natural.toml -o runs/natural --stacks FOLDER\n"
        "  hybridfusion train mine.toml -o runs/mine --stacks unlabelled",
    )
    parser.add_argument(
        "config", metavar="CONFIG", help="a recipe in TOML; those of the shipped models are in recipes/"
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="FOLDER", help="takes state, scalars.csv and the model"
    )
    parser.add_argument(
        "--stacks",
        metavar="FOLDER",
        help="holds the stacks without truth that CONFIG names under [unlabelled]; their unsupervised loss is added to "
        "that of the synthetic scenes at every step, and no other stack in FOLDER is read",
    )
    machine = parser.add_argument_group("Hardware")
    add_device(machine)
    machine.add_argument("--threads", type=positive, metavar="N", help="of PyTorch on the CPU")
    machine.add_argument(
        "--processes",
        type=positive,
        default=0,
        metavar="N",
        help="that draw scenes ahead, for a GPU, which trains faster than one process draws; they change no weight "
        "(default: none)",
    )


def _add_evaluate(commands: Any) -> None:
    parser = command(
        commands,
        "evaluate",
        "score ways to fuse on a folder of stacks, or on synthetic stacks that no training has seen",
        "  hybridfusion evaluate stacks --results other_programs -o page.html\n"
        "  hybridfusion evaluate --scenes 24 --model runs/natural/natural.safetensors",
    )
    parser.add_argument(
        "folder",
        nargs="?",
        metavar="FOLDER",
        help="stacks, folders of slices, and pairs NAME_A.png NAME_B.png; what is known about them in FOLDER/truth, "
        "/reference, /height and /labels under the same names (default: synthetic stacks)",
    )
    parser.add_argument(
        "--results", metavar="FOLDER", help="other programs' results on the same stacks: FOLDER/METHOD/NAME.png"
    )
    parser.add_argument(
        "-o", "--output", metavar="PAGE.html", help="also write a page with crops, maps and reliability diagrams"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the page once the new one is complete")
    parser.add_argument(
        "--scenes", type=positive, default=24, metavar="N", help="synthetic stacks per kind and noise (default: 24)"
    )
    parser.add_argument(
        "--kind",
        action="append",
        choices=("layers", "volume", "transmitted", "photographic"),
        help="kind of synthetic stacks; may be given several times (default: all)",
    )
    add_model(parser)
    machine = parser.add_argument_group("Hardware")
    add_device(machine)
    machine.add_argument("--threads", type=positive, metavar="N", help="of PyTorch on the CPU")
