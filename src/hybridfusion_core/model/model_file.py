"""Models on disk: one safetensors file each, with the network's sizes and a card inside.

A model file is untrusted: its header is checked before a tensor is allocated, and nothing in it
is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
from pydantic import ConfigDict, TypeAdapter, with_config
from safetensors import SafetensorError, safe_open

from hybridfusion_core.errors import StoredDataError, UserInputError
from hybridfusion_core.model.config import NetworkConfig
from hybridfusion_core.model.model_folder import SUFFIX, local_names, local_path
from hybridfusion_core.model.parameters import Parameters, parameter_shapes

if TYPE_CHECKING:  # PyTorch takes seconds to import
    from hybridfusion_core.model.network import HybridFusionNet

ALIASES = {"organoid": "fluorescence"}  # what its users call it
_ENTRY = "hybridfusion"
_MAX_HEADER = 1 << 20  # bytes; ours have a few kB
_MAX_FILE = 64 << 20  # bytes; ours have some 150 kB


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class ModelCard:
    """What a user must know of a model before trusting it.

    Attributes:
        name: what `--model` and provenance call it.
        description: what it is for, one sentence.
        training: how it was made: recipe, data, seed.
        limits: what it was never shown or is known to do badly.
        metrics: figures measured on held-out data, by name.
    """

    name: str
    description: str
    training: str
    limits: str
    metrics: dict[str, float]


@dataclass(frozen=True)
class Model:
    """A network's weights, with its card and the sha256 of its file."""

    parameters: Parameters
    card: ModelCard
    sha256: str

    @property
    def config(self) -> NetworkConfig:
        """Sizes of the network."""
        return self.parameters.config

    @property
    def network(self) -> HybridFusionNet:
        """The network in PyTorch, built once for each file: whoever changes it makes a copy first."""
        return _network(self.parameters)


@lru_cache(maxsize=4)
def _network(parameters: Parameters) -> HybridFusionNet:
    from hybridfusion_core.model.network import network_of

    return network_of(parameters)


def save_model(path: Path, network: HybridFusionNet, card: ModelCard) -> None:
    """Write weights, sizes and card; the same model always gives the same bytes."""
    arrays = {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in network.state_dict().items()}
    # One entry: safetensors writes several in an order that changes from run to run.
    metadata = {_ENTRY: json.dumps({"config": asdict(network.config), "card": asdict(card)}, sort_keys=True)}
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(safetensors.numpy.save(arrays, metadata=metadata))
    part.replace(path)


def model_names() -> tuple[str, ...]:
    """Names of the shipped models."""
    return tuple(sorted(file.name.removesuffix(SUFFIX) for file in _shipped() if _is_model(file.name)))


def local_model_names() -> tuple[str, ...]:
    """Names of the models in the user's own folder; none of them is one of ours."""
    return local_names(_taken())


def new_model_path(name: str) -> Path:
    """Return where a new local model of a name would lie, which need not exist yet.

    Raises:
        UserInputError: the name is impossible, or taken by one of ours.
    """
    return local_path(name, _taken())


def load_model(name: str) -> Model:
    """Load a shipped model by name, a local one by name, or any by path.

    Args:
        name: a shipped name, one of `ALIASES`, a name in the user's folder (see `import_model`), or a path ending in
            ".safetensors". Shipped names come first.

    Returns:
        The model. The card of a local one has the name that it is called by here, whatever it calls itself.

    Raises:
        UserInputError: no such model.
        StoredDataError: the file is not a model of ours.
    """
    name = ALIASES.get(name, name)
    if name in model_names():
        with resources.as_file(resources.files("hybridfusion_core.model") / "weights" / f"{name}{SUFFIX}") as path:
            return _load(path)
    local = local_model_names()
    if name in local:
        model = _load(local_path(name))
        return replace(model, card=replace(model.card, name=name))
    path = Path(name)
    if not path.is_file():
        own = f", nor local ({', '.join(local)})" if local else ""
        raise UserInputError(
            f"No model {name!r}: neither shipped ({', '.join(model_names())}) nor a file{own}. "
            "`hybridfusion models` lists what there is."
        )
    return _load(path)


