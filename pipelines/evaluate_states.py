"""Does the tracker know when it is wrong? States against truth on scripted clips (`tests/scripted.py`).

    evaluate_states.py [--model lite] [--seeds 3 5] [--clips NAME ...] [--set KEY=VALUE] [--json OUT] [--sheet DIR]

A frame's subject is gone where less than 5 % of it is seen. Printed of each clip: mean J of the frames where it is
seen; "lost" said, and rightly; frames of J under 0.5, and those of them that are flagged; the other frames, and those
of them that are flagged; each time it came back, how many frames passed from the first in which a fifth of it is seen
to the next of J 0.5; frames that hold the look-alike and do not say so. What is true of a frame in which less than a
fifth is seen is a matter of pixels: "lost" counts there neither for nor against. Over all clips: precision and recall
of "lost", recall of flags on frames of J under 0.5.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from evaluate_davis import drawn, mask_of, region_j, tight_box, write_sheet

from mam_video import MamVideoError, Settings, load_model
from mam_video.frames import State
from mam_video.models.base import Model
from mam_video.motion import with_motion
from mam_video.prompts import Prompt
from mam_video.settings import parse_value
from mam_video.track import track
from tests.scripted import Script, Stage, scripts

GONE, SEEN = 0.05, 0.2  # shares of the subject
WRONG = 0.5  # J


@dataclass(frozen=True, slots=True)
class Judged:
    """A frame: what was said of it, and what is true.

    other  J with the look-alike
    """

    state: State
    j: float
    share: float
    other: float
    reasons: tuple[str, ...]

    @property
    def gone(self) -> bool:
        return self.share < GONE

    @property
    def wrong(self) -> bool:
        return self.j < WRONG


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts of frames, so that clips can be added up. Prompted frames do not count."""

    lost_said: int  # of those that are gone or of which a fifth is seen
    lost_true: int
    gone: int
    wrong: int
    wrong_flagged: int
    right: int
    right_flagged: int
    swapped_silently: int

    @classmethod
    def of(cls, frames: Iterable[Judged]) -> Figures:
        judged = [f for f in frames if f.state is not State.PROMPTED]
        lost = [f for f in judged if f.state is State.LOST and (f.gone or f.share >= SEEN)]
        wrong, right = [f for f in judged if f.wrong], [f for f in judged if not f.wrong]
        return cls(
            len(lost), sum(f.gone for f in lost), sum(f.gone for f in judged),
            len(wrong), sum(f.state.flagged for f in wrong), len(right), sum(f.state.flagged for f in right),
            sum(f.other > max(f.j, WRONG) and not f.state.flagged for f in judged),
        )  # fmt: skip

    def __add__(self, more: Figures) -> Figures:
        ours, theirs = asdict(self), asdict(more)
        return Figures(**{key: ours[key] + theirs[key] for key in ours})

    @property
    def lost_precision(self) -> float:
        return self.lost_true / self.lost_said if self.lost_said else 1.0

    @property
    def lost_recall(self) -> float:
        return self.lost_true / self.gone if self.gone else 1.0

    @property
    def flag_recall(self) -> float:
        return self.wrong_flagged / self.wrong if self.wrong else 1.0

    @property
    def flag_precision(self) -> float:
        said = self.wrong_flagged + self.right_flagged
        return self.wrong_flagged / said if said else 1.0


def judge(script: Script, model: Model, settings: Settings, sheet: Path | None = None) -> list[Judged]:
    """Follow a scripted clip from the true box of its first frame."""
    shots = script.shots()
    first = next(shots)
    followed = track(
        with_motion(script.frames(), settings.motion),
        model,
        Prompt(tight_box(first.seen)),
        settings=settings.track,
        view=settings.view,
        batch=settings.model.batch or 1,
    )
    judged, pictures = [], []
    for tracked, shot in zip(followed, script.shots(), strict=True):
        mask = mask_of(tracked)
        j = region_j(mask, shot.seen)
        other = region_j(mask, shot.other) if shot.other.any() else 0.0
        judged.append(Judged(tracked.record.state, j, shot.share, other, tracked.record.reasons))
        if sheet is not None:
            pictures.append(drawn(tracked, mask, shot.seen, j))
    if sheet is not None:
        sheet.mkdir(parents=True, exist_ok=True)
        write_sheet(pictures, sheet / f"{script.name.replace(' ', '_')}.jpg", columns=6, most=36)
    return judged


def recovery(frames: list[Judged]) -> list[int]:
    """Of each time the subject was gone and came back: frames from the first in which a fifth of it is seen to the
    next that is not wrong; the rest of the clip where there is none."""
    waits = []
    gone = False
    for index, frame in enumerate(frames):
        if gone and frame.share >= SEEN:
            gone = False
            rest = frames[index:]
            waits.append(next((k for k, f in enumerate(rest) if not f.wrong and f.state is not State.LOST), len(rest)))
        gone = gone or frame.gone
    return waits


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
    print(
        f"{'clip':28} {'J':>6} {'gone':>5} {'lost':>5} {'true':>5} {'wrong':>6} {'said':>5} {'right':>6} {'said':>5}"
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
            again = ", ".join(map(str, recovery(frames)))
            swapped = f"  silently the look-alike: {f.swapped_silently}" if f.swapped_silently else ""
            print(
                f"{name:28} {sum(seen) / len(seen):6.3f} {f.gone:5d} {f.lost_said:5d} {f.lost_true:5d} {f.wrong:6d}"
                f" {f.wrong_flagged:5d} {f.right:6d} {f.right_flagged:5d}  {again}{swapped}",
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
        f"of the rest {everything.right_flagged} of {everything.right}; "
        f"silently the look-alike: {everything.swapped_silently}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
