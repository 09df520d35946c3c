"""Manage weight files: list, download, add, verify and read them.

SAM's files are downloaded from Meta's address and checked against their SHA-256. Programs cannot download the files of
Matting Anything: the user downloads them and `add`s them by path. Nothing here prints; a callback reports progress.
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

ENVIRONMENT = "MAM_VIDEO_WEIGHTS"  # environment variable that names another folder for the files
_INDEX = "weights.json"  # name, size and hash of each file in the folder
_CHUNK = 1 << 20
_TRIES = 5  # connections per file; each resumes where the last one ended
_TIMEOUT = 30.0  # seconds without data

# (bytes done, bytes in all)
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A published file.

    name    the name for users
    file    the published file name
    size    bytes, and `sha256` in hex; None if the authors' file could not be measured
    url     the download address, or "" if the user must add the file by path
    """

    name: str
    file: str
    size: int | None = None
    sha256: str | None = None
    url: str = ""


_META = "https://dl.fbaipublicfiles.com/segment_anything/"


def _sam(name: str, file: str, size: int, sha256: str) -> KnownFile:
    return KnownFile(name, file, size, sha256, _META + file)


# The suffix in the names of SAM's files is the start of the MD5.
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
    """One line of `mam-video weights list`. `sha256` is the expected hash; None if it is unknown."""

    name: str
    path: Path
    present: bool
    size: int | None
    sha256: str | None
    url: str


@dataclass(frozen=True, slots=True)
class Verified:
    """The result of `verify` for one file. `problem` is empty if the file is correct."""

    name: str
    path: Path
    sha256: str
    problem: str


def folder() -> Path:
    """Return the folder of weight files: MAM_VIDEO_WEIGHTS, else the user's cache folder. It may not exist."""
    setting = os.environ.get(ENVIRONMENT)
    return Path(setting).expanduser() if setting else platformdirs.user_cache_path("mam-video") / "weights"


def list_weights() -> list[Listed]:
    """List the known files in their order, then the files added under other names."""
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
    """Return the path of the file `name`, and download it first if it is missing.

    Raises: UsageError, the name is unknown; WeightsError, the download failed or gave a wrong file.
    """
    known = _known(name)
    if known is None:
        raise UsageError(f"unknown weights {name}; `mam-video weights list` lists the names")
    path = folder() / known.file
    if not known.url or known.size is None or known.sha256 is None:
        if path.is_file():
            return path
        raise WeightsError(_how_to_add(known))
    if path.is_file() and hash_of(path) == known.sha256:
        return path
    make_folder()
    download(known.url, path, known.size, known.sha256, progress)
    _remember(path, known.name, known.sha256)
    return path


