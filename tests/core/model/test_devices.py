"""One table of devices: what the option takes, what help says, and what a form offers."""

import subprocess
import sys

import pytest
import torch

from hybridfusion_core.cli.parser import build_parser
from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.device_settings import full_float32
from hybridfusion_core.model import devices
from hybridfusion_core.model.devices import DEVICE_KINDS, OPENVINO, DeviceKind, available, resolve_device


def test_a_row_is_all_that_a_device_needs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(DEVICE_KINDS, "npu", DeviceKind("neural chip", lambda: 1, lambda _: "npu, Brand 3", "cpu"))
    assert ("npu", "npu, Brand 3") in [(device.name, device.title) for device in available()]
    assert resolve_device("npu") == "cpu"
    with pytest.raises(SystemExit):
        build_parser().parse_args(["info", "--help"])
    assert "npu: neural chip" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(UserInputError, match=r"expected auto, .*npu"):
        resolve_device("tpu")


def test_every_device_that_is_offered_can_be_resolved() -> None:
    for device in available():
        torch.device(resolve_device(device.name))


@pytest.mark.parametrize("installed", [True, False])
def test_auto_says_what_it_takes(monkeypatch: pytest.MonkeyPatch, installed: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(devices, "find_spec", lambda _: object() if installed else None)
    offered = {device.name: device.title for device in available()}
    assert ("OpenVINO" in offered["auto"]) == installed == (OPENVINO in offered)
    assert "PyTorch" in offered["cpu"]


@pytest.mark.parametrize("name", ["cuda:x", "cuda:-1", "cpu:0", "cuda:", "gpu", "cuda:99999999999"])
def test_what_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(UserInputError, match="evice"):
        resolve_device(name)


def test_float32_means_float32_on_cuda_and_the_settings_are_put_back() -> None:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = True
        with full_float32():
            assert (matmul.allow_tf32, cudnn.allow_tf32) == (False, False)
        assert (matmul.allow_tf32, cudnn.allow_tf32) == (True, True)
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def test_help_needs_neither_torch_nor_numpy() -> None:
    program = (
        "import sys; from hybridfusion_core.cli import main\n"
        "try: main(['fuse', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'numpy', 'pydantic', 'timm', 'zarr'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603
    assert shown.splitlines()[-1] == "[]"
