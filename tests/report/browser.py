"""A headless Chromium, where the machine has one."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def opened(page: Path, script: str = "") -> tuple[str, str]:
    """The page's elements as text, once its scripts have run (`script` last), and the console's lines.

    What the page's own rule forbids, every request to elsewhere, is a line in the console. The network's log would not
    tell: the browser asks its maker for things of its own. Skips the test where there is no Chromium.
    """
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        pytest.skip(f"no Chromium here: none of {', '.join(CHROMIUM)} is on the PATH")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "page.html"
        text = page.read_text(encoding="utf-8")
        copy.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
        done = subprocess.run(
            [
                program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                f"--user-data-dir={folder}/profile", "--enable-logging=stderr",
                "--virtual-time-budget=3000", "--dump-dom", copy.as_uri(),
            ],
            capture_output=True, text=True, encoding="utf-8", timeout=120, check=True,
        )  # fmt: skip
    return done.stdout, "\n".join(re.findall(r".*CONSOLE.*", done.stderr))
