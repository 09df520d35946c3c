"""Contact sheets of several subjects in one clip, for a check by eye: a shared crop and a crop for each.

    python pipelines/tools/sheet_subjects.py dog_720p2997_audio.mp4 --box woman=225,215,450,560 \
        --box dog=445,378,705,552 --frames 100 -o sheets

Writes sheets/shared.png and sheets/own.png. A row is a frame: the plate with boxes and states, then of each
subject its alpha and the cut-out over a colour. Prints which frames are flagged.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from mam_video import Matted, Prompt, Prompts, RunReport, Settings, load_model, matte_clip
from mam_video.core.geometry import Box
from mam_video.models.base import Model
from mam_video.report.sheet import Row, over_colour, save_sheet

WIDTH = 400  # pixels, of one picture
BOX, FLAGGED = (90, 220, 255), (255, 80, 60)
BEHIND = (232, 60, 200)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--box", action="append", required=True, metavar="NAME=X0,Y0,X1,Y1", help="on the first frame")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--rows", type=int, default=12, help="frames shown, spread evenly")
    parser.add_argument("--way", action="append", choices=("shared", "own"), help="one of the two alone")
    parser.add_argument("--model", default="lite")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args(arguments)
    prompts = []
    for text in options.box:
        name, _, corners = text.partition("=")
        prompts.append(Prompts.of({0: Prompt(Box(*map(float, corners.split(","))))}, name))
    options.output.mkdir(parents=True, exist_ok=True)
    shown = set(np.linspace(0, options.frames - 1, min(options.rows, options.frames)).round().astype(int).tolist())
    model = load_model(options.model)
    for way in options.way or ("shared", "own"):
        rows, report = _rows(options.clip, prompts, model, way, options.frames, shown)
        path = options.output / f"{way}.png"
        save_sheet(rows, path)
        flagged = "; ".join(found.message(report.clip.numbers, None) for found in report.flagged) or "none"
        print(f"wrote {path}: {len(report.records)} frames, {report.fps:.2f} fps; flagged: {flagged}", flush=True)


def _rows(
    clip: Path, prompts: Sequence[Prompts], model: Model, way: str, frames: int, shown: set[int]
) -> tuple[list[Row], RunReport]:
    """Matte the first frames of a clip, and draw those that are `shown`."""
    settings = Settings().with_values(
        {"view": {"subjects": way}, "model": {"name": model.name}, "output": {"verify": False}}, "--way"
    )
    rows: list[Row] = []

    def draw(matted: Matted, _: RunReport) -> None:
        if matted.frame.index in shown:
            rows.append(_row(matted))

    with tempfile.TemporaryDirectory(prefix="mam-video-") as folder:
        report = matte_clip(
            clip, f"{folder}/m.mp4", list(prompts), settings, model=model, frames=(0, frames - 1), on_frame=draw
        )
    return rows, report


def _row(matted: Matted) -> Row:
    plate = matted.frame.rgb8.copy()
    pictures = []
    for k, part in enumerate(matted.parts or (matted,)):
        record = part.record
        colour = FLAGGED if record.flagged else BOX
        x0, y0, x1, y1 = (round(v) for v in record.box.xyxy)
        cv2.rectangle(plate, (x0, y0), (x1, y1), colour, 3)
        label = f"{record.index} {record.subject} {record.state}"
        cv2.putText(plate, label, (10, 40 + 45 * k), cv2.FONT_HERSHEY_SIMPLEX, 1.3, colour, 3, cv2.LINE_AA)
        grey = np.rint(part.alpha * 255).astype(np.uint8)
        pictures += [np.repeat(grey[..., None], 3, axis=2), over_colour(part.frame, part.alpha, BEHIND)]
    h, w = matted.frame.size
    size = (WIDTH, round(h * WIDTH / w))
    return Row(tuple(cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in (plate, *pictures)))


if __name__ == "__main__":
    main()
