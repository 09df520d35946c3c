"""Weight files: which are known, where they lie, how they come here, and how they are read.

SAM's files are fetched from the address where Meta publishes them and checked against their SHA-256. The files of
Matting Anything are published where no program can fetch them: the user downloads them and `add`s them by path.
Nothing here prints; progress is told through a callback.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import pickle
import shutil
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
import torch

from mam_video.core.errors import UsageError, WeightsError
from mam_video.core.untrusted import parse_json

ENVIRONMENT = "MAM_VIDEO_WEIGHTS"  # names another folder for the files
_INDEX = "weights.json"  # what is remembered of each file in the folder
_CHUNK = 1 << 20
_TRIES = 5  # connections for one file, each going on where the last was cut
_TIMEOUT = 30.0  # seconds without a byte

# (bytes done, bytes in all)
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A published file.

    name    what users call it
    file    its name as published
    size    bytes, and `sha256` in hex; None where the authors' files could not be measured
    url     where a program can fetch it, or "" where it has to be added by path
    """

    name: str
    file: str
    size: int | None = None
    sha256: str | None = None
    url: str = ""


_META = "https://dl.fbaipublicfiles.com/segment_anything/"


def _sam(name: str, file: str, size: int, sha256: str) -> KnownFile:
    return KnownFile(name, file, size, sha256, _META + file)


