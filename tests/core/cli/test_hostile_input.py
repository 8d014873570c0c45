"""Broken and hostile input through the command line: status 2, found, expected and cure, and nothing left behind."""

import re
from pathlib import Path

import pytest
from hostile_files import CASES, refused


@pytest.mark.parametrize("name", CASES)
def test_broken_input_is_refused_with_a_message_and_leaves_nothing(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, message = CASES[name]
    made = make(tmp_path)
    line = refused(tmp_path, capsys, [made] if isinstance(made, str) else made)
    assert re.search(message, line), line


def test_there_are_at_least_sixty_cases() -> None:
    assert len(CASES) >= 60
