"""Collect pictures for the report during a run. Their number and size are bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from mam_video.core.frames import Matted, Record, State
from mam_video.report.pictures import Picture, Snapshot
from mam_video.report.proposals import KEPT, Proposal, proposal
from mam_video.report.reach_back import FARTHEST, first_held, flagged_held

MOST: Final = 24  # maximum number of flagged pictures of a clip
MOST_EVEN: Final = 12  # maximum number of pictures evenly along the clip
_MOST_KEPT: Final = 16  # of these, while the clip's length is not known
_HELD: Final = 12  # frames held until they are shown or not: a later frame may flag them
_STAND: Final = 5  # default of `track.stand`

_Rank = tuple[int, int, float]


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture of one flagged frame of one subject.

    row       a record for each subject of the frame
    place     of the subject in the row
    begins    whether the frame is the first of a flagged range, where the error starts
    proposal  a box to correct it with; None if it needs to be drawn
    """

    row: tuple[Record, ...]
    place: int
    begins: bool
    proposal: Proposal | None
    picture: Picture = field(repr=False)

    @property
    def record(self) -> Record:
        """Return the record of the subject."""
        return self.row[self.place]


@dataclass(frozen=True, slots=True)
class _Frame:
    """A frame that may be shown: a record for each subject, and the function that makes its picture."""

    row: tuple[Record, ...]
    picture: Callable[[], Picture] = field(repr=False)

    @property
    def index(self) -> int:
        return self.row[0].index


class Thumbnails:
    """Collect pictures of the worst flagged frames, and of frames evenly along the clip.

    Each flagged range of a subject gives its first frame and the worst of the others. If there are more than `limit`,
    first frames rank before the others, lost frames before uncertain ones, and low scores before high ones. After a
    first frame that is lost another lost one tells nothing new: where the subject is found again ranks before it.

    A few frames are held before they are judged, because a later frame may flag them (`reach_back.py`).
    """

    def __init__(self, limit: int = MOST, stand: int = _STAND) -> None:
        """`stand` is `track.stand` of the run."""
        self._limit, self._stand = limit, stand
        self._held: deque[_Frame] = deque()
        self._subjects: list[_Subject] = []
        self._ranked: list[tuple[_Rank, Thumbnail]] = []  # best rank first
        self._even = _EvenFrames()

    def add(self, matted: Matted) -> None:
        """Add one frame. Frames must come in order."""
        snapshot = Snapshot.of(matted)
        self.add_row(snapshot.row, snapshot.encoded)

    def add_row(self, row: tuple[Record, ...], picture: Callable[[], Picture]) -> None:
        """Add one frame by a record for each subject, and by a function that makes its picture if it is shown."""
        frame = _Frame(row, picture)
        self._even.add(frame)
        self._held.append(frame)
        self._subjects = self._subjects or [_Subject() for _ in row]
        for place, subject in enumerate(self._subjects):
            subject.recent.append(row[place])
            self._flag_back(place, first_held(list(subject.recent), self._stand))
        while len(self._held) > _HELD:
            self._judge(self._held.popleft())

    @property
    def found(self) -> list[Thumbnail]:
        """Return the thumbnails of flagged frames in the order of the clip, those of one frame by subject."""
        while self._held:
            self._judge(self._held.popleft())
        return sorted((thumbnail for _, thumbnail in self._ranked), key=lambda t: (t.record.index, t.place))

    @property
    def even(self) -> list[tuple[tuple[Record, ...], Picture]]:
        """Return 8 to 12 frames evenly along the clip, all frames of a shorter clip: records and picture of each."""
        return [(frame.row, frame.picture()) for frame in self._even.chosen()]

    def _flag_back(self, place: int, count: int) -> None:
        """Flag the last `count` frames of a subject before the one that was added."""
        for k in range(len(self._held) - 2, len(self._held) - 2 - count, -1):
            if k < 0:
                break
            row = list(self._held[k].row)
            row[place] = flagged_held(row[place])
            self._held[k] = replace(self._held[k], row=tuple(row))
        if count:
            self._subjects[place].forget(self._held[-1].index - count)

    def _judge(self, frame: _Frame) -> None:
        """Keep a frame if it is among the worst."""
        for place, (subject, record) in enumerate(zip(self._subjects, frame.row, strict=True)):
            begins = record.flagged and not subject.flagged
            if begins:
                subject.worst, subject.begins_lost = None, record.state is State.LOST
            if record.flagged:
                rank = (0 if begins else 1, subject.rank_of(record, begins), record.score)
                if begins or subject.worst is None or rank < subject.worst:
                    self._insert(rank, frame, place, begins)
            else:
                subject.reliable.append((record, frame.row))
            subject.flagged = record.flagged

    def _insert(self, rank: _Rank, frame: _Frame, place: int, begins: bool) -> None:
        subject = self._subjects[place]
        if not begins:
            if subject.worst is not None:  # replaces a better frame of the same range
                self._ranked = [entry for entry in self._ranked if entry[0] is not subject.worst]
            subject.worst = rank
        if len(self._ranked) == self._limit and self._ranked[-1][0] <= rank:
            return
        box = subject.proposal(frame.row, place)
        self._ranked.append((rank, Thumbnail(frame.row, place, begins, box, frame.picture())))
        self._ranked.sort(key=lambda entry: entry[0])
        del self._ranked[self._limit :]


