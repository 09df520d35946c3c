"""Weight files: fetched from a server on this machine, cut off and gone on with, checked, added, verified, read."""

from __future__ import annotations

import hashlib
import json
import pickle
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mam_video.core.errors import UsageError, WeightsError
from mam_video.models import weights
from mam_video.models.m2m import M2M

CONTENT = bytes(range(256)) * 12_000  # 3 MB: several chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Site:
    """A server of one file. `cut` says after how many bytes of each answer, in turn, the connection drops."""

    url: str = ""
    cut: list[int] = field(default_factory=list)
    ranges: bool = True
    status: int = 200
    asked: list[str] = field(default_factory=list)  # the Range of every request


@pytest.fixture
def site() -> Iterator[Site]:
    it = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            it.asked.append(asked)
            if it.status != 200:
                self.send_error(it.status)
                return
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and it.ranges else 0
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
            self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            body = CONTENT[start:]
            self.wfile.write(body[: it.cut.pop(0)] if it.cut else body)
            self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    it.url = f"http://127.0.0.1:{server.server_port}/sam.pth"
    yield it
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for weights."""
    folder = tmp_path / "weights"
    monkeypatch.setenv(weights.ENVIRONMENT, str(folder))
    return folder


@pytest.fixture
def known(site: Site, monkeypatch: pytest.MonkeyPatch) -> weights.KnownFile:
    """A published file that lies on the server, beside MAM's."""
    file = weights.KnownFile("sam-test", "sam.pth", len(CONTENT), SHA256, site.url)
    monkeypatch.setattr(weights, "KNOWN", (file, weights.KnownFile("mam-vit-b", "mam_vitb.pth")))
    return file


def checkpoint(path: Path) -> Path:
    torch.save({"iter": 1, "state_dict": M2M().state_dict()}, path)
    return path


def test_get_fetches_once_and_tells_progress(site: Site, known: weights.KnownFile, home: Path) -> None:
    told: list[tuple[int, int]] = []
    path = weights.get("sam-test", lambda done, total: told.append((done, total)))
    assert path == home / "sam.pth" and path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT)) and [d for d, _ in told] == sorted(d for d, _ in told)
    assert weights.get("sam.pth") == path  # the file's own name will do, and nothing is fetched again
    assert site.asked == [""]
    assert sorted(p.name for p in home.iterdir()) == ["sam.pth", "weights.json"]


def test_a_cut_connection_is_gone_on_with(site: Site, known: weights.KnownFile) -> None:
    site.cut = [1_500_000, 700_000]
    assert weights.get("sam-test").read_bytes() == CONTENT
    assert site.asked == ["", "bytes=1500000-", "bytes=2200000-"]


def test_a_later_call_goes_on_with_the_part(site: Site, known: weights.KnownFile, home: Path) -> None:
    site.cut = [600_000, *[0] * 4]
    with pytest.raises(WeightsError, match=r"600000 of 3072000 bytes .*run the same command") as failed:
        weights.get("sam-test")
    assert "\n" not in str(failed.value)
    assert [p.name for p in home.iterdir()] == ["sam.pth.part"]
    assert weights.get("sam-test").read_bytes() == CONTENT
    assert site.asked[-1] == "bytes=600000-"


def test_a_server_without_ranges_starts_over(site: Site, known: weights.KnownFile) -> None:
    site.cut, site.ranges = [1_000_000], False
    assert weights.get("sam-test").read_bytes() == CONTENT


@pytest.mark.parametrize("wrong", ["hash", "longer", "shorter"])
def test_what_is_not_the_file_is_not_kept(site: Site, home: Path, tmp_path: Path, wrong: str) -> None:
    home.mkdir()
    size = {"hash": 0, "longer": -10, "shorter": 10}[wrong] + len(CONTENT)
    with pytest.raises(WeightsError, match=r"only|the download is not|got .* bytes"):
        weights.download(site.url, home / "x.pth", size, SHA256 if wrong != "hash" else "0" * 64)
    assert not (home / "x.pth").exists()
    if wrong != "shorter":  # a file that is too short may still grow
        assert list(home.iterdir()) == []


def test_a_missing_file_or_server_is_one_line(site: Site, known: weights.KnownFile, home: Path) -> None:
    site.status = 404
    with pytest.raises(WeightsError, match="answered 404"):
        weights.get("sam-test")
    assert len(site.asked) == 1  # asking again is of no use
    home.mkdir(exist_ok=True)
    with pytest.raises(WeightsError, match="refused"):
        weights.download("http://127.0.0.1:1/x", home / "x", 5, SHA256)


def test_a_full_disk_is_told_before(site: Site, home: Path) -> None:
    home.mkdir()
    with pytest.raises(WeightsError, match=r"needs .* MB"):
        weights.download(site.url, home / "x", 1 << 60, SHA256)
    assert site.asked == []


def test_unknown_names_and_mam_by_name(known: weights.KnownFile) -> None:
    with pytest.raises(UsageError, match="unknown weights"):
        weights.get("sam-xl")
    with pytest.raises(WeightsError, match=r"INSTALL\.md.*weights add mam_vitb\.pth"):
        weights.get("mam-vit-b")


@pytest.mark.parametrize("link", [False, True])
def test_add_remembers_the_hash(known: weights.KnownFile, tmp_path: Path, home: Path, link: bool) -> None:
    source = checkpoint(tmp_path / "mam_sam_vitb.pth")  # an older name of the authors' file
    path = weights.add(source, link=link)
    assert path == home / "mam_vitb.pth" and path.is_symlink() is link
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert json.loads((home / "weights.json").read_text())["mam_vitb.pth"]["sha256"] == digest
    assert weights.hash_of(path) == digest
    assert weights.resolve("", "mam-vit-b") == path
    assert weights.add(path) == path  # once more, from where it lies
    assert weights.read_tensors(path, inside="state_dict").keys() == M2M().state_dict().keys()


