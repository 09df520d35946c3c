"""What `make demo` runs: mattes the sample clip with the default model and says where to look.

python pipelines/demo.py [--out FOLDER]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mam_video import Box, MamVideoError, Matted, Point, Prompt, RunReport, Settings, matte_clip
from mam_video.report.sheet import Row, row_of, save_sheet

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "samples" / "rabbit.mp4"
# A box, and a point on each ear: from the box alone the ears are taken for background (docs/measurements.md).
PROMPT = Prompt(Box(290, 44, 604, 620), (Point(345, 100), Point(430, 90)))
SHOWN = (0, 7, 15, 22)  # frames of the contact sheet


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "demo")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []

    def on_frame(matted: Matted, report: RunReport) -> None:
        if matted.frame.index in SHOWN:
            rows.append(row_of(matted))
        print(f"\rframe {len(report.records)}/23", end="", file=sys.stderr, flush=True)

    settings = Settings().with_values({"output": {"overwrite": True}}, "demo")
    outputs = [folder / "rabbit.mov", folder / "rabbit_over_green.mp4"]
    print(f"matting {CLIP.relative_to(ROOT)} with the model '{settings.model.name}', {PROMPT}")
    report = matte_clip(CLIP, outputs, PROMPT, settings, on_frame=on_frame)
    print(file=sys.stderr)
    sheet = folder / "contact_sheet.png"
    save_sheet(rows, sheet)
    report.save(folder / "run.json")

    print(report.summary())
    for found in report.flagged:
        print(f"flagged: {found}")
    print(f"look here first:    {sheet}\n  (plate with box, mask, alpha, over magenta, over dark)")
    print(f"ProRes 4444:        {outputs[0]}")
    print(f"preview over green: {outputs[1]}")
    print(f"one record a frame: {folder / 'run.json'}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MamVideoError as error:
        sys.exit(f"demo: {error}")
