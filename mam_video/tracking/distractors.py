"""Contacts between the subject and a distractor that resembles it."""

from __future__ import annotations

from dataclasses import dataclass

from mam_video.core.geometry import Box


@dataclass(slots=True)
class DistractorContact:
    """A subject and a look-alike that touch.

    centre, speed  of the subject when it began, in frame pixels
    other          where the look-alike was when they last touched
    apart          what is likely the look-alike has been seen apart since: no more cause to look
    """

    centre: tuple[float, float]
    speed: tuple[float, float]
    other: Box
    apart: bool = False
    frames: int = 0

    @property
    def expected(self) -> tuple[float, float]:
        """Where the subject should be by now."""
        return self.centre[0] + self.frames * self.speed[0], self.centre[1] + self.frames * self.speed[1]
