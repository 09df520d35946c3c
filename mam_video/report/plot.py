"""Plot scores over time, one panel per metric. Needs matplotlib, which the extra `evaluate` installs."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mam_video.core.errors import MediaError, need_extra

_INK, _FAINT = "#333333", "#d8d8d8"
# Colour-blind readers can distinguish these.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def need_plot() -> None:
    """Check that matplotlib is installed. Call it before long work.

    Raises: UsageError, matplotlib is missing.
    """
    need_extra("matplotlib", "evaluate", "drawing")


def draw_scores(
    path: Path,
    clips: Mapping[str, Mapping[str, Sequence[float]]],
    labels: Mapping[str, str],
    marked: Sequence[tuple[str, int]] = (),
    title: str = "",
) -> None:
    """Plot metrics over frames into a PNG, SVG or PDF, chosen by the suffix of `path`.

    Args:
        clips: by clip name: metric -> one value per frame (NaN leaves a gap). All clips have the same metrics.
        labels: the axis label of each metric.
        marked: clip name and 0-based index of the frames to mark with a dot.
        title: the title of the figure; empty for none.
    Raises: UsageError, matplotlib is missing; MediaError, the file cannot be written.
    """
    need_plot()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    metrics = list(next(iter(clips.values())))
    figure = Figure(figsize=(9, 0.9 + 1.5 * len(metrics)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(metrics), 1, sharex=True, squeeze=False)[:, 0]
    distinct = len(clips) <= len(_COLOURS)
    for panel, metric in zip(panels, metrics, strict=True):
        for (name, values), colour in zip(clips.items(), _COLOURS * (len(clips) // len(_COLOURS) + 1), strict=False):
            series = np.asarray(values[metric], np.float64)
            colour = colour if distinct else "#9a9a9a"
            marker = "." if len(series) <= 2 else None
            panel.plot(np.arange(len(series)), series, color=colour, lw=1.3, marker=marker, label=name or None)
            marks = [i for clip, i in marked if clip == name]
            panel.plot(marks, series[marks], "o", ms=4, color=colour if distinct else _COLOURS[1])
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
    if distinct and len(clips) > 1:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    temporary = path.with_name(f".{path.name}.part-{secrets.token_hex(4)}")
    try:
        figure.savefig(temporary, dpi=110, format=path.suffix.lstrip(".").lower() or "png")
        temporary.replace(path)
    except (OSError, ValueError) as error:
        temporary.unlink(missing_ok=True)
        raise MediaError(f"{path}: cannot be drawn ({error})") from error
