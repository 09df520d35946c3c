"""Begin a job, or go on with one that was cut off."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from mam_video.core.errors import UsageError
from mam_video.farm.folder import JobFolder, plan_in
from mam_video.farm.plan import JobPlan
from mam_video.farm.task import outputs_of
from mam_video.jobs.checkpoint import refuse_checkpoint
from mam_video.media import Reader, open_writers
from mam_video.media.open import checkpoint_place, is_resumable
from mam_video.runtime.commit import in_use


def start_job(plan: JobPlan, reader: Reader, *, resume: bool) -> JobFolder:
    """Return the folders of a job that may run now.

    Raises: UsageError, its outputs exist, another job writes them, or this one was cut off and `resume` is not given.
    """
    folder = JobFolder.of(plan, reader.info, outputs_of(plan).names)
    standing = [place for place in folder.places if plan_in(place) is not None]
    if standing and not (standing[0] / "joined").exists():
        if any(in_use(place / "lock") for place in standing):
            raise UsageError(f"{standing[0]}: a job writes this output now; wait for it, or choose another name")
        same = all(there is None or there.id == plan.id for there in map(plan_in, folder.places))
        if resume and (same or not plan.settings.output.overwrite):
            folder.claim()
            return folder
        if not plan.settings.output.overwrite:
            raise UsageError(
                f"{standing[0]}: a run was cut off here: --resume goes on with it, --overwrite begins anew"
            )
    folder.discard()
    check_outputs(plan, reader)
    return folder


def check_outputs(plan: JobPlan, reader: Reader) -> None:
    """Check that every output can be written: the names are free, the kinds fit the clip. Nothing is left there.

    Raises: UsageError or MediaError, as `open_writers`.
    """
    outputs, output = outputs_of(plan), plan.settings.output
    places = [checkpoint_place(name, reader.info, plan.part) for name in outputs.names if is_resumable(name)]
    refuse_checkpoint(places, output.overwrite)
    for track in outputs.tracks.values():
        if Path(track).exists() and not output.overwrite:
            raise UsageError(f"{track}: exists already; give another name or --overwrite")
    with ExitStack() as stack:
        outputs.make_folders(stack)
        open_writers(
            outputs.names, reader.info, output, part=plan.part is not None, frames=plan.part,
            subjects=outputs.subjects, whose=outputs.whose,
        ).abort()  # fmt: skip
