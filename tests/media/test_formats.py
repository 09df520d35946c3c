"""The table of formats: its rows agree with each other, with what is written, and with docs/formats.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from mam_video.media import kinds, parse_output
from mam_video.media.formats import OutputFormat, markdown_table
from mam_video.media.open import is_resumable
from tests.media.contracts import named

DOCS = Path(__file__).resolve().parents[2] / "docs" / "formats.md"


@pytest.mark.parametrize("row", kinds(), ids=lambda row: row.name)
def test_a_row_agrees_with_itself(row: OutputFormat) -> None:
    assert (row.codec is not None) == (row.writer == "movie")
    assert (row.encoder is not None) == (row.writer == "sequence")
    assert row.resumable == (row.alpha_slack is not None)  # codecs whose pictures stand alone are those near enough
    assert not (row.display_referred and (row.carries_tags or row.scene_linear))
    assert row.bytes_per_pixel > 0 and row.says and row.colour and row.alpha
    for suffix in row.suffixes:
        name, found = parse_output(named(row, "matte", suffix))
        assert found is row and is_resumable(f"{name}:{row.name}") == row.resumable


def test_the_documentation_has_the_table() -> None:
    text = DOCS.read_text(encoding="utf-8")
    _, _, rest = text.partition("markdown_table -->\n")
    table, end, _ = rest.partition("<!-- formats: end -->")
    assert end and table == markdown_table(), f"put this into docs/formats.md:\n{markdown_table()}"
