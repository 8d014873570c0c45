"""What each command does; every one takes the parsed options and prints its results on stdout.

What only one command needs is imported there: the network's libraries alone take seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from hybridfusion_core.cli.progress import ProgressLine
from hybridfusion_core.errors import StoredDataError, UserInputError
from hybridfusion_core.fusion.api import steps_to_disk
from hybridfusion_core.fusion.doubtful_light import light_warnings
from hybridfusion_core.fusion.enough_slices import refuse_single_slice
from hybridfusion_core.fusion.job import Job, load_statistics, resolve
from hybridfusion_core.fusion.rate import measured_rate
from hybridfusion_core.fusion.request import FuseRequest, make_request
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.model.devices import resolve_device
from hybridfusion_core.model.threads import set_usual_threads
from hybridfusion_core.progress import run_to_end
from hybridfusion_core.stack import Axis, Stack

_CARD_SCENES = 12  # stacks per noise regime behind the figures on a model's card


def fuse(options: argparse.Namespace) -> None:
    """Fuse one stack to disk."""
    chosen = _chosen(options)
    if options.stats != "field":
        chosen["stats"] = asdict(load_statistics(Path(options.stats)))
    request = make_request(**chosen)
    with _open(options) as stack, ProgressLine("Mpx·slices", 1e6) as line:
        job = resolve(request, stack)
        refuse_single_slice(stack, len(job.slices), "fuse")
        started = time.monotonic()
        steps = steps_to_disk(
            job,
            stack,
            Path(options.output),
            overwrite=options.overwrite,
            ngff=options.ngff,
            checksum=options.checksum,
            preview=options.preview,
        )
        spec = run_to_end(steps, lambda step: line.update(step.stage, step.done, step.total))
        seconds = time.monotonic() - started
    _warn(spec.provenance["warnings"])
    summary = {
        "output": options.output,
        "shape": list(spec.shape),
        "dtype": spec.dtype.name,
        "products": list(job.products),
        "seconds": round(seconds, 3),
        "statistics": spec.provenance["statistics"],
        "settings": spec.provenance["settings"],
        "model": spec.provenance["model"],
        "warnings": spec.provenance["warnings"],
    }
    t, c, y, x = spec.shape
    _print(options, summary, f"{options.output}: {t} × {c} × {y} × {x} {spec.dtype.name} in {seconds:.1f} s")


def batch(options: argparse.Namespace) -> int:
    """Fuse every field of a plate, or say what that would take."""
    from hybridfusion_core.cli.batch import command

    return command(options, _chosen(options))


def info(options: argparse.Namespace) -> None:
    """Say how a file is understood and what fusing it would take."""
    request = make_request(device=options.device, memory=options.memory, threads=options.threads)
    with _open(options) as stack:
        job = resolve(request, stack)
        _warn([*job.notes, *light_warnings(job, stack)])
        rate = measured_rate(job)
        summary = _describe(stack, job, rate)
    lines = [f"{key.replace('_', ' '):>18}: {_readable(value)}" for key, value in summary.items()]
    _print(options, summary, "\n".join(lines))


def assess(options: argparse.Namespace) -> None:
    """Say whether fusing is right for a stack, a plate or a result."""
    from hybridfusion_core.cli.assess import command

    _print(options, *command(options, _open))


def project(options: argparse.Namespace) -> None:
    """Read a stack along a height map."""
    from hybridfusion_core.cli.surface import project as run

    with _open(options) as stack, ProgressLine("Mpx", 1e6) as line:
        found = run(options, stack, lambda step: line.update(step.stage, step.done, step.total))
    _print(options, *found)


def measure(options: argparse.Namespace) -> None:
    """Measure the labels of a result."""
    from hybridfusion_core.cli.surface import measure as run

    _print(options, *run(options))


def verify(options: argparse.Namespace) -> int:
    """Look through a result, from its metadata to its last pixel."""
    from hybridfusion_core.batch.output.verify import paths_of
    from hybridfusion_core.cli.batch_verify import verify_batch
    from hybridfusion_core.io.verify import verify as find_faults

    paths = paths_of(Path(options.output))
    if paths is not None:
        return verify_batch(paths, options)
    findings = find_faults(Path(options.output))
    if options.json:
        _print(options, {"output": options.output, "findings": findings}, "")
    if findings:
        raise StoredDataError(
            f"{options.output} is not what was written; expected a whole and consistent result. Fuse the stack again, "
            "with --overwrite. Found:",
            findings,
        )
    if not options.json:
        _print(options, {}, f"{options.output}: whole")
    return 0


def sample(options: argparse.Namespace) -> None:
    """Write a sample."""
    from hybridfusion_core.scenes.samples.write import write_sample

    paths = write_sample(options.name, Path(options.path), overwrite=options.overwrite)
    _print(options, {"files": [str(path) for path in paths]}, "\n".join(str(path) for path in paths))


def models(options: argparse.Namespace) -> None:
    """List models with their cards, or take one into the user's folder."""
    from hybridfusion_core.cli.models import ACTIONS

    _print(options, *ACTIONS[options.action](options))


