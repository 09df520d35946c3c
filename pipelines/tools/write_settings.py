"""Write configs/default.toml and docs/settings.md; run it after a change of mam_video/core/sections.py.

python pipelines/tools/write_settings.py
"""

from __future__ import annotations

from pathlib import Path

from mam_video.cli.settings_text import default_toml, settings_page

ROOT = Path(__file__).resolve().parent.parent.parent


def texts() -> dict[Path, str]:
    """The files and what they should hold."""
    return {ROOT / "configs" / "default.toml": default_toml(), ROOT / "docs" / "settings.md": settings_page()}


if __name__ == "__main__":
    for path, text in texts().items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")