def import_model(path: Path, name: str | None = None, *, overwrite: bool = False) -> Model:
    """Copy a model file into the user's folder, where `load_model` finds it by name.

    Args:
        path: of a file of ours; it is checked as `load_model` does before anything is copied.
        name: to call it by; None takes the file's own.
        overwrite: replace a local model of that name.

    Raises:
        UserInputError: no such file, or the name is impossible or taken.
        StoredDataError: the file is not a model of ours.
    """
    if not path.is_file():
        raise UserInputError(f"There is no file {path}; expected a model, a {SUFFIX} file. Check the path.")
    target = new_model_path(path.name.removesuffix(SUFFIX) if name is None else name)
    if target.exists() and not overwrite:
        raise UserInputError(
            f"A local model {target.name.removesuffix(SUFFIX)!r} exists already; expected a new name. Choose one with "
            "--name, or --overwrite."
        )
    _load(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    try:
        part.write_bytes(path.read_bytes())
        _load(part)  # what was copied, which may not be what was looked at
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return load_model(target.name.removesuffix(SUFFIX))


def _load(path: Path) -> Model:
    stat = path.stat()
    return _load_version(path.resolve(), stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4)
def _load_version(path: Path, _modified: int, size: int) -> Model:
    if not 8 < size <= _MAX_FILE:
        raise StoredDataError(f"{path.name}: {size} bytes are no model of ours (at most {_MAX_FILE}). Check the path.")
    content = path.read_bytes()
    header = struct.unpack("<Q", content[:8])[0]
    if header > min(_MAX_HEADER, size - 8):
        raise StoredDataError(f"{path.name}: not a safetensors file (header of {header} bytes). Check the path.")
    config, card = _read_metadata(path)
    try:
        arrays = safetensors.numpy.load(content)
    except (SafetensorError, KeyError, ValueError) as error:  # KeyError: a type of numbers that NumPy has not
        raise StoredDataError(f"{path.name}: damaged weights ({error}). Fetch the file again.") from error
    # Files of before 0.2 say nothing of it: their confidence is the posterior's share as it is.
    arrays.setdefault("confidence_line", np.array([1, 0], np.float32))
    wrong = any(array.dtype != np.float32 for array in arrays.values())
    if wrong or {name: array.shape for name, array in arrays.items()} != parameter_shapes(config):
        raise StoredDataError(f"{path.name}: its weights do not fit its own configuration. Fetch the file again.")
    for array in arrays.values():
        array.flags.writeable = False
    return Model(Parameters(config, arrays), card, hashlib.sha256(content).hexdigest())


def _read_metadata(path: Path) -> tuple[NetworkConfig, ModelCard]:
    """Read sizes and card, and check that the sizes are such as we would build."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata: dict[str, Any] = file.metadata() or {}
        described = json.loads(metadata[_ENTRY])
        if described["config"].get("wide_below") == 0:  # in files of before; windows of two sizes are no more
            del described["config"]["wide_below"]
        config = _CONFIG.validate_python(described["config"])
        card = _CARD.validate_python(described["card"])
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoredDataError(
            f"{path.name}: no valid HybridFusionNet configuration inside ({type(error).__name__}). "
            "Only models written by this program can be loaded."
        ) from error
    levels = (config.depth, config.coarse_depth, config.coarse_bin)
    if max(config.channels, config.dim, *levels, config.window, config.patch) > 512 or config.mlp_ratio > 16:
        raise StoredDataError(f"{path.name}: its configuration {config} is larger than any model of ours.")
    return config, card


_CONFIG: TypeAdapter[NetworkConfig] = TypeAdapter(NetworkConfig)
_CARD: TypeAdapter[ModelCard] = TypeAdapter(ModelCard)


def _taken() -> tuple[str, ...]:
    """Names that no local model may have."""
    return ("auto", *ALIASES, *model_names())


def _shipped() -> list[Any]:
    folder = resources.files("hybridfusion_core.model") / "weights"
    return list(folder.iterdir()) if folder.is_dir() else []


def _is_model(name: str) -> bool:
    return name.endswith(SUFFIX) and not name.startswith(".")