def add(path: Path, name: str = "", *, link: bool = False, progress: Progress | None = None) -> Path:
    """Add a checkpoint to the folder, as a copy or a symbolic link, and store its hash.

    Args:
        path: a MAM checkpoint, or one of SAM's files that was downloaded by other means.
        name: a known name (mam-vit-b, ...) or a new one. Without it the file's name identifies the weights.
        link: make a symbolic link instead of a copy.
        progress: called with the bytes done and the bytes in all.
    Returns: the new path.
    Raises: UsageError, the name does not identify the weights; WeightsError, the file is not the named checkpoint.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    known = _known(name or _name_from(path.name))
    if known is None and not name:
        names = ", ".join(k.name for k in KNOWN)
        raise UsageError(
            f"{path.name}: cannot identify these weights; say with --name NAME what they are: {names}, or a new name"
        )
    if known is None and (name != Path(name).name or name.startswith(".")):
        raise UsageError(f"'{name}' is no name for weights: it must not contain a slash or begin with a dot")
    sha256 = _sha256(path, progress)
    if known is not None and known.sha256 is not None:
        if sha256 != known.sha256:
            raise WeightsError(f"{path}: not the published {known.file}: the SHA-256 is {sha256}; download it again")
    else:
        _check_m2m(path)
    target = folder() / (known.file if known is not None else name + path.suffix)
    make_folder()
    try:
        if target.exists() and target.samefile(path):
            pass  # it is already in the folder
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
    """Read every file in the folder and compare its SHA-256 with the published or stored one.

    `progress` is called with the name, the bytes done and the bytes in all.
    """
    results = []
    for item in list_weights():
        if not item.present:
            continue

        def file_progress(done: int, total: int, name: str = item.name) -> None:
            if progress is not None:
                progress(name, done, total)

        sha256 = _sha256(item.path, file_progress)
        problem = ""
        if item.sha256 is None:
            problem = f"no hash is stored for it; run `mam-video weights add {item.path}`"
        elif sha256 != item.sha256:
            command = f"mam-video weights {'get' if item.url else 'add'} {item.name if item.url else 'PATH'}"
            problem = f"its SHA-256 is not {item.sha256}; delete it and run `{command}`"
        results.append(Verified(item.name, item.path, sha256, problem))
    return results


def resolve(name_or_path: str, default: str) -> Path:
    """Resolve a setting to a file. `name_or_path` is a path or a name of `list_weights`; empty means `default`, a name.

    Raises: WeightsError, the file is missing; the message names the command that gets it.
    """
    known = _known(name_or_path or default)
    if known is not None and not (name_or_path and Path(name_or_path).is_file()):
        path = folder() / known.file
        if path.is_file():
            return path
        raise WeightsError(_how_to_get(known) if known.url else _how_to_add(known))
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    for item in list_weights():
        if item.name == name_or_path and item.present:
            return item.path
    raise WeightsError(f"{name_or_path}: unknown weights; give a path, or a name from `mam-video weights list`")


def hash_of(path: Path) -> str:
    """Compute the SHA-256 of a file in hex. For an unchanged file of the folder the stored hash is returned."""
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
    """Download `url` to `to`, and check that it has `size` bytes and `sha256`.

    The data go to a `.part` file, which a later call resumes. The file gets its final name when it is complete and
    checked. A broken connection is resumed automatically, up to five times.
    Raises: WeightsError, the disk is too small, the download ended early, or the file is wrong.
    """
    part = to.with_name(to.name + ".part")
    try:
        received = part.stat().st_size if part.exists() else 0
        free = shutil.disk_usage(to.parent).free
        if free < size - received:
            raise WeightsError(
                f"{to.parent}: needs {(size - received) / 1e6:.0f} MB, only {free / 1e6:.0f} MB are free"
            )
        problem = ""
        for _ in range(_TRIES):
            if received < size:
                problem = _fetch(url, part, received, size, progress) or problem
                received = part.stat().st_size if part.exists() else 0
            if received >= size:
                break
        if received < size:
            raise WeightsError(
                f"{url}: got {received} of {size} bytes ({problem or 'the connection broke'}); "
                "run the same command to resume"
            )
        sha256_found = _sha256(part)
        if received != size or sha256_found != sha256:
            part.unlink()
            raise WeightsError(
                f"{url}: the download is not {to.name} ({received} bytes, SHA-256 {sha256_found}); it was deleted"
            )
        part.replace(to)
    except OSError as error:
        raise WeightsError(f"{to}: cannot write this file ({error.strerror or error})") from None


def _fetch(url: str, part: Path, received: int, size: int, progress: Progress | None) -> str:
    """Open one connection and append to `part` from byte `received` on.

    Returns: why it ended early, or "". Raises: WeightsError, the server refuses the request.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "mam-video"})
    if received:
        request.add_header("Range", f"bytes={received}-")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(
                f"bytes {received}-"
            )
            done = received if resumed else 0  # a server without range support sends the whole file
            with part.open("ab" if resumed else "wb") as out:
                while done <= size and (chunk := response.read(_CHUNK)):
                    out.write(chunk)
                    done += len(chunk)
                    if progress is not None:
                        progress(done, size)
        return ""
    except urllib.error.HTTPError as error:
        if error.code < 500:
            raise WeightsError(f"{url}: the server answered {error.code} {error.reason}") from None
        return f"the server answered {error.code} {error.reason}"
    except urllib.error.URLError as error:
        return str(getattr(error.reason, "strerror", None) or error.reason)
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        return str(error) or type(error).__name__


def read_tensors(path: Path, inside: str = "") -> dict[str, torch.Tensor]:
    """Read the tensors of a checkpoint by name, on the CPU, floats as float32. Code in the file is never run.

    Args:
        path: a .safetensors file, or a file of torch.save.
        inside: the key of the tensors, if the file has such a key (MAM's checkpoints: state_dict).
    Raises: WeightsError, the file is missing or damaged, or holds anything but tensors.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path, device="cpu")
        else:
            # Map the file: reading it would hold a second copy of 2.5 GB in memory.
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path) or None)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error):
            raise WeightsError(f"{path}: refused: this file contains code, not only tensors") from None
        raise WeightsError(f"{path}: not a checkpoint, or damaged; download it again") from None
    except Exception:  # noqa: BLE001 - a damaged file can raise anything
        raise WeightsError(f"{path}: not a checkpoint, or damaged or incomplete; download it again") from None
    if isinstance(content, Mapping) and isinstance(content.get(inside), Mapping):
        content = content[inside]
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{path}: contains no named tensors; this is not a checkpoint of SAM or MAM")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise WeightsError(f"{path}: contains more than tensors ({name}); this is not a checkpoint of SAM or MAM")
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
    """Turn the authors' file names (mam_sam_vit...) into the known form (mam_vit...); return others unchanged."""
    return file.replace("mam_sam_vit", "mam_vit")


def _how_to_get(known: KnownFile) -> str:
    megabytes = (known.size or 0) / 1e6
    return f"{known.file} is missing ({megabytes:.0f} MB); run `mam-video weights get {known.name}`"


def _how_to_add(known: KnownFile) -> str:
    return (
        f"{known.file} is missing; download it in a browser from the page that INSTALL.md of SHI-Labs/Matting-Anything "
        f"names, then run `mam-video weights add {known.file}`"
    )


def make_folder() -> None:
    """Make the folder of weight files where it is missing. Raises: WeightsError."""
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
        return {}  # the hashes of published files are known; `add` stores the others again
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
