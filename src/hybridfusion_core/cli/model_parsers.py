"""What can be typed to get, make and hand on models of one's own. Imports nothing heavy."""

from __future__ import annotations

import argparse
from typing import Any

from hybridfusion_core.cli.options import add_device, add_scale, command, positive


def add_models(commands: Any) -> None:
    """Add `models` and what it can do."""
    parser = command(
        commands,
        "models",
        "list the models and what they are for, or take in a file",
        "  hybridfusion models\n  hybridfusion models import my.safetensors --name our-spinning-disk\n"
        "  hybridfusion models export our-spinning-disk --bioimageio our-spinning-disk.zip",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action")
    _action(actions, "list", "list shipped and local models with their cards (the default)")
    importing = _action(
        actions, "import", "copy a model file into your own folder of models, so that --model NAME finds it"
    )
    importing.add_argument("file", metavar="FILE", help="a .safetensors file that this program wrote")
    importing.add_argument("--name", metavar="NAME", help="what to call it (default: the file's name)")
    importing.add_argument("--overwrite", action="store_true", help="replace a local model of that name")
    exporting = _action(actions, "export", "write a model as a package that other programs can run")
    exporting.add_argument("name", metavar="NAME", help="a name that `models` lists, or a path")
    exporting.add_argument(
        "--bioimageio", required=True, metavar="OUT.zip", help="a BioImage.IO package (model RDF 0.5)"
    )
    exporting.add_argument("--overwrite", action="store_true", help="replace OUT.zip")


def add_finetune(commands: Any) -> None:
    """Add `finetune`."""
    parser = command(
        commands,
        "finetune",
        "adapt a model to your own stacks, without labels, and say what that changed",
        "  hybridfusion finetune our_stacks -o our-spinning-disk.safetensors\n"
        "  hybridfusion finetune plate.ome.zarr -o my.safetensors --na 0.75 --minutes 20\n"
        "  hybridfusion finetune phase/*.tif -o phase.safetensors --preset transmitted --phase-contrast\n"
        "The folder NAME.finetune beside the model holds live.png, curves.png, report.html and the state. After\n"
        "Ctrl-C the same command resumes the training. Nothing uses the new model unless you name it.",
    )
    parser.add_argument(
        "input",
        nargs="+",
        metavar="INPUT",
        help="stacks, folders of stacks or of slices, and plates, as fuse and batch read them; two stacks at least",
    )
    parser.add_argument("-o", "--output", required=True, metavar="MODEL", help="the model to write, a .safetensors")
    parser.add_argument("--overwrite", action="store_true", help="replace MODEL, and forget another run of its name")
    what = parser.add_argument_group("Training")
    what.add_argument(
        "--from",
        dest="start",
        default="auto",
        metavar="NAME",
        help="model to start from: auto (the shipped one for the preset), a name that `models` lists, or a path",
    )
    what.add_argument(
        "--preset",
        choices=("auto", "organoid", "natural", "transmitted"),
        default="auto",
        help="what the stacks are: fluorescence, photographs, or brightfield and phase contrast (default: auto, which "
        "is transmitted if the files say so, else organoid)",
    )
    what.add_argument(
        "--minutes", type=float, default=30.0, metavar="M", help="of the whole, on this machine (default: 30)"
    )
    what.add_argument("--steps", type=positive, metavar="N", help="of the training, in place of --minutes")
    what.add_argument(
        "--corrections",
        nargs="+",
        default=(),
        metavar="RESULT",
        help="results whose decisions were corrected by hand in napari; their stacks are among INPUT",
    )
    what.add_argument("--seed", type=int, default=0, metavar="N", help="of everything random (default: 0)")
    proof = parser.add_argument_group("Evidence")
    proof.add_argument(
        "--repeat",
        nargs=2,
        action="append",
        default=[],
        metavar=("FIRST", "SECOND"),
        help="two acquisitions of the same field; may be given several times",
    )
    proof.add_argument("--height-standard", metavar="STACK", help="stack of a flat standard, or of beads on glass")
    facts = parser.add_argument_group("What the files do not say")
    facts.add_argument(
        "--na", type=float, help="numerical aperture (default: drawn among those that go with the pixels)"
    )
    facts.add_argument("--wavelength", type=float, metavar="NM", help="of the light (default: drawn)")
    facts.add_argument(
        "--phase-contrast",
        action=argparse.BooleanOptionalAction,
        help="transmitted light passed a phase ring, or did not (default: either)",
    )
    add_scale(facts)
    facts.add_argument("--axes", metavar="LETTERS", help="what each axis is, some of TCZYX; not of plates")
    facts.add_argument("--pattern", metavar="P", help="how the files of a folder are named, as for batch")
    machine = parser.add_argument_group("Hardware")
    add_device(machine)
    machine.add_argument("--threads", type=positive, metavar="N", help="of PyTorch on the CPU")


def _action(actions: Any, name: str, summary: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=summary, description=f"{summary}.")
    # Not a default of its own, which would take back what was said before the action.
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser
