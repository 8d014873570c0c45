"""What can be typed. Imports nothing heavy: `--help` answers at once."""

from __future__ import annotations

import argparse
from importlib.metadata import version
from typing import Any

from hybridfusion_core.cli.assess_parser import add_assess
from hybridfusion_core.cli.batch_parser import add_batch
from hybridfusion_core.cli.model_parsers import add_finetune, add_models
from hybridfusion_core.cli.options import (
    EXIT_STATUS,
    add_choice,
    add_device,
    add_file_facts,
    add_memory,
    add_model,
    camera,
    command,
    names,
    positive,
)
from hybridfusion_core.cli.surface_parsers import add_measure, add_planes, add_project
from hybridfusion_core.fusion.methods import METHODS
from hybridfusion_core.fusion.products import PRODUCTS, default_products
from hybridfusion_core.fusion.request import Align, AlignFrame, FuseRequest, Nan, Precision, Select


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
    add_batch(commands, _add_choices)
    _add_info(commands)
    add_assess(commands)
    _add_verify(commands)
    add_project(commands)
    add_measure(commands)
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
    _add_corrections(parser)
    add_choice(how, "--nan", Nan, FuseRequest.nan, "what to do about NaN and infinite pixels")
    add_planes(parser)
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


def _add_corrections(parser: argparse.ArgumentParser) -> None:
    """Add what is done to pixels before they are fused."""
    group = parser.add_argument_group("Drift and light")
    add_choice(
        group,
        "--align",
        Align,
        FuseRequest.align,
        "take back how slices lie sideways: shift, or similarity (shift, scale and angle), where that makes them agree "
        "better; measured on the channel that decides, applied to all in one interpolation",
    )
    group.add_argument(
        "--align-from",
        metavar="FILE",
        help="apply an X.transforms.json that an earlier fusion wrote beside its result; batch: or NAME.hybridfusion, "
        "of which each field takes its own",
    )
    add_choice(
        group,
        "--align-frame",
        AlignFrame,
        FuseRequest.align_frame,
        "keep the frame of the middle slice, or crop to what all slices cover",
    )
    group.add_argument(
        "--flat-field",
        metavar="FILE",
        help="picture of how evenly the field is lit, one channel for each or one for all; batch: or auto, estimated "
        "over the fields",
    )
    group.add_argument(
        "--match-light",
        action="store_true",
        help="make slices that bleach or flicker as bright as the others, where it can be told from the specimen; the "
        "decision is made so in any case",
    )
    group.add_argument("--dark", metavar="FILE", help="picture of what the camera counts in the dark; batch: or auto")


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
    parser.add_argument(
        "--failures",
        metavar="FILE.csv",
        help="of a batch: write what failed, is missing or damaged; batch --only FILE.csv --recheck fuses it again",
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
        choices=("layers", "volume", "transmitted", "photographic", "isolated", "crowded"),
        help="kind of synthetic stacks; may be given several times (default: all)",
    )
    add_model(parser)
    machine = parser.add_argument_group("Hardware")
    add_device(machine)
    machine.add_argument("--threads", type=positive, metavar="N", help="of PyTorch on the CPU")
