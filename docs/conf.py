"""Sphinx builds the site from these pages: `make docs`. It asks nothing of the network, and neither do its pages."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from docstrings import as_rst  # noqa: E402
from reference_pages import write_pages  # noqa: E402

project = "mam-video"
author = "The mam_video authors"
copyright = f"2026, {author}"
version = release = installed("mam-video")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build", "notebooks"]
root_doc = "index"
highlight_language = "text"
default_role = "code"
smartquotes = False  # two hyphens are an option, not a dash
maximum_signature_line_length = 80

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True

html_theme = "furo"
html_title = f"mam-video {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False


def setup(app: Any) -> None:
    write_pages(HERE)
    app.connect("autodoc-process-docstring", _plain_docstring)


def _plain_docstring(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = as_rst(lines)