def train(options: argparse.Namespace) -> None:
    """Train a model."""
    import torch

    from hybridfusion_core.evaluate.run import evaluate_methods
    from hybridfusion_core.model.model_file import load_model, save_model
    from hybridfusion_core.train.loop import train as run_training
    from hybridfusion_core.train.recipe import load_recipe

    recipe = load_recipe(Path(options.config))
    _set_threads(options.threads)
    with ProgressLine("steps") as line:
        path = run_training(
            recipe,
            Path(options.output),
            device=torch.device(resolve_device(options.device)),
            stacks=None if options.stacks is None else Path(options.stacks),
            processes=options.processes,
            report=lambda step, terms: line.update(
                f"training (l1 {terms['l1']:.3f})" if sys.stderr.isatty() else "training", step + 1, recipe.steps
            ),
        )
        scores = evaluate_methods(
            str(path),
            scenes=_CARD_SCENES,
            kinds=tuple(kind for kind, share in recipe.scenes.items() if share > 0),
            device=options.device,
            report=lambda done, total: line.update("scoring", done, total),
        )
    model = load_model(str(path))
    save_model(path, model.network, replace(model.card, metrics=scores.metrics()))
    _print(options, {"model": str(path), "sha256": load_model(str(path)).sha256}, f"{scores.as_text()}\n\n{path}")


def finetune(options: argparse.Namespace) -> None:
    """Adapt a model to local stacks."""
    from hybridfusion_core.cli.finetune import answer, request_of, run

    result = run(request_of(options))
    _warn(result.warnings)
    _print(options, *answer(result))


def evaluate(options: argparse.Namespace) -> None:
    """Score ways to fuse, on a folder of stacks or on unseen synthetic ones."""
    from hybridfusion_core.evaluate.page import Page
    from hybridfusion_core.evaluate.run import evaluate_folder, evaluate_methods
    from hybridfusion_core.scenes.scene import KINDS

    if options.results is not None and options.folder is None:
        raise UserInputError(
            f"--results {options.results} was given without a folder of stacks; expected the stacks that the results "
            "were made of. Name their folder first."
        )
    _set_threads(options.threads)
    with ExitStack() as claimed, ProgressLine("stacks") as line:
        # Claimed before hours of computing, not after them.
        page = options.output and claimed.enter_context(Page(Path(options.output), overwrite=options.overwrite))
        common: dict[str, Any] = {
            "device": options.device,
            "looks": page is not None,
            "report": lambda done, total: line.update("scoring", done, total),
        }
        if options.folder is None:
            found = evaluate_methods(options.model, scenes=options.scenes, kinds=options.kind or KINDS, **common)
        else:
            results = None if options.results is None else Path(options.results)
            found = evaluate_folder(Path(options.folder), options.model, results=results, **common)
        if page is not None:
            page.write(found, options.folder or "Synthetic stacks")
    _print(options, found.as_json(), found.as_text())
    if found.broken:
        raise StoredDataError(
            f"{len(found.broken)} stack(s) in {options.folder} could not be scored; expected all of them to be sound. "
            "The others were scored; repair these, or move them out of the folder:",
            found.broken,
        )


def _chosen(options: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of a request that were typed; `stats` means something else to each command."""
    return {each.name: getattr(options, each.name) for each in fields(FuseRequest) if each.name != "stats"}


def _open(options: argparse.Namespace) -> Stack:
    paths = options.input if len(options.input) > 1 else options.input[0]
    stack = open_stack(
        paths,
        axes=options.axes,
        z_step_um=options.z_step,
        pixel_size_um=options.pixel_size,
        series=options.series,
        absent=options.absent,
    )
    _warn(stack.warnings)
    return stack


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        print(f"hybridfusion: warning: {warning}", file=sys.stderr)


def _describe(stack: Stack, job: Job, rate: float) -> dict[str, Any]:
    shape = dict(zip("TCZYX", stack.shape, strict=True))
    deciders = [
        {
            "from": [stack.channels[index].name for index in decider.guide],
            "for": [stack.channels[index].name for index in decider.serves],
            "model": None if decider.model is None else decider.model.card.name,
        }
        for decider in job.deciders
    ]
    pixels = shape["T"] * len(job.deciders) * len(job.slices) * shape["Y"] * shape["X"]
    positions = stack.z_um
    return {
        "name": stack.name,
        "shape": shape,
        "dtype": stack.dtype.name,
        "pixel_size": {"y": _length(stack.y), "x": _length(stack.x)},
        "z_step": _length(stack.z),
        "z_positions_um": None if positions is None else [float(positions[0]), float(positions[-1])],
        "channels": [asdict(channel) for channel in stack.channels],
        "rgb": stack.rgb,
        "objective": stack.objective,
        "numerical_aperture": stack.na,
        "products": list(job.products),
        "decisions": deciders,
        "model": job.settings()["model"],
        "device": job.device_name,
        "tile": job.plan.tile,
        "block": job.plan.block,
        "z_chunk": job.plan.z_chunk,
        "memory_bytes": job.plan.bytes_needed,
        "memory_budget_bytes": job.plan.budget,
        "seconds_expected": float(f"{pixels / rate:.3g}"),
    }


def _length(axis: Axis) -> dict[str, Any] | None:
    return None if axis.unit is None else {"value": axis.step, "unit": axis.unit}


def _readable(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_readable(part)}" for key, part in value.items())
    if isinstance(value, list):
        return "; ".join(_readable(part) for part in value)
    return "not stated" if value is None else str(value)


def _print(options: argparse.Namespace, summary: dict[str, Any], text: str) -> None:
    print(json.dumps(summary, ensure_ascii=False) if options.json else text)


def _set_threads(count: int | None) -> None:
    if count is None:
        return
    import torch

    set_usual_threads(count)
    torch.set_num_threads(count)
