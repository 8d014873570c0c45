"""Say whether two versions of the program give the same results, bit for bit.

    python benchmarks/same_results.py record FOLDER --stacks DIR     # with the one version installed
    python benchmarks/same_results.py compare FOLDER --stacks DIR    # with the other, or the same again

DIR holds, at any depth, the real stacks neubias_dna_ch0, neubias_golgi_bfa and cytology_00 (.ome.tif). `record` writes
the samples, fuses them and the stacks, and keeps in FOLDER what was put in (inputs/), what came out (products/, one
.npz per case) and record.json with the sha256 of each. `compare` fuses the same inputs and prints for each case and
product that it is equal bit for bit, or how many pixels differ and by how much at most; exit status 1 if any do.
`--only 'golgi.*'` takes part of the cases.

A case is an input and a way to fuse it: PyTorch, OpenVINO, Tenengrad and Laplacian for each, then a few single ones for
what those leave out. Each is one run of the `hybridfusion` command beside this Python, on one thread, in tiles of
128 px so that seams are part of it. Nothing of the package is imported: the script runs with versions whose insides
have nothing in common. Metadata, provenance and reports are not compared.
"""

import argparse
import fnmatch
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import tifffile
import zarr
from imageio.v3 import imread

STACKS = {"dna": "neubias_dna_ch0", "golgi": "neubias_golgi_bfa", "cytology": "cytology_00"}
PRODUCTS = "fused,decision,height,confidence,noise_gain"
FIXED = ("--threads", "1", "--memory", "2G", "--tile", "128")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
WAYS = {
    "pytorch": ("--method", "network", "--device", "cpu"),
    "openvino": ("--method", "network", "--device", "openvino"),
    "tenengrad": ("--method", "tenengrad", "--device", "cpu"),
    "laplacian": ("--method", "laplacian", "--device", "cpu"),
}
SAYS_NO_Z_STEP = {"cytology", "pair", "colour"}
LIBRARIES = ("torch", "openvino", "numpy", "scipy", "scikit-image")

Arrays = dict[str, np.ndarray]
"""By PRODUCT/LEVEL/PLACE: "fused/0/" is the picture of a stack, "decision/1/B/2/0" of a field of a plate, half size."""


@dataclass(frozen=True)
class Case:
    """One run of the command: `source` names the input, `suffix` is that of the output."""

    source: str
    way: str
    options: tuple[str, ...]
    products: str = PRODUCTS
    suffix: str = ".ome.zarr"

    @property
    def name(self) -> str:
        """As `--only` and record.json call it."""
        return f"{self.source}.{self.way}"


def cases() -> list[Case]:
    sources = ("organoid", *STACKS, "pair", "plate")
    return [
        *(Case(source, way, options) for source in sources for way, options in WAYS.items()),
        Case("colour", "openvino", WAYS["openvino"]),
        Case("colour", "tenengrad", WAYS["tenengrad"]),
        Case("organoid", "each", (*WAYS["openvino"], "--focus-from", "each")),
        Case("golgi", "hard", (*WAYS["openvino"], "--select", "hard")),
        Case("golgi", "tiff", (*WAYS["tenengrad"], "--select", "hard"), suffix=".ome.tif"),
        *(Case("golgi", way, ("--method", way, "--device", "cpu"), "fused") for way in ("mean", "max", "sum")),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("record", "compare"))
    parser.add_argument("folder", type=Path, help="where the recorded results are, or will be")
    parser.add_argument("--stacks", type=Path, required=True, metavar="DIR", help="where the real stacks are")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="cases to run, such as '*.openvino'")
    chosen = parser.parse_args()
    wanted = [case for case in cases() if fnmatch.fnmatch(case.name, chosen.only)]
    if not wanted:
        parser.error(f"no case is called {chosen.only}; there are {', '.join(case.name for case in cases())}")
    if chosen.what == "record":
        record(chosen.folder, chosen.stacks, wanted)
    else:
        sys.exit(compare(chosen.folder, chosen.stacks, wanted))


