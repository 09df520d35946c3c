"""Does the tracker know when it is wrong? States against truth on scripted clips (`testing/scripted_clips.py`).

    evaluate_states.py [--model lite] [--seeds 3 5] [--clips NAME ...] [--set KEY=VALUE] [--json OUT] [--sheet DIR]

A frame's subject is gone where less than 5 % of it is seen. Printed of each clip: mean J of the frames where it is
seen; "lost" said, and rightly; frames of J under 0.5, and those of them that are flagged; frames in which it is seen
with J of 0.7 and more, and those of them that are flagged; each time it came back, how many frames passed from the
first in which a fifth of it is seen to the next of J 0.5; frames that hold the look-alike and do not say so. What is
true of a frame in which less than a fifth is seen is a matter of pixels: "lost" counts there neither for nor against.
Over all clips: precision and recall of "lost", recall of flags on frames of J under 0.5, share of the good frames that
are flagged, and for what reasons.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from evaluate_davis import drawn, write_sheet

from mam_video import MamVideoError, Settings, load_model
from mam_video.core.settings import parse_value
from mam_video.models.base import Model
from mam_video.testing.judging import GOOD, WRONG, Figures, Judged, followed, mask_of, recovery
from mam_video.testing.scripted_clips import Script, Stage, scripts


def judge(script: Script, model: Model, settings: Settings, sheet: Path | None = None) -> list[Judged]:
    """Every frame of a clip, judged; and drawn on a contact sheet in the folder `sheet`."""
    judged, pictures = [], []
    for tracked, shot, frame in followed(script, model, settings):
        judged.append(frame)
        if sheet is not None:
            pictures.append(drawn(tracked, mask_of(tracked), shot.seen, frame.j))
    if sheet is not None:
        sheet.mkdir(parents=True, exist_ok=True)
        write_sheet(pictures, sheet / f"{script.name.replace(' ', '_')}.jpg", columns=6, most=36)
    return judged


def kinds(frame: Judged) -> str:
    """Return the codes of a frame's findings."""
    return "; ".join(str(finding.reason) for finding in frame.findings)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default=Settings().model.name)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--size", type=int, nargs=2, default=[270, 480], metavar=("H", "W"))
    parser.add_argument("--clips", nargs="+", metavar="NAME")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--json", type=Path, metavar="OUT")
    parser.add_argument("--sheet", type=Path, metavar="DIR")
    options = parser.parse_args()
    try:
        settings = Settings().with_values({"model": {"name": options.model}}, "--model")
        for given in options.set:
            key, _, value = given.partition("=")
            section, _, name = key.partition(".")
            settings = settings.with_values({section: {name: parse_value(value)}}, "--set")
        model = load_model(settings.model)
    except MamVideoError as error:
        print(f"evaluate_states: {error}", file=sys.stderr)
        return error.exit_code
    h, w = options.size
    total: dict[str, Figures] = {}
    told: dict[str, list[dict[str, object]]] = {}
    reasons: Counter[str] = Counter()
    print(
        f"{'clip':28} {'J':>6} {'gone':>5} {'lost':>5} {'true':>5} {'wrong':>6} {'said':>5} {'good':>6} {'said':>5}"
        "  back after"
    )
    for seed in options.seeds:
        for script in scripts(lambda number: Stage((h, w), number), seed):
            if options.clips and script.name not in options.clips:
                continue
            frames = judge(script, model, settings, options.sheet / str(seed) if options.sheet else None)
            f = Figures.of(frames)
            seen = [x.j for x in frames if not x.gone]
            name = f"{script.name} {seed}"
            total[name] = f
            told[name] = [asdict(x) for x in frames]
            reasons.update(kinds(x) for x in frames if x.good and x.state.flagged)
            again = ", ".join(map(str, recovery(frames)))
            swapped = f"  silently the look-alike: {f.swapped_silently}" if f.swapped_silently else ""
            print(
                f"{name:28} {sum(seen) / len(seen):6.3f} {f.gone:5d} {f.lost_said:5d} {f.lost_true:5d} {f.wrong:6d}"
                f" {f.wrong_flagged:5d} {f.good:6d} {f.good_flagged:5d}  {again}{swapped}",
                flush=True,
            )
            if options.json is not None:
                options.json.write_text(json.dumps(told, indent=1) + "\n")
    if not total:
        print("evaluate_states: no such clip", file=sys.stderr)
        return 2
    first, *rest = total.values()
    everything = sum(rest, first)
    print(
        f"lost: precision {everything.lost_precision:.3f}, recall {everything.lost_recall:.3f}; "
        f"flagged of J < {WRONG}: {everything.flag_recall:.3f}, "
        f"of J >= {GOOD}: {everything.good_flagged} of {everything.good} ({everything.false_flags:.3f}); "
        f"silently the look-alike: {everything.swapped_silently}"
    )
    for reason, count in reasons.most_common():
        print(f"{count:5d}  {reason}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
