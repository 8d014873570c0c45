"""The report of a large plate in a real browser: it shows, and nothing in it runs."""

import shutil
import subprocess
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from test_report import HOSTILE, a_plate, written

from hybridfusion_core.batch.report.write import write_reports

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
DONE, FAILED = (0x4C, 0x9A, 0x5F), (0xC0, 0x39, 0x2B)


def browse(page: Path, tmp_path: Path, *options: str) -> bytes:
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    size = ["--window-size=1500,900", "--hide-scrollbars"]
    done = subprocess.run(  # noqa: S603  (our own page)
        [*map(str, command), *size, *options, page.as_uri()], capture_output=True, timeout=120, check=True
    )
    return done.stdout


@pytest.mark.slow
def test_the_page_of_1536_wells_shows_every_well_and_runs_nothing(tmp_path: Path) -> None:
    plate = a_plate(32, 48)
    paths, result = written(plate, tmp_path, failed=5)
    write_reports(plate, result)
    page = paths.folder / "report.html"
    browse(page, tmp_path, f"--screenshot={tmp_path / 'page.png'}")
    shown = imagecodecs.png_decode((tmp_path / "page.png").read_bytes())[..., :3]
    assert shown.shape == (900, 1500, 3)
    # A cell is 8 × 8 px with round corners, and every color is once in the legend.
    for color, count in ((DONE, 1531), (FAILED, 5)):
        pixels = int(np.all(shown == color, axis=-1).sum())
        assert 40 * count < pixels < 64 * count + 200
    body = browse(page, tmp_path, "--dump-dom").decode()
    assert f"<h1>{HOSTILE.replace('<', '&lt;').replace('>', '&gt;')}</h1>" in body
    assert "<script" not in body
