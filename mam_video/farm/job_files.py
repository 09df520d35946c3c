"""Write a job for render managers: each task is a call of `mam-video task`, and the plan travels in the file.

openjd   a job template of Open Job Description 2023-09 (JSON, which is YAML too): `openjd run`, Deadline Cloud
slurm    a shell script that submits three jobs with `sbatch`: an array for the chunks
opencue  a job specification in OpenCue's XML, for `opencue.api.launchSpec`
"""

from __future__ import annotations

import base64
import getpass
import json
import os
import re
import shlex
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from mam_video.core.errors import UsageError
from mam_video.core.tables import suggestion
from mam_video.farm.plan import JobPlan, chunks_of
from mam_video.farm.task import JOIN, MATTE, TRACK

_INLINE: Final = "data:"  # before a plan that is given in place of its file's name
_MOST_EMBEDDED: Final = 32 * 1024  # characters of a file in an OpenJD template
_MOST_INLINE: Final = 96 * 1024  # of a command line's argument
_CUE: Final = (
    '<?xml version="1.0"?>\n'
    '<!DOCTYPE spec PUBLIC "SPI Cue  Specification Language" '
    '"http://localhost:8080/spcue/dtd/cjsl-1.10.dtd">\n'
)


def job_file(plan: JobPlan, manager: str, strict: bool = False) -> str:
    """Return the text of a job file.

    Args:
        manager: one of `MANAGERS`.
        strict: the join ends with code 3 where frames were flagged.
    Raises: UsageError, the manager is unknown, or the plan is too large for its file.
    """
    if manager not in MANAGERS:
        hint = suggestion(manager, MANAGERS)
        raise UsageError(f"--for {manager}: no such render manager; {hint}choose one of: {', '.join(MANAGERS)}")
    return MANAGERS[manager](plan, ["--strict"] if strict else [])


def openjd_template(plan: JobPlan, at_end: list[str]) -> str:
    """Return an OpenJD job template."""
    text = json.dumps(plan.as_dict(), indent=1)  # over lines: two braces side by side mean a variable here
    if len(text) > _MOST_EMBEDDED or "{{" in text or "}}" in text:
        raise UsageError(
            f"{plan.source}: the plan is too large for an OpenJD template, or a name in it has two braces; give the "
            "subject as a saved track: --track"
        )
    steps = [_step("Track", ["track"], plan, text)] if plan.tracks else []
    matte = _step("Matte", ["matte", "{{Task.Param.Frames}}"], plan, text, after="Track" if plan.tracks else None)
    matte["parameterSpace"] = {
        "taskParameterDefinitions": [
            {
                "name": "Frames",
                "type": "CHUNK[INT]",
                "range": plan.called(plan.frames),
                "chunks": {"defaultTaskCount": "{{Param.FramesPerTask}}", "rangeConstraint": "CONTIGUOUS"},
            }
        ]
    }
    template = {
        "specificationVersion": "jobtemplate-2023-09",
        "extensions": ["TASK_CHUNKING"],
        "name": _job_name(plan),
        "parameterDefinitions": [
            {
                "name": "Program",
                "type": "STRING",
                "default": "mam-video",
                "description": "The program on the machines that run tasks.",
            },
            {
                "name": "FramesPerTask",
                "type": "INT",
                "minValue": 1,
                "default": plan.chunk,
                "description": "Frames that a task mattes at a time.",
            },
        ],
        "steps": [*steps, matte, _step("Join", ["join", *at_end], plan, text, after="Matte")],
    }
    return json.dumps(template, indent=2) + "\n"


def _step(name: str, arguments: list[str], plan: JobPlan, text: str, after: str | None = None) -> dict[str, Any]:
    amounts = [{"name": "amount.worker.vcpu", "min": plan.threads}]
    if plan.settings.model.device == "cuda" and name != "Join":
        amounts.append({"name": "amount.worker.gpu", "min": 1})
    return {
        "name": name,
        **({} if after is None else {"dependencies": [{"dependsOn": after}]}),
        "hostRequirements": {"amounts": amounts},
        "script": {
            "actions": {
                "onRun": {
                    "command": "{{Param.Program}}",
                    "args": ["task", "{{Task.File.Plan}}", *arguments, "--progress", "openjd"],
                }
            },
            "embeddedFiles": [{"name": "Plan", "type": "TEXT", "filename": "plan.json", "data": text}],
        },
    }


