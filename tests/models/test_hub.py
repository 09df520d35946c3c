"""Folders of the Hugging Face hub: fetched on request alone, by a stored commit, with one-line errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from mam_video.cli import main
from mam_video.core.errors import WeightsError
from mam_video.models import hub
from mam_video.models.catalogue import BY_NAME

huggingface_hub = pytest.importorskip(
    "huggingface_hub", reason="transformers is not installed: pip install '.[transformers]'"
)
pytest.importorskip("transformers", reason="transformers is not installed: pip install '.[transformers]'")

TINY = BY_NAME["sam2.1-tiny"]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Stand in for the hub: what was asked for, in order."""
    monkeypatch.setenv("MAM_VIDEO_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    revisions: list[str | None] = []

    def download(repo: str, *, revision: str | None, allow_patterns: list[str], cache_dir: Path) -> str:
        assert all(pattern.endswith((".json", ".safetensors")) for pattern in allow_patterns), "pickles must not come"
        revisions.append(revision)
        snapshot = cache_dir / repo.replace("/", "--") / "snapshots" / (revision or "a" * 40)
        snapshot.mkdir(parents=True, exist_ok=True)
        (snapshot / "config.json").write_text(json.dumps({"model_type": "sam2_video"}))
        (snapshot / "model.safetensors").write_bytes(b"")
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return revisions


def test_the_commit_that_came_first_is_asked_for_again(asked: list[str | None]) -> None:
    assert not hub.is_here(TINY)
    place = hub.fetch(TINY)
    assert hub.is_here(TINY) and hub.commit_of(place) == "a" * 40
    hub.fetch(TINY)
    hub.fetch(TINY, "b" * 40)
    hub.fetch(TINY)
    assert asked == [None, "a" * 40, "b" * 40, "b" * 40]


def test_the_picture_and_the_video_model_share_one_folder(asked: list[str | None]) -> None:
    hub.fetch(TINY)
    assert hub.is_here(BY_NAME["sam2.1-tiny-video"]) and not hub.is_here(BY_NAME["sam2.1-small"])


def test_the_command_fetches_and_says_the_commit(asked: list[str | None], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "get", "sam2.1-tiny"]) == 0
    assert f"commit {'a' * 40}" in "".join(capsys.readouterr())
    assert main(["weights", "get", "sam-vit-b", "--revision", "x"]) == 2


def failing(error: Exception) -> Any:
    def download(*_: Any, **__: Any) -> str:
        raise error

    return download


def _answer(status: int) -> httpx.Response:
    return httpx.Response(status, request=httpx.Request("GET", "https://hub.invalid"))


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        (
            "sam3",
            "GatedRepoError",
            "access is not granted; accept the SAM License on https://huggingface.co/facebook/sam3",
        ),
        ("sam2.1-tiny", "RevisionNotFoundError", "has no revision 'nowhere'; leave out --revision"),
        ("sam2.1-tiny", "RepositoryNotFoundError", "cannot be found on the hub"),
        ("sam2.1-tiny", "ConnectionError", "hf download facebook/sam2.1-hiera-tiny --local-dir DIR"),
    ],
)
def test_what_fails_is_said_in_a_line_with_what_to_do(
    asked: list[str | None], monkeypatch: pytest.MonkeyPatch, name: str, error: str, says: str
) -> None:
    from huggingface_hub import errors

    raised = (
        ConnectionError("no route\nto host")
        if error == "ConnectionError"
        else getattr(errors, error)("refused", response=_answer(404))
    )
    monkeypatch.setattr(huggingface_hub, "snapshot_download", failing(raised))
    with pytest.raises(WeightsError) as refused:
        hub.fetch(BY_NAME[name], "nowhere")
    assert says in str(refused.value) and "\n" not in str(refused.value)


def test_offline_variables_are_respected(asked: list[str | None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE is set"):
        hub.fetch(TINY)
    assert asked == []


def test_the_list_names_every_model_its_licence_and_how_to_get_it(
    asked: list[str | None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["models"]) == 0
    lines = "".join(capsys.readouterr()).splitlines()
    for name, listing in BY_NAME.items():
        found = [line for line in lines if line.split()[:1] == [name]]
        assert len(found) == (0 if listing.hidden else 1), name
        if found and listing.hub:
            assert f"mam-video weights get {name}" in found[0] and listing.licence in found[0]
    assert any("accept the SAM License" in line for line in lines)


def test_speed_is_measured_by_stage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--speed", "fake-colour+none", "--device", "cpu"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["embed", "segment", "matte"]
    assert main(["models", "--speed", "masks+none", "--device", "cpu"]) == 2
