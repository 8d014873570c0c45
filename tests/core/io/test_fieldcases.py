"""Inputs rebuilt from public reports of trouble, where the shared folder of them is there: read rightly, or refused.

`HYBRIDFUSION_FIELDCASES` names the folder; without it, the one beside the repository is taken.
"""

import importlib.util
import json
import os
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[3]
_FOLDER = Path(os.environ.get("HYBRIDFUSION_FIELDCASES", _ROOT.parent / "shared" / "data" / "fieldcases"))
_NOT_HERE = ("plate", "content")  # tested with plates, and with fusion


def cases() -> list[Path]:
    found = sorted(_FOLDER.glob("*/case.json"))
    return [path.parent for path in found if json.loads(path.read_text())["kind"] not in _NOT_HERE]


@pytest.mark.skipif(not cases(), reason="no folder of field cases")
@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_what_people_really_have_is_read_rightly_or_refused(case: Path, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("fieldcases", _ROOT / "benchmarks" / "fieldcases.py")
    assert spec is not None
    assert spec.loader is not None
    fieldcases = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fieldcases)
    assert fieldcases.wrongs(case, tmp_path) == []
