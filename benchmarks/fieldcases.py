"""Run the command line on every `case.json` of a folder, and say which inputs are read rightly.

    python benchmarks/fieldcases.py FOLDER [--only 071 107] [--kind "OME-TIFF*"] [--json PAGE.json]

FOLDER holds one folder per case: the input, `case.json`, and `expected_stack.npy` (T C Z Y X) where the pixels are
known. A case says in "command" what is typed, with {in} and {out}, and in "expect" what must come of it:

    exit            exit status, or a list of those that are right
    shape           lengths of axes of the input, as `info` understands it
    z_step_um       distance between slices, µm; null: not stated
    pixel_um        pixel size, µm; null: not stated
    channel         name of the first channel
    rgb             whether the channels are colours
    fused           "reference": pixels bit for bit those of expected_stack.npy in a plain OME-TIFF
    decision_rises  the slice that is chosen never falls from left to right
    bad_slice       this slice, from 0, is chosen nowhere, and nothing is brighter than the other slices there
    warn_or_refuse  without a warning, only a refusal is right
    refuse          one of these words stands in the refusal
    units, wells    fields that are done and failed, and names of wells, of a plate

Exit status 1 if a case is wrong. Nothing is written outside a temporary folder.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from hybridfusion_core.cli import main
from hybridfusion_core.io.tiff.writer import write_stack
from hybridfusion_core.stack import UNITS_UM, Axis

_ABOUT_FILE = ("--axes", "--z-step", "--pixel-size", "--series", "--absent")
_TOLERANCE = 1e-3  # of sizes: resolutions are stored as ratios of whole numbers


def wrongs(folder: Path, work: Path) -> list[str]:
    """Run one case; return what is wrong, one sentence each.

    Args:
        folder: of the case.
        work: an empty folder to write to; the input is copied there.
    """
    case = json.loads((folder / "case.json").read_text())
    expect, source = case["expect"], work / case["in"]
    copy = shutil.copytree if (folder / case["in"]).is_dir() else shutil.copy
    copy(folder / case["in"], source)
    out = work / case.get("out", "out.ome.zarr")
    words = [word.format(**{"in": source, "out": out}) for word in shlex.split(case["command"])][1:]
    status, _, said = _run(words)
    if "Traceback" in said:
        return [f"a traceback: {said.strip().splitlines()[-1]}"]
    return [
        *_about_status(expect, status, said),
        *(_about_result(expect, folder, source, out, words) if not status else ()),
    ]


def _about_status(expect: dict[str, Any], status: int, said: str) -> Iterator[str]:
    allowed = expect.get("exit", 0)
    last = said.strip().splitlines()[-1] if said.strip() else "nothing"
    if status not in (allowed if isinstance(allowed, list) else [allowed]):
        yield f"exit status {status}: {last}"
    elif status == 2 and expect.get("refuse") and not any(word.lower() in last.lower() for word in expect["refuse"]):
        yield f"the refusal names none of {expect['refuse']}: {last}"
    elif status == 0 and expect.get("warn_or_refuse") and "warning:" not in said:
        yield "fused in silence"


def _about_result(expect: dict[str, Any], folder: Path, source: Path, out: Path, words: list[str]) -> Iterator[str]:
    if words[0] == "batch":
        yield from _about_plate(expect, out)
        return
    about = [item for option in _ABOUT_FILE if option in words for item in words[words.index(option) :][:2]]
    _, text, _ = _run(["info", str(source), "--json", *about])
    info = json.loads(text)
    found = {
        "shape": {axis: info["shape"][axis] for axis in expect.get("shape", ())},
        "rgb": info["rgb"],
        "channel": info["channels"][0]["name"],
        "z_step_um": _um(info["z_step"]),
        "pixel_um": _um(info["pixel_size"]["x"]),
    }
    for key, value in found.items():
        if key in expect and not _equal(value, expect[key]):
            yield f"{key} is {value}; expected {expect[key]}"
    stored = folder / "expected_stack.npy"
    if expect.get("fused") == "reference" and stored.exists():
        reference = _reference(np.load(stored), out.with_name("reference"), words, expect)
        if not np.array_equal(_pixels(out), reference):
            yield "the fused pixels are not those of the same stack in an OME-TIFF"
    if expect.get("decision_rises"):
        decision = _pixels(out / "labels" / "decision")
        chosen = np.median(decision.reshape(-1, decision.shape[-1]), axis=0)
        if np.any(np.diff(chosen) < 0) or len(set(chosen)) < 2:
            yield "the decision does not rise from left to right: the slices are in another order"
    if "bad_slice" in expect and stored.exists():
        yield from _about_bad_slice(np.load(stored), expect["bad_slice"], out)


def _about_bad_slice(stack: np.ndarray, bad: int, out: Path) -> Iterator[str]:
    if np.any(_pixels(out / "labels" / "decision") == bad + 1):
        yield f"slice {bad} is chosen"
    good = np.delete(stack, bad, axis=2).astype(np.float64)
    above = (_pixels(out).astype(np.float64) - good.max(axis=2, keepdims=True)).max()
    if above > 1:
        yield f"the result is brighter than every good slice, by up to {above:.0f}"


def _about_plate(expect: dict[str, Any], out: Path) -> Iterator[str]:
    plate = zarr.open_group(out, mode="r").attrs["ome"]["plate"]
    wells = [each["path"].replace("/", "") for each in plate["wells"]]
    named = sorted(f"{well[0]}{int(well[1:]):02}" if well[1:].isdecimal() else well for well in wells)
    if "wells" in expect and named != sorted(expect["wells"]):
        yield f"the wells are {named}; expected {expect['wells']}"
    report = list((out.parent / f"{out.name.removesuffix('.ome.zarr')}.hybridfusion").glob("report.csv"))
    lines = report[0].read_text().splitlines()[1:] if report else []
    done = sum(",done," in line for line in lines)
    if "units" in expect and done != expect["units"]["done"]:
        yield f"{done} of {len(lines)} fields are done; expected {expect['units']}"
    for well in wells:
        path = next(each["path"] for each in plate["wells"] if each["path"].replace("/", "") == well)
        image = next(each for each in sorted((out / path).iterdir()) if each.is_dir())
        _, text, _ = _run(["info", str(image), "--json"])
        info = json.loads(text)
        found = {"channel": info["channels"][0]["name"], "pixel_um": _um(info["pixel_size"]["x"])}
        yield from (
            f"{key} is {value}" for key, value in found.items() if key in expect and not _equal(value, expect[key])
        )


def _reference(stack: np.ndarray, folder: Path, words: list[str], expect: dict[str, Any]) -> np.ndarray:
    """Fuse the expected pixels from a plain OME-TIFF, with the same options but those about the file."""
    folder.mkdir()
    step = Axis(expect.get("z_step_um") or 1.0, "micrometer")
    write_stack(folder / "stack.ome.tif", stack, z=step, rgb=bool(expect.get("rgb")))
    options = words[words.index("-o") + 2 :]
    for option in _ABOUT_FILE:
        if option in options:
            at = options.index(option)
            del options[at : at + 2]
    status, _, said = _run(["fuse", str(folder / "stack.ome.tif"), "-o", str(folder / "out.ome.zarr"), *options])
    if status:
        raise RuntimeError(f"the reference could not be fused: {said}")
    return _pixels(folder / "out.ome.zarr")


def _pixels(image: Path) -> np.ndarray:
    return np.asarray(zarr.open_array(image / "0", mode="r")[...])


def _um(stated: dict[str, Any] | None) -> float | None:
    return None if stated is None or stated["unit"] not in UNITS_UM else stated["value"] * UNITS_UM[stated["unit"]]


def _equal(found: Any, expected: Any) -> bool:
    if isinstance(found, float) and isinstance(expected, (int, float)):
        return abs(found - expected) <= _TOLERANCE * abs(expected)
    return bool(found == expected)


def _run(words: list[str]) -> tuple[int, str, str]:
    """Run a command in this process; return exit status, standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(words)
        except SystemExit as stopped:
            status = int(stopped.code or 0)
    return status, out.getvalue(), err.getvalue()


def _chosen(options: argparse.Namespace) -> Iterator[Path]:
    for path in sorted(options.folder.glob("*/case.json")):
        kind = json.loads(path.read_text()).get("kind", "")
        if fnmatch(kind, options.kind) and (not options.only or path.parent.name.split("_")[0] in options.only):
            yield path.parent


def run() -> int:
    """Print right or wrong for every case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", metavar="NUMBER", help="cases whose folders begin so")
    parser.add_argument("--kind", default="*", metavar="PATTERN", help="kinds of input")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what was found")
    options = parser.parse_args()
    found = {}
    for folder in _chosen(options):
        with tempfile.TemporaryDirectory() as work:
            try:
                found[folder.name] = wrongs(folder, Path(work))
            except Exception as error:  # whatever a wrong result makes of the checks
                found[folder.name] = [f"{type(error).__name__}: {error}"]
        print(f"{'wrong' if found[folder.name] else 'right'}  {folder.name}", flush=True)
        for line in found[folder.name]:
            print(f"       {line}", flush=True)
    bad = sum(map(bool, found.values()))
    print(f"{len(found) - bad} of {len(found)} right")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1, ensure_ascii=False))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(run())