# The suffix in the names of SAM's files is the start of their MD5.
KNOWN = (
    _sam(
        "sam-vit-b",
        "sam_vit_b_01ec64.pth",
        375_042_383,
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    _sam(
        "sam-vit-l",
        "sam_vit_l_0b3195.pth",
        1_249_524_607,
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    _sam(
        "sam-vit-h",
        "sam_vit_h_4b8939.pth",
        2_564_550_879,
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
    KnownFile("mam-vit-b", "mam_vitb.pth"),
    KnownFile("mam-vit-l", "mam_vitl.pth"),
    KnownFile("mam-vit-h", "mam_vith.pth"),
)


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of `mam-video weights list`. `sha256` is what the file should have; None where nobody knows it."""

    name: str
    path: Path
    present: bool
    size: int | None
    sha256: str | None
    url: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What `verify` found of one file: `problem` is empty where all is well."""

    name: str
    path: Path
    sha256: str
    problem: str


def folder() -> Path:
    """Where weight files lie: the user's cache folder, or what MAM_VIDEO_WEIGHTS names. It may not exist."""
    given = os.environ.get(ENVIRONMENT)
    return Path(given).expanduser() if given else platformdirs.user_cache_path("mam-video") / "weights"


def list_weights() -> list[Listed]:
    """The known files in their order, then those added under other names."""
    index = _read_index()
    listed = []
    for known in KNOWN:
        path = folder() / known.file
        entry = index.get(known.file, {})
        present = path.is_file()
        size = known.size if known.size is not None else (path.stat().st_size if present else None)
        listed.append(Listed(known.name, path, present, size, known.sha256 or entry.get("sha256"), known.url))
    files = {known.file for known in KNOWN}
    for file, entry in sorted(index.items()):
        if file not in files:
            path = folder() / file
            listed.append(Listed(entry.get("name", file), path, path.is_file(), entry["bytes"], entry["sha256"], ""))
    return listed


def get(name: str, progress: Progress | None = None) -> Path:
    """The file `name` in the folder, fetched where it is not there yet.

    Raises: UsageError, no such name; WeightsError, it cannot be fetched, or what came is not what it should be.
    """
    known = _known(name)
    if known is None:
        raise UsageError(f"no weights are called {name}; `mam-video weights list` names them")
    path = folder() / known.file
    if not known.url or known.size is None or known.sha256 is None:
        if path.is_file():
            return path
        raise WeightsError(_how_to_add(known))
    if path.is_file() and hash_of(path) == known.sha256:
        return path
    _make_folder()
    download(known.url, path, known.size, known.sha256, progress)
    _remember(path, known.name, known.sha256)
    return path


def add(path: Path, name: str = "", *, link: bool = False, progress: Progress | None = None) -> Path:
    """Takes a checkpoint into the folder, by a copy or a symbolic link, and remembers its hash.

    Args:
        path: a MAM checkpoint (or one of SAM's files, fetched by other means).
        name: what it is (mam-vit-b, ...), or a name of your own; without it the file's name tells.
    Returns: where it lies now.
    Raises: UsageError, the name does not tell what it is; WeightsError, it is not what it should be.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    known = _known(name or _name_from(path.name))
    if known is None and not name:
        names = ", ".join(k.name for k in KNOWN)
        raise UsageError(f"{path.name}: cannot tell which weights these are; say so with a name ({names}, or your own)")
    if known is None and (name != Path(name).name or name.startswith(".")):
        raise UsageError(f"weights cannot be called '{name}': a name holds no slashes and does not begin with a dot")
    sha256 = _sha256(path, progress)
    if known is not None and known.sha256 is not None:
        if sha256 != known.sha256:
            raise WeightsError(f"{path}: not the published {known.file}: its SHA-256 is {sha256}; download it again")
    else:
        _check_m2m(path)
    target = folder() / (known.file if known is not None else name + path.suffix)
    _make_folder()
    try:
        if target.exists() and target.samefile(path):
            pass  # it lies there already
        elif link:
            target.unlink(missing_ok=True)
            target.symlink_to(path.resolve())
        else:
            part = target.with_name(target.name + ".part")
            shutil.copyfile(path, part)
            part.replace(target)
    except OSError as error:
        raise WeightsError(f"{target}: cannot write this file ({error.strerror or error})") from None
    _remember(target, known.name if known is not None else name, sha256)
    return target


def verify(progress: Callable[[str, int, int], None] | None = None) -> list[Verified]:
    """Reads every file in the folder again and compares its SHA-256 with the published or remembered one.

    `progress` is called with the name, the bytes done and the bytes in all.
    """
    found = []
    for item in list_weights():
        if not item.present:
            continue

        def told(done: int, total: int, name: str = item.name) -> None:
            if progress is not None:
                progress(name, done, total)

        sha256 = _sha256(item.path, told)
        problem = ""
        if item.sha256 is None:
            problem = f"its hash is not remembered; run `mam-video weights add {item.path}`"
        elif sha256 != item.sha256:
            again = f"mam-video weights {'get' if item.url else 'add'} {item.name if item.url else 'PATH'}"
            problem = f"its SHA-256 is not {item.sha256}; delete it and run `{again}`"
        found.append(Verified(item.name, item.path, sha256, problem))
    return found


def resolve(given: str, default: str) -> Path:
    """The file for a setting: a path, or a name of `list_weights`; empty stands for `default`, a name.

    Raises: WeightsError, it is not here; the text tells the command that brings it.
    """
    known = _known(given or default)
    if known is not None and not (given and Path(given).is_file()):
        path = folder() / known.file
        if path.is_file():
            return path
        raise WeightsError(_how_to_get(known) if known.url else _how_to_add(known))
    path = Path(given).expanduser()
    if path.is_file():
        return path
    for item in list_weights():
        if item.name == given and item.present:
            return item.path
    raise WeightsError(f"{given}: no such weights; give a path, or a name of `mam-video weights list`")


def hash_of(path: Path) -> str:
    """SHA-256 of a file in hex; from memory for a file of the folder that has not changed since it was hashed."""
    try:
        if path.parent == folder():
            stat = path.stat()
            entry = _read_index().get(path.name, {})
            if (entry.get("bytes"), entry.get("changed")) == (stat.st_size, stat.st_mtime_ns):
                return str(entry["sha256"])
        return _sha256(path)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file") from None


def download(url: str, to: Path, size: int, sha256: str, progress: Progress | None = None) -> None:
    """Fetches `url` to `to`, which must come to `size` bytes and `sha256`.

    The bytes go to a `.part` file beside it, which a later call goes on with; under its own name the file is whole and
    checked. A cut connection is taken up again by itself, a few times.
    Raises: WeightsError.
    """
    part = to.with_name(to.name + ".part")
    try:
        have = part.stat().st_size if part.exists() else 0
        free = shutil.disk_usage(to.parent).free
        if free < size - have:
            raise WeightsError(f"{to.parent}: {(size - have) / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free")
        why = ""
        for _ in range(_TRIES):
            if have < size:
                why = _fetch(url, part, have, size, progress) or why
                have = part.stat().st_size if part.exists() else 0
            if have >= size:
                break
        if have < size:
            raise WeightsError(
                f"{url}: {have} of {size} bytes came ({why or 'the connection was cut'}); run the same again to go on"
            )
        found = _sha256(part)
        if have != size or found != sha256:
            part.unlink()
            raise WeightsError(f"{url}: what came is not {to.name} ({have} bytes, SHA-256 {found}); nothing was kept")
        part.replace(to)
    except OSError as error:
        raise WeightsError(f"{to}: cannot write this file ({error.strerror or error})") from None


def _fetch(url: str, part: Path, have: int, size: int, progress: Progress | None) -> str:
    """One connection: appends to `part` from byte `have` on. Returns why it ended early, or "". Raises if hopeless."""
    request = urllib.request.Request(url, headers={"User-Agent": "mam-video"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            going_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            done = have if going_on else 0  # a server that knows no ranges sends all from the start
            with part.open("ab" if going_on else "wb") as out:
                while done <= size and (chunk := answer.read(_CHUNK)):
                    out.write(chunk)
                    done += len(chunk)
                    if progress is not None:
                        progress(done, size)
        return ""
    except urllib.error.HTTPError as error:
        if error.code < 500:
            raise WeightsError(f"{url}: the server answers {error.code} {error.reason}") from None
        return f"the server answers {error.code} {error.reason}"
    except urllib.error.URLError as error:
        return str(getattr(error.reason, "strerror", None) or error.reason)
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        return str(error) or type(error).__name__


def read_tensors(path: Path, inside: str = "") -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint by name, on the CPU, floats as float32. No code of the file is ever run.

    Args:
        path: .safetensors, or what torch.save wrote.
        inside: the key under which the tensors lie where the file has it (MAM's checkpoints: state_dict).
    Raises: WeightsError, the file is missing, damaged, or holds something else than tensors.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path, device="cpu")
        else:
            # Mapped, not read: of a file of 2.5 GB no second copy stands in memory.
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path) or None)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error):
            raise WeightsError(f"{path}: refused: this file holds code, not only tensors") from None
        raise WeightsError(f"{path}: not a checkpoint, or damaged; download it again") from None
    except Exception:  # noqa: BLE001 - a damaged file can raise anything
        raise WeightsError(f"{path}: not a checkpoint, or damaged or cut short; download it again") from None
    if isinstance(content, Mapping) and isinstance(content.get(inside), Mapping):
        content = content[inside]
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{path}: holds no tensors by name; this is not a checkpoint of SAM or MAM")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise WeightsError(f"{path}: holds more than tensors ({name}); this is not a checkpoint of SAM or MAM")
    return {k: v.float() if v.is_floating_point() else v for k, v in content.items()}


def _check_m2m(path: Path) -> None:
    from mam_video.models.m2m import M2M

    try:
        M2M().load(read_tensors(path, inside="state_dict"))
    except WeightsError as error:
        text = str(error)
        raise WeightsError(text if text.startswith(str(path)) else f"{path}: {text}") from None


def _known(name: str) -> KnownFile | None:
    return next((k for k in KNOWN if name in (k.name, k.file)), None)


def _name_from(file: str) -> str:
    """mam-vit-b from the names under which the authors' files are about; otherwise the name as it is."""
    return file.replace("mam_sam_vit", "mam_vit")


def _how_to_get(known: KnownFile) -> str:
    megabytes = (known.size or 0) / 1e6
    return f"{known.file} is not here yet ({megabytes:.0f} MB); run `mam-video weights get {known.name}`"


def _how_to_add(known: KnownFile) -> str:
    return (
        f"{known.file} is not here yet; download it by hand from the page that SHI-Labs/Matting-Anything names in its "
        f"INSTALL.md, then run `mam-video weights add {known.file}`"
    )


def _make_folder() -> None:
    try:
        folder().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(
            f"{folder()}: cannot make this folder ({error.strerror or error}); name another with {ENVIRONMENT}"
        ) from None


def _sha256(path: Path, progress: Progress | None = None) -> str:
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, total)
    return digest.hexdigest()


def _read_index() -> dict[str, dict[str, Any]]:
    try:
        index = parse_json((folder() / _INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # hashes of published files are known anyway, and others are remembered again by `add`
    return {k: v for k, v in index.items() if isinstance(v, dict)} if isinstance(index, dict) else {}


def _remember(path: Path, name: str, sha256: str) -> None:
    stat = path.stat()
    entry = {"name": name, "sha256": sha256, "bytes": stat.st_size, "changed": stat.st_mtime_ns}
    index = {**_read_index(), path.name: entry}
    part = folder() / (_INDEX + ".part")
    try:
        part.write_text(json.dumps(index, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        part.replace(folder() / _INDEX)
    except OSError as error:
        raise WeightsError(f"{part}: cannot write this file ({error.strerror or error})") from None