def test_add_under_a_name_of_ones_own(known: weights.KnownFile, tmp_path: Path, home: Path) -> None:
    source = checkpoint(tmp_path / "best.pth")
    with pytest.raises(UsageError, match="cannot identify these weights"):
        weights.add(source)
    with pytest.raises(UsageError, match="must not contain a slash"):
        weights.add(source, "../escape")
    path = weights.add(source, "hair")
    assert path == home / "hair.pth"
    assert weights.resolve("hair", "mam-vit-b") == path
    assert [(w.name, w.present) for w in weights.list_weights()] == [
        ("sam-test", False), ("mam-vit-b", False), ("hair", True)]  # fmt: skip


def test_add_refuses_what_is_not_a_mam_checkpoint(known: weights.KnownFile, tmp_path: Path, home: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "mam_vitb.pth")
    with pytest.raises(WeightsError, match="not a MAM checkpoint"):
        weights.add(tmp_path / "mam_vitb.pth")
    (tmp_path / "sam.pth").write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match=r"not the published sam\.pth"):
        weights.add(tmp_path / "sam.pth")
    assert not home.exists()


def test_verify_reads_the_files_again(known: weights.KnownFile, tmp_path: Path, home: Path) -> None:
    weights.get("sam-test")
    weights.add(checkpoint(tmp_path / "mam_vitb.pth"))
    assert [v.problem for v in weights.verify()] == ["", ""]
    with (home / "sam.pth").open("r+b") as file:
        file.write(b"!")
    with (home / "mam_vitb.pth").open("ab") as file:
        file.write(b"!")
    problems = {v.name: v.problem for v in weights.verify()}
    assert "weights get sam-test" in problems["sam-test"] and "weights add PATH" in problems["mam-vit-b"]
    assert weights.get("sam-test").read_bytes() == CONTENT  # a damaged file is fetched again


def test_missing_weights_name_the_command(home: Path) -> None:
    with pytest.raises(WeightsError, match="mam-video weights get sam-vit-b"):
        weights.resolve("", "sam-vit-b")
    with pytest.raises(WeightsError, match=r"mam-video weights add mam_vith\.pth"):
        weights.resolve("", "mam-vit-h")
    with pytest.raises(WeightsError, match=r"nowhere\.pth: unknown weights"):
        weights.resolve("nowhere.pth", "sam-vit-b")


def test_published_files_are_those_of_meta() -> None:
    files = {k.file: k for k in weights.KNOWN}
    assert files["sam_vit_b_01ec64.pth"].size == 375_042_383
    assert all(len(k.sha256 or "") == 64 for k in weights.KNOWN if k.url)
    assert all(k.url == f"https://dl.fbaipublicfiles.com/segment_anything/{k.file}" for k in weights.KNOWN if k.url)


class Trap:
    """Runs something when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_code_in_a_file_is_refused_and_never_run(tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    torch.save({"a": Trap(mark)}, tmp_path / "trap.pth")
    (tmp_path / "old.pth").write_bytes(pickle.dumps(Trap(mark), protocol=2))
    for name in ("trap.pth", "old.pth"):
        with pytest.raises(WeightsError, match=name) as refused:
            weights.read_tensors(tmp_path / name)
        assert "\n" not in str(refused.value)
    with pytest.raises(WeightsError, match="contains code"):
        weights.read_tensors(tmp_path / "trap.pth")
    assert not mark.exists()


def test_damaged_files_are_one_line(tmp_path: Path) -> None:
    whole = checkpoint(tmp_path / "whole.pth").read_bytes()
    save_file({"a": torch.zeros(9)}, tmp_path / "whole.safetensors")
    cases = {
        "empty.pth": b"",
        "text.pth": b"<html>not found</html>",
        "cut.pth": whole[: len(whole) // 2],
        "cut.safetensors": (tmp_path / "whole.safetensors").read_bytes()[:-8],
        "text.safetensors": b"<html>not found</html>",
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=name) as refused:
            weights.read_tensors(tmp_path / name)
        assert "\n" not in str(refused.value)
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(WeightsError, match=r"zip\.pth"):
        weights.read_tensors(tmp_path / "zip.pth")
    with pytest.raises(WeightsError, match="no such file"):
        weights.read_tensors(tmp_path / "none.pth")


def test_files_with_other_things_inside_are_refused(tmp_path: Path) -> None:
    for content in ([torch.zeros(1)], {}, {"a": 1}, {"epoch": 3, "model": {"a": torch.zeros(1)}}):
        torch.save(content, tmp_path / "x.pth")
        with pytest.raises(WeightsError, match="not a checkpoint of SAM or MAM"):
            weights.read_tensors(tmp_path / "x.pth", inside="state_dict")


def test_floats_come_as_float32_and_safetensors_too(tmp_path: Path) -> None:
    tensors = {"a": torch.ones(3, dtype=torch.float16), "n": torch.tensor(4)}
    torch.save(tensors, tmp_path / "x.pth")
    save_file(tensors, tmp_path / "x.safetensors")
    for name in ("x.pth", "x.safetensors"):
        read = weights.read_tensors(tmp_path / name)
        assert read["a"].dtype == torch.float32 and read["n"].dtype == torch.int64
