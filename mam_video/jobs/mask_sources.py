"""What a run is asked of a clip: which frames, and what says where the subject is in them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mam_video.core.errors import UsageError
from mam_video.core.ranges import FrameRange
from mam_video.core.settings import Settings, SmoothSettings
from mam_video.jobs.external_masks import track_masks
from mam_video.media import Reader
from mam_video.media.mask_reader import Masks
from mam_video.models.base import Model
from mam_video.motion.shot_detection import CutFinder
from mam_video.prompts.prompt import DEFAULT_SUBJECT, Prompt, Prompts
from mam_video.runtime.stage_timer import StageTimer
from mam_video.tracking.bidirectional import track_prompts
from mam_video.tracking.track_file import Track, TrackWriter
from mam_video.tracking.types import MaskObservation


def tail(frames: FrameRange, smooth: SmoothSettings, batch: int) -> int | None:
    """One past the frame to end with so that the last one comes out as in the whole clip; None: at its end."""
    if frames.last is None:
        return None
    reach = frames.last + smooth.radius if smooth.strength > 0 else frames.last
    return (reach // batch + 1) * batch


def lead(index: int, smooth: SmoothSettings, batch: int) -> int:
    """The frame to begin with so that `index` comes out as in the whole clip: its batch, and what smoothing sees.

    One frame more, since motion is measured from the frame before.
    """
    reach = index - smooth.radius if smooth.strength > 0 else index
    return max(reach // batch * batch - 1, 0)


@dataclass(frozen=True, kw_only=True)
class MaskSource:
    """What says where the subject is. Exactly one of these is given:

    prompt   of one subject, in the first frame: it is tracked and matted in one pass over the clip
    prompts  of one subject, in several frames or a later one: all is tracked first and matted in a second pass
    each     of several subjects, by name, in the first frame
    track    a track file
    masks    made elsewhere, of every frame
    trimaps  likewise

    subjects  the names of all
    """

    subjects: tuple[str, ...]
    prompt: Prompt | None = None
    prompts: Prompts | None = None
    each: Mapping[str, Prompt] = field(default_factory=dict)
    track: str | Path | None = None
    masks: str | Path | None = None
    trimaps: str | Path | None = None

    @classmethod
    def of(
        cls,
        prompt: Prompt | Prompts | Sequence[Prompts] | None,
        span: FrameRange,
        *,
        size: tuple[int, int],
        backward: bool = False,
        track: str | Path | None = None,
        masks: str | Path | None = None,
        trimaps: str | Path | None = None,
    ) -> MaskSource:
        """Tell apart what was given; `size` is (H, W) of the clip, `backward` and the others as for `matte_clip`.

        Raises: UsageError, nothing was given or two things; a prompt lies outside the frame or the span, or none is on
            its first frame.
        """
        ways = {"a prompt": prompt or None, "--track": track, "--masks": masks, "--trimaps": trimaps}
        given = [name for name, way in ways.items() if way is not None]
        if not given:
            raise UsageError("no prompt: give a box or points on the first frame, or a saved track")
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} both say where the subject is; give one of them")
        if isinstance(prompt, Prompt):
            prompt.check_inside(size)
            return cls(subjects=(DEFAULT_SUBJECT,), prompt=prompt)
        if prompt is None:
            return cls(subjects=(DEFAULT_SUBJECT,), track=track, masks=masks, trimaps=trimaps)
        several = [prompt] if isinstance(prompt, Prompts) else list(prompt)
        names = tuple(prompts.subject for prompts in several)
        if len(set(names)) < len(names):
            raise UsageError("two subjects have one name; give each its own")
        for prompts in several:
            prompts.check_inside(size)
        if len(several) > 1:
            return cls(subjects=names, each=_on_first(several, span.start))
        (one,) = several
        _check_places(one, span, backward)
        if one.frames == (span.start,):
            return cls(subjects=names, prompt=one[span.start])
        return cls(subjects=names, prompts=one)

    @property
    def by_hand(self) -> str | Path | None:
        """The masks or trimaps."""
        return self.masks if self.masks is not None else self.trimaps

    def described(self) -> str:
        """All prompts in a line."""
        if self.prompts is not None:
            return "; ".join(f"{index}: {prompt}" for index, prompt in self.prompts.entries)
        return "none" if self.prompt is None else str(self.prompt)

    @contextmanager
    def tracked_ahead(
        self,
        reader: Reader,
        span: FrameRange,
        model: Model,
        settings: Settings,
        *,
        part: bool,
        batch: int,
        masks: Masks | None,
        cuts: CutFinder,
        clock: StageTimer,
        keep: Path | None = None,
        on_tracked: Callable[[], None] | None = None,
    ) -> Iterator[Track | None]:
        """The track of masks, or of prompts that take two passes, open as long as this lasts; of others None.

        Args:
            part: whether `span` was asked for; of a whole clip every frame needs a mask.
            batch: frames embedded at once.
            masks: those of `by_hand`, opened.
            cuts, clock, on_tracked: as for `track_prompts`.
            keep: a file where a track of two passes is left, and taken from where it lies there whole.
        """
        if self.prompts is None and masks is None:
            yield None
            return
        with tempfile.TemporaryDirectory(prefix="mam-video-") as name:
            path = keep or Path(name) / "ahead.track"
            stop = tail(span, settings.smooth, batch)
            if masks is not None:
                path.unlink(missing_ok=True)
                stop = _check_masks(masks, reader, span, stop, part)
                track_masks(reader, masks, path, settings, cuts, trimaps=self.masks is None, stop=stop)
            elif self.prompts is not None and not path.exists():
                reader.index_for_random_access()
                with TrackWriter(path, reader.info.size, model, settings.as_dict()) as writer:
                    found = track_prompts(
                        reader.frames, self.prompts, model, settings, Path(name), first=span.start, stop=stop,
                        cuts=cuts, batch=batch, clock=clock, on_frame=on_tracked,
                    )  # fmt: skip
                    _write(found, writer)
            with Track.load(path, reader.info.size) as track:
                yield track


def _write(found: Generator[MaskObservation, None, None], writer: TrackWriter) -> None:
    with closing(found):
        for record, view, logits, _ in found:
            writer.write_found(record, view, logits)


def _on_first(several: Sequence[Prompts], first: int) -> dict[str, Prompt]:
    """The prompts of several subjects. Raises: UsageError, one is not on the first frame alone."""
    for prompts in several:
        if prompts.frames != (first,):
            where = ", ".join(map(str, prompts.frames))
            raise UsageError(
                f"subject '{prompts.subject}' has prompts on frames {where} (by index): {len(several)} subjects are "
                f"followed from frame {first} alone; prompt each there, or give '{prompts.subject}' a run of its own"
            )
    return {prompts.subject: prompts[first] for prompts in several}


def _check_places(prompts: Prompts, span: FrameRange, backward: bool) -> None:
    """Raises: UsageError, a prompt lies outside the span, or nothing leads to its first frame."""
    for index in prompts.frames:
        if index not in span:
            raise UsageError(f"prompt on frame {index}: lies outside the range {span} (by index) that is asked for")
    if prompts.frames[0] > span.start and not backward:
        raise UsageError(
            f"frame {span.start} has no prompt, the first is on frame {prompts.frames[0]} (by index): give one there, "
            "or --backward to track back to it"
        )


def _check_masks(masks: Masks, reader: Reader, span: FrameRange, stop: int | None, part: bool) -> int | None:
    """One past the last frame whose mask is needed. Raises: UsageError, the span asks for frames without one."""
    if masks.stop is not None and part:  # of a whole clip every frame needs one
        stop = masks.stop if stop is None else min(stop, masks.stop)
    beyond = masks.stop is not None and span.last is not None and span.last >= masks.stop
    if span.start < masks.first or beyond:
        first, last = (reader.info.frame_number(k) for k in (masks.first, (masks.stop or masks.first + 1) - 1))
        raise UsageError(f"{masks.option} {masks.source}: are of frames {first}-{last}; give a --range among them")
    return stop