class _Subject:
    """What is remembered of one subject.

    recent       the latest records, as far as `reach_back` looks
    reliable     the latest records that are not flagged, each with the row that it is from
    flagged      whether the frame that was judged last is flagged
    worst        rank of the worst frame of the current range but for its first
    begins_lost  whether the current range begins with a lost frame
    """

    def __init__(self) -> None:
        self.recent: deque[Record] = deque(maxlen=FARTHEST + 1)
        self.reliable: deque[tuple[Record, tuple[Record, ...]]] = deque(maxlen=FARTHEST + KEPT)
        self.flagged = False
        self.worst: _Rank | None = None
        self.begins_lost = False

    def rank_of(self, record: Record, begins: bool) -> int:
        """Return the rank of a flagged frame by its state, the worst first."""
        if record.state is not State.LOST:
            return 1
        return 2 if self.begins_lost and not begins else 0

    def forget(self, index: int) -> None:
        """Rely no longer on frames from `index` on."""
        while self.reliable and self.reliable[-1][0].index >= index:
            self.reliable.pop()

    def proposal(self, row: tuple[Record, ...], place: int) -> Proposal | None:
        """Propose the box of a correction of the subject at `place` of a row."""
        if not self.reliable:
            return None
        others = [record.box for k, record in enumerate(self.reliable[-1][1]) if k != place]
        return proposal(row[place], [record for record, _ in self.reliable], others)


class _EvenFrames:
    """Keep frames evenly along a clip whose length is not known: where there are too many, every second one goes."""

    def __init__(self) -> None:
        self._kept: list[_Frame] = []
        self._last: _Frame | None = None
        self._count, self._step = 0, 1

    def add(self, frame: _Frame) -> None:
        if self._count % self._step == 0:
            self._kept.append(frame)
            if len(self._kept) > _MOST_KEPT:
                self._kept, self._step = self._kept[::2], 2 * self._step
        self._last = frame
        self._count += 1

    def chosen(self) -> list[_Frame]:
        """Return the frames to show: the first, the last, and some between them."""
        kept = [*self._kept, *([self._last] if self._last is not None and self._last is not self._kept[-1] else [])]
        if len(kept) <= MOST_EVEN:
            return kept
        first, last = kept[0].index, kept[-1].index
        wanted = [first + k * (last - first) / (MOST_EVEN - 1) for k in range(MOST_EVEN)]
        places = sorted({min(range(len(kept)), key=lambda k: abs(kept[k].index - index)) for index in wanted})
        return [kept[k] for k in places]