def record(folder: Path, stacks: Path, wanted: list[Case]) -> None:
    """Write samples and results of this version to `folder`, which must not exist yet."""
    if folder.exists():
        sys.exit(f"{folder} exists. Name a new folder to record into, or delete this one.")
    sources = found_stacks(stacks)
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    (unfinished / "products").mkdir(parents=True)
    sources |= write_samples(unfinished / "inputs")
    hashes = {}
    for case in wanted:
        arrays = fused_at_last(case, sources[case.source])
        np.savez_compressed(unfinished / "products" / f"{case.name}.npz", **arrays)
        hashes[case.name] = {key: sha256(array) for key, array in sorted(arrays.items())}
        print(f"{case.name:22} {', '.join(by_product(arrays))}", flush=True)
    inputs = {name: sha256_of_files(path) for name, path in sources.items()}
    text = json.dumps({"made_with": surroundings(), "inputs": inputs, "products": hashes}, indent=1)
    (unfinished / "record.json").write_text(text + "\n", encoding="utf-8")
    unfinished.rename(folder)


def compare(folder: Path, stacks: Path, wanted: list[Case]) -> int:
    """Fuse what `folder` recorded once more; 0 if all is equal, 1 if anything differs, is missing or fails."""
    recorded = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    sources = found_stacks(stacks) | samples(folder / "inputs")
    changed = [name for name, path in sources.items() if sha256_of_files(path) != recorded["inputs"][name]]
    if changed:
        sys.exit(f"{', '.join(changed)}: not the files that {folder} was recorded with. Give those, or record anew.")
    for name, now in surroundings().items():
        if now != recorded["made_with"][name]:
            print(f"note: {name} was {recorded['made_with'][name]}, is {now}")
    bad = 0
    for case in wanted:
        if case.name not in recorded["products"]:
            lines = {"all": "was not recorded"}
        else:
            lines = findings(case, sources[case.source], folder, recorded["products"][case.name])
        for product, finding in lines.items():
            print(f"{case.name:22} {product:12} {finding}", flush=True)
        bad += sum(finding != EQUAL for finding in lines.values())
    print("All products are equal bit for bit." if bad == 0 else f"{bad} of the lines above tell of a difference.")
    return min(bad, 1)


# Inputs


def found_stacks(folder: Path) -> dict[str, Path]:
    """The real stacks by the names of their cases."""
    found = {name: next(iter(sorted(folder.rglob(f"{stem}.ome.tif"))), None) for name, stem in STACKS.items()}
    missing = [STACKS[name] for name, path in found.items() if path is None]
    if missing:
        sys.exit(f"{folder} lacks {', '.join(missing)} (.ome.tif). Name the folder that holds them with --stacks.")
    return {name: path for name, path in found.items() if path is not None}


def samples(folder: Path) -> dict[str, Path]:
    return {
        "organoid": folder / "organoid.ome.tif",
        "pair": folder / "pair",
        "colour": folder / "colour",
        "plate": folder / "plate.ome.zarr",
    }


def write_samples(folder: Path) -> dict[str, Path]:
    """Write the samples of this version, of the organoid the middle 256² px, and the pair once more in colour."""
    folder.mkdir()
    paths = samples(folder)
    for name in ("pair", "plate"):
        run("sample", name, paths[name])
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "organoid.ome.tif"
        run("sample", "organoid", whole)
        write_middle(whole, paths["organoid"], 256)
    paths["colour"].mkdir()
    for path in sorted(paths["pair"].iterdir()):
        tifffile.imwrite((paths["colour"] / path.name).with_suffix(".tif"), coloured(grey(path)), photometric="rgb")
    return paths