def slurm_script(plan: JobPlan, at_end: list[str]) -> str:
    """Return a shell script that submits the job to Slurm."""
    gpu = " --gpus=1" if plan.settings.model.device == "cuda" else ""
    ranges = chunks_of(plan.frames, plan.chunk)  # of one size: none begins before the track is whole
    chunks = " ".join(plan.called(each) for each in ranges)
    name, threads = shlex.quote(_job_name(plan)), plan.threads
    more = "".join(f" {each}" for each in at_end)
    track = (
        f"track=$(sbatch --parsable --job-name={name}-track --cpus-per-task={threads}{gpu} --requeue "
        '--output="$logs/track-%j.log" --wrap "exec $program task $plan track")\n'
        'after="--dependency=afterok:$track"\n'
        if plan.tracks
        else 'after=""\n'
    )
    return f"""\
#!/bin/bash
# {_job_name(plan)}: {plan.called(plan.frames)}. Run it where sbatch is, in a folder that every node sees: bash shot.sh
# Environment: MAM_VIDEO names the program; SBATCH_PARTITION and the like choose where tasks run.
set -euo pipefail
program=${{MAM_VIDEO:-mam-video}}
here=$(cd "$(dirname "$0")" && pwd)
plan=$here/$(basename "$0" .sh).plan.json
logs=$here/$(basename "$0" .sh).logs
mkdir -p "$logs"
cat > "$plan" <<'END_OF_PLAN'
{plan.text()}
END_OF_PLAN
plan=$(printf %q "$plan")
chunks="{chunks}"
{track}matte=$(sbatch --parsable --job-name={name}-matte --cpus-per-task={threads}{gpu} --requeue $after \\
  --kill-on-invalid-dep=yes --array=0-{len(ranges) - 1} --output="$logs/matte-%A-%a.log" \\
  --wrap "set -- $chunks; shift \\$SLURM_ARRAY_TASK_ID; exec $program task $plan matte \\$1")
join=$(sbatch --parsable --job-name={name}-join --cpus-per-task={threads} --requeue --dependency=afterok:$matte \\
  --kill-on-invalid-dep=yes --output="$logs/join-%j.log" --wrap "exec $program task $plan join{more}")
echo "submitted: {"track $track, " if plan.tracks else ""}matte $matte, join $join; logs: $logs"
"""


def opencue_spec(plan: JobPlan, at_end: list[str]) -> str:
    """Return a job specification for OpenCue; show and shot are those of $SHOW and $SHOT."""
    inline = inline_plan(plan)
    if len(inline) > _MOST_INLINE:
        raise UsageError(
            f"{plan.source}: the plan is too large for an OpenCue command; give the subject as a saved track: --track"
        )
    name = re.sub(r"[^A-Za-z0-9_]", "_", _job_name(plan))
    spec = ElementTree.Element("spec")
    _add(spec, "show", os.environ.get("SHOW", "testing"))
    _add(spec, "shot", os.environ.get("SHOT", re.sub(r"[^A-Za-z0-9_]", "_", Path(plan.source).stem)))
    _add(spec, "user", _user())
    job = ElementTree.SubElement(spec, "job", name=name)
    _add(job, "maxretries", "2")
    layers, depends = ElementTree.SubElement(job, "layers"), ElementTree.SubElement(spec, "depends")
    steps = [(MATTE, ["#FRAME_START#-#FRAME_END#"]), (JOIN, at_end)]
    if plan.tracks:
        steps.insert(0, (TRACK, []))
    for k, (step, more) in enumerate(steps):
        layer = ElementTree.SubElement(layers, "layer", name=step, type="Render")
        _add(layer, "cmd", " ".join(["mam-video", "task", inline, step, *more]))
        _add(layer, "range", plan.called(plan.frames) if step == MATTE else "1")
        _add(layer, "chunk", str(plan.chunk) if step == MATTE else "1")
        _add(layer, "cores", f"{plan.threads:.1f}")
        if plan.settings.model.device == "cuda" and step != JOIN:
            _add(layer, "gpu", "1")
        if k:
            depend = ElementTree.SubElement(depends, "depend", type="LAYER_ON_LAYER", anyframe="false")
            for tag, text in (("depjob", name), ("deplayer", step), ("onjob", name), ("onlayer", steps[k - 1][0])):
                _add(depend, tag, text)
    ElementTree.indent(spec)
    return _CUE + ElementTree.tostring(spec, encoding="unicode") + "\n"


def _add(parent: ElementTree.Element, tag: str, text: str) -> None:
    ElementTree.SubElement(parent, tag).text = text


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a name for its user
        return "nobody"


def inline_plan(plan: JobPlan) -> str:
    """Return the plan as one word, which `plan_of_text` reads in place of a file."""
    return _INLINE + base64.urlsafe_b64encode(zlib.compress(plan.text().encode(), 9)).decode("ascii")


def plan_of_text(text: str) -> JobPlan:
    """Read the plan of a file, or of the word that `inline_plan` gave. Raises: UsageError, as `JobPlan.load`."""
    if not text.startswith(_INLINE):
        return JobPlan.load(text)
    try:
        data = zlib.decompressobj().decompress(base64.urlsafe_b64decode(text.removeprefix(_INLINE)), 64 << 20)
        return JobPlan.from_text(data.decode(), "the plan")
    except (ValueError, zlib.error) as error:
        raise UsageError(f"{text[:20]}...: the plan is cut off or damaged ({error}); make the job file again") from None


def _job_name(plan: JobPlan) -> str:
    name = re.sub(r"[^\w.-]+", "-", Path(plan.source).name).strip("-.")
    return f"mam-video {name}"[:60].replace(" ", "-")


MANAGERS: Final[dict[str, Callable[[JobPlan, list[str]], str]]] = {
    "openjd": openjd_template,
    "slurm": slurm_script,
    "opencue": opencue_spec,
}
