"""Numbers with their units, for people to read."""

from __future__ import annotations


def readable(size: int) -> str:
    """Format a number of bytes with three digits."""
    value = float(size)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"
