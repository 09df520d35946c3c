"""Scores drawn over time, one panel a metric. Needs matplotlib, of the optional dependencies `evaluate`."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mam_video.core.errors import MediaError, need_extra

_INK, _FAINT = "#333333", "#d8d8d8"
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # told apart by the colour-blind too


def need_plot() -> None:
    """Raises UsageError where matplotlib is not installed: to be asked before long work."""
    need_extra("matplotlib", "evaluate", "drawing")


def draw_scores(
    path: Path,
    clips: Mapping[str, Mapping[str, Sequence[float]]],
    labels: Mapping[str, str],
    marked: Sequence[tuple[str, int]] = (),
    title: str = "",
) -> None:
    """Draw a PNG (or SVG or PDF, by the name) of metrics over frames.

    Args:
        clips: metric -> a value a frame (NaN leaves a gap), by clip; all have the same metrics.
        labels: what to write beside each metric's panel.
        marked: clip and 0-based place of frames to mark with a dot.
    Raises: UsageError, no matplotlib; MediaError, the file cannot be written.
    """
    need_plot()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    metrics = list(next(iter(clips.values())))
    figure = Figure(figsize=(9, 0.9 + 1.5 * len(metrics)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(metrics), 1, sharex=True, squeeze=False)[:, 0]
    told_apart = len(clips) <= len(_COLOURS)
    for panel, metric in zip(panels, metrics, strict=True):
        for (name, values), colour in zip(clips.items(), _COLOURS * (len(clips) // len(_COLOURS) + 1), strict=False):
            series = np.asarray(values[metric], np.float64)
            colour = colour if told_apart else "#9a9a9a"
            marker = "." if len(series) <= 2 else None
            panel.plot(np.arange(len(series)), series, color=colour, lw=1.3, marker=marker, label=name or None)
            places = [i for clip, i in marked if clip == name]
            panel.plot(places, series[places], "o", ms=4, color=colour if told_apart else _COLOURS[1])
        panel.set_ylabel(labels.get(metric, metric), color=_INK)
        panel.grid(axis="y", color=_FAINT, lw=0.6)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(colors=_INK)
        panel.margins(x=0.01)
        panel.set_ylim(bottom=min(0, panel.get_ylim()[0]))
    panels[-1].set_xlabel("frame", color=_INK)
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    if title:
        panels[0].set_title(title, loc="left", fontsize=10, color=_INK)
    if told_apart and len(clips) > 1:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    beside = path.with_name(f".{path.name}.part-{secrets.token_hex(4)}")
    try:
        figure.savefig(beside, dpi=110, format=path.suffix.lstrip(".").lower() or "png")
        beside.replace(path)
    except (OSError, ValueError) as error:
        beside.unlink(missing_ok=True)
        raise MediaError(f"{path}: cannot be drawn ({error})") from error