def write_middle(source: Path, target: Path, side: int) -> None:
    """Cut `side`² px out of an OME-TIFF whose description stays the same but for the size."""
    with tifffile.TiffFile(source) as file:
        pixels, description = file.series[0].asarray(), file.ome_metadata or ""
    height, width = pixels.shape[-2:]
    top, left = (height - side) // 2, (width - side) // 2
    description = description.replace(f'SizeX="{width}"', f'SizeX="{side}"', 1)
    description = description.replace(f'SizeY="{height}"', f'SizeY="{side}"', 1)
    middle = pixels[..., top : top + side, left : left + side]
    planes = middle.reshape(-1, side, side)  # one page each, in the order that the description gives
    tifffile.imwrite(target, planes, photometric="minisblack", description=description.encode(), metadata=None)


def grey(path: Path) -> np.ndarray:
    """Y X uint8 of a grey PNG."""
    return np.asarray(imread(path))


def coloured(pixels: np.ndarray) -> np.ndarray:
    """Y X 3 uint8 whose brightness is another one for each way to weigh the colours."""
    dark = (pixels.astype(np.uint16) ** 2 // 255).astype(np.uint8)
    return np.stack([pixels, dark, 255 - pixels // 2], axis=-1)


# Fusing


def fused_at_last(case: Case, source: Path) -> Arrays:
    """Run a case, and once more if it fails: what a busy machine does to a cluster says nothing about results."""
    try:
        return fused(case, source)
    except RuntimeError as error:
        print(f"{case.name:22} failed, and is run once more: {str(error).splitlines()[-1]}", flush=True)
        return fused(case, source)


def fused(case: Case, source: Path) -> Arrays:
    """Run a case and read all that it wrote."""
    options = [*FIXED, *case.options, "--products", case.products]
    if case.source in SAYS_NO_Z_STEP:
        options += ["--z-step", "1"]
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / f"out{case.suffix}"
        if case.source == "plate":
            run("batch", source, output, "--workers", "1", *options)
        else:
            run("fuse", source, "-o", output, *options)
        return written_tiffs(output) if case.suffix == ".ome.tif" else written_stores(output)


def run(*arguments: str | Path) -> None:
    """Run the command that is installed beside this Python.

    Raises:
        RuntimeError: It failed; with what it wrote to stderr.
    """
    program = shutil.which("hybridfusion", path=str(Path(sys.executable).parent))
    if program is None:
        sys.exit(f"No hybridfusion beside {sys.executable}. Install the version to try into this environment.")
    environment = {**os.environ, **ONE_THREAD}
    done = subprocess.run([program, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"`hybridfusion {' '.join(map(str, arguments))}` failed:\n{done.stderr.strip()[-2000:]}")


def written_stores(output: Path) -> Arrays:
    maps = output.with_name(output.name.replace(".ome.zarr", ".maps.ome.zarr"))
    arrays: Arrays = {}
    for store in (path for path in (output, maps) if path.exists()):
        root = zarr.open_group(store, mode="r")
        for path, image in chain([("", root)], root.members(max_depth=None)):
            multiscales = image.attrs.get("ome", {}).get("multiscales")
            if isinstance(image, zarr.Group) and multiscales:
                place, is_label, _ = path.rpartition("labels/decision")
                for level, dataset in enumerate(multiscales[0]["datasets"]):
                    values = np.asarray(image[dataset["path"]][...])
                    if store == maps:
                        arrays |= parted(values, labels_of(image), f"{level}/{path}")
                    else:
                        arrays[f"decision/{level}/{place}" if is_label else f"fused/{level}/{path}"] = values
    return arrays


def labels_of(image: zarr.Group) -> list[str]:
    return [channel["label"] for channel in image.attrs["ome"]["omero"]["channels"]]


def parted(values: np.ndarray, labels: list[str], where: str) -> Arrays:
    """Channels of maps, T C 1 Y X, each as a product of its own."""
    return {f"{label}/{where}": values[:, [channel]] for channel, label in enumerate(labels)}


def written_tiffs(output: Path) -> Arrays:
    arrays: Arrays = {}
    for product, name in (("fused", "out"), ("decision", "out.decision"), ("maps", "out.maps")):
        with tifffile.TiffFile(output.with_name(f"{name}.ome.tif")) as file:
            arrays |= {f"{product}/{at}/": level.asarray() for at, level in enumerate(file.series[0].levels)}
    return arrays


# Comparing

EQUAL = "equal bit for bit"


def findings(case: Case, source: Path, folder: Path, hashes: dict[str, str]) -> dict[str, str]:
    """What to say about each product of a case."""
    try:
        now = fused_at_last(case, source)
    except RuntimeError as error:
        return {"all": f"not fused. {error}"}
    with np.load(folder / "products" / f"{case.name}.npz", allow_pickle=False) as file:
        before = {key: file[key] for key in file.files}
    damaged = [key for key, array in before.items() if sha256(array) != hashes.get(key)]
    if damaged or len(before) != len(hashes):
        sys.exit(f"{folder}: {case.name}.npz is not what record.json says. Record anew.")
    return {
        product: finding(by_product(before).get(product, {}), by_product(now).get(product, {}))
        for product in by_product(before | now)
    }


def by_product(arrays: Arrays) -> dict[str, Arrays]:
    names = dict.fromkeys(key.split("/")[0] for key in arrays)
    return {name: {key: array for key, array in arrays.items() if key.split("/")[0] == name} for name in names}


def finding(before: Arrays, now: Arrays) -> str:
    """Compare one product, in all fields and at all sizes of its pyramid."""
    if before.keys() != now.keys():
        lost, new = sorted(before.keys() - now.keys()), sorted(now.keys() - before.keys())
        return "; ".join([f"{key} is missing" for key in lost] + [f"{key} is new" for key in new])
    unlike = [key for key in before if sha256(before[key]) != sha256(now[key])]
    if not unlike:
        return EQUAL
    for key in unlike:
        if (before[key].shape, before[key].dtype) != (now[key].shape, now[key].dtype):
            return f"{key} was {before[key].shape} {before[key].dtype}, is {now[key].shape} {now[key].dtype}"
    full = [key for key in unlike if key.split("/")[1] == "0"]
    compared = [key for key in before if (key.split("/")[1] == "0") == bool(full)]
    said = difference([(before[key], now[key]) for key in compared])
    return said if full else f"equal at full size, not in its pyramid: {said}"


def difference(pairs: list[tuple[np.ndarray, np.ndarray]]) -> str:
    """How many values of two sets of arrays differ, and by how much."""
    of = sum(before.size for before, _ in pairs)
    count, most, undefined = 0, 0.0, 0
    for before, now in pairs:
        a, b = before.astype(np.float64), now.astype(np.float64)
        differ = (a != b) & ~(np.isnan(a) & np.isnan(b))
        both = differ & np.isfinite(a) & np.isfinite(b)
        count += int(differ.sum())
        undefined += int((differ & ~both).sum())
        most = max(most, float(np.abs(a[both] - b[both]).max(initial=0.0)))
    if count == 0:
        return "equal in value, not bit for bit (signs of zeros, or kinds of NaN)"
    ends = f", {undefined} of them NaN or infinite in one of the two" if undefined else ""
    return f"{count} of {of} pixels differ, by {most:.6g} at most{ends}"


def sha256(array: np.ndarray) -> str:
    """Of values, dtype and shape."""
    head = f"{array.dtype.str} {array.shape} ".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()


def sha256_of_files(path: Path) -> str:
    """Of a file, or of all in a folder with their names."""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(file.relative_to(path.parent).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()


def surroundings() -> dict[str, str]:
    """What else than the program can change a result."""
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    cpu = Path("/proc/cpuinfo")
    models = [line for line in cpu.read_text().splitlines() if line.startswith("model name")] if cpu.exists() else []
    named = models[0].partition(":")[2].strip() if models else platform.processor()
    return {"python": platform.python_version(), "cpu": named, **versions}


if __name__ == "__main__":
    main()
