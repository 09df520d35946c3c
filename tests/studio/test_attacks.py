"""What others may try with the server of the page: nothing is served to them, and nothing is lost."""

from __future__ import annotations

import json
import shutil
import socket
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

for package in ("httpx", "starlette", "uvicorn", "websockets"):
    pytest.importorskip(package)

import httpx
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from mam_video.cli.main import main
from mam_video.core.errors import UsageError
from mam_video.media import open_clip
from mam_video.studio.desk import Desk
from mam_video.studio.project import Project, folder_of
from mam_video.studio.security import MOST_BODY
from mam_video.studio.serve import clips_in
from mam_video.studio.sockets import LONGEST_MESSAGE, MOST_PAGES
from mam_video.studio.uploads import MOST_BYTES
from tests.studio.conftest import Served

PATHS = ("/", "/page/main.js", "/api/desk", "/api/knobs", "/api/0/state", "/api/0/frame/0", "/api/0/matte/0",
         "/api/0/pixel/0?x=1&y=1", "/api/0/report", "/api/0/clip", "/api/0/background/0/0")  # fmt: skip


def listen(served: Served, **headers: str) -> ClientConnection:
    """Open the socket of events; the cookie and Origin of the page unless others are given."""
    cookie = "; ".join(f"{name}={value}" for name, value in served.client.cookies.items())
    more = {"Cookie": cookie, "Origin": served.base, **headers}
    return connect(f"{served.base.replace('http', 'ws')}/events", additional_headers=more, origin=None)


def test_without_the_token_nothing_is_served(served: Served) -> None:
    forged = {name: "0" * len(value) for name, value in served.client.cookies.items()}
    with httpx.Client(base_url=served.base) as stranger, httpx.Client(base_url=served.base, cookies=forged) as forger:
        for path in PATHS:
            join = "&" if "?" in path else "?"
            for tried in (path, f"{path}{join}token=wrong", f"{path}{join}token="):
                answer = stranger.get(tried)
                assert answer.status_code == 403 and "set-cookie" not in answer.headers, tried
            assert forger.get(path).status_code == 403


def test_the_token_becomes_a_cookie_of_this_site_alone(served: Served) -> None:
    answer = httpx.get(served.address)
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    token = urlsplit(served.address).query.partition("=")[2]
    assert len(token) >= 32 and token not in cookie


def test_another_host_or_origin_is_refused(served: Served) -> None:
    port = urlsplit(served.base).port or 0
    strange = (
        {"Host": f"evil.example:{port}"}, {"Host": "127.0.0.1"}, {"Host": f"127.0.0.1:{port + 1}"},
        {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": f"https://127.0.0.1:{port}"},
        {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
    )  # fmt: skip
    for path in PATHS:
        for headers in strange:
            assert served.client.get(path, headers=headers).status_code == 403, (path, headers)


def test_acts_of_other_sites_change_nothing(served: Served) -> None:
    before = served.client.get("/api/0/state").json()["state"]
    body = json.dumps({"act": "set_box", "subject": 0, "frame": 0, "box": [1, 1, 50, 50]})
    for headers in (
        {}, {"Origin": "http://evil.example"}, {"Origin": "null"},
        {"Origin": served.base, "Content-Type": "text/plain"},  # a form of another site could send it
        {"Origin": served.base, "Content-Type": "application/x-www-form-urlencoded"},
        {"Origin": served.base, "Sec-Fetch-Site": "cross-site"},
    ):  # fmt: skip
        kind = {"Content-Type": "application/json"} if "Content-Type" not in headers else {}
        answer = served.client.post("/api/0/act", content=body, headers={**kind, **headers})
        assert answer.status_code in (400, 403), headers
    assert served.client.get("/api/0/state").json()["state"] == before


def test_sockets_are_checked_like_requests(served: Served) -> None:
    for headers in ({"Cookie": "none=1"}, {"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        with pytest.raises(InvalidStatus) as refused:
            listen(served, **headers)
        assert refused.value.response.status_code in (400, 403)  # two hosts are no request at all
    with listen(served):
        pass


def everything(raw: socket.socket) -> bytes:
    """Read until the server ends the connection."""
    parts = []
    while part := raw.recv(65536):
        parts.append(part)
    return b"".join(parts)


def test_nothing_beyond_the_page_and_the_project_can_be_named(served: Served, clip: Path) -> None:
    secret = clip.parent.parent / "secret.txt"
    secret.write_text("secret")
    host, port = "127.0.0.1", urlsplit(served.base).port
    up = ("../secret.txt", "..%2fsecret.txt", "%2e%2e/secret.txt", "..%5csecret.txt", "/etc/passwd", "....//secret.txt",
          "index.html%00.css", "main.js/../../../secret.txt")  # fmt: skip
    cookie = "; ".join(f"{name}={value}" for name, value in served.client.cookies.items())
    places = ("/page/", "/api/0/frame/", "/api/0/matte/", "/api/0/version/", "/api/0/pixel/", "/api/", "/api/0/report/")
    for place in places:
        for path in up:
            with socket.create_connection((host, port)) as raw:  # clients would tidy the path up
                raw.sendall(f"GET {place}{path} HTTP/1.1\r\nHost: {host}:{port}\r\nCookie: {cookie}\r\n"
                            "Connection: close\r\n\r\n".encode())  # fmt: skip
                answer = everything(raw)
            assert answer.split()[1] in (b"404", b"400"), (place, path)
            assert b"root:" not in answer and b"secret" not in answer.partition(b"\r\n\r\n")[2]
    for query in ("version=../1", "subject=..", "version=-1", "edges=choke=/etc", "version=9" * 40, "size=../full"):
        assert served.client.get(f"/api/0/matte/0?{query}").status_code in (400, 204), query
    for given in (
        {"name": "../out.mov", "kind": "prores", "place": 0}, {"name": "/tmp/out.mov", "kind": "prores", "place": 0},
        {"name": "a/b.mov", "kind": "prores", "place": 0}, {"name": "..", "kind": "png", "place": 0},
        {"name": "out.mov", "kind": "prores", "place": 9}, {"name": "out.mov", "kind": "prores", "place": -1},
        {"name": "-o.mov", "kind": "prores", "place": 0}, {"name": "a\n.mov", "kind": "prores", "place": 0},
        {"name": "out.sh", "kind": "../../x", "place": 0}, {"name": "out.mov", "kind": "prores:x", "place": 0},
    ):  # fmt: skip
        assert served.act("set_outputs", outputs=[given]).status_code == 400, given
    for key in ("model.sam_weights", "input.layer", "text.model", "output.background"):
        assert served.act("set_setting", key=key, value="/etc/passwd").status_code == 400, key
    for name in ("../x", "a/b", ".x", "con", "a" * 65, "{subject}", "\u202e"):
        assert served.act("rename_subject", subject=0, name=name).status_code == 400, name


def test_links_out_of_the_project_are_not_followed(served: Served, clip: Path) -> None:
    outside = clip.parent.parent / "report.html"
    outside.write_text("secret")
    report = folder_of(clip) / "report"
    report.mkdir()
    (report / "report.html").symlink_to(outside)
    assert served.client.get("/api/0/report").status_code == 404
    served.desk.shot(0).project.close()
    shutil.rmtree(folder_of(clip) / "stills")
    (folder_of(clip) / "stills").symlink_to(clip.parent.parent)
    with open_clip(clip) as reader, pytest.raises(UsageError, match="is a link"):
        Project(folder_of(clip), reader.info)


def test_a_folder_shows_only_its_own_clips(served: Served, clip: Path) -> None:
    far = clip.parent.parent / "far.mov"
    shutil.copy(clip, far)
    (clip.parent / "near.mov").symlink_to(far)
    (clip.parent / "plate.matte.mov").write_bytes(b"")
    assert clips_in(str(clip.parent)) == [str(clip)]


@pytest.mark.parametrize(("path", "kind", "most"), [
    ("/api/0/act", "application/json", MOST_BODY), ("/api/0/mask/0?subject=0", "image/png", MOST_BYTES),
])  # fmt: skip
def test_a_large_body_is_refused_before_it_is_read(served: Served, path: str, kind: str, most: int) -> None:
    headers = {"Origin": served.base, "Content-Type": kind}
    host, port = "127.0.0.1", urlsplit(served.base).port
    cookie = "; ".join(f"{name}={value}" for name, value in served.client.cookies.items())
    with socket.create_connection((host, port)) as raw:
        raw.sendall(f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nOrigin: {served.base}\r\nCookie: {cookie}\r\n"
                    f"Content-Type: {kind}\r\nContent-Length: {1 << 30}\r\n\r\n".encode())  # fmt: skip
        assert raw.recv(4096).split()[1] == b"413"
    sent = 0

    def endless() -> object:
        nonlocal sent
        for _ in range(1 << 14):  # 1 GiB, without saying so before
            sent += 1 << 16
            yield b" " * (1 << 16)

    try:
        answer = served.client.post(path, content=endless(), headers=headers)
        assert answer.status_code == 413
    except httpx.HTTPError:  # the server has closed the connection meanwhile
        pass
    assert sent < most + (64 << 20)
    assert served.client.get("/api/0/state").status_code == 200


def test_a_flood_of_messages_ends_its_socket_alone(served: Served) -> None:
    with listen(served) as good:
        with listen(served) as bad, pytest.raises(ConnectionClosed):
            for _ in range(100_000):
                bad.send("x")
        with listen(served) as bad, pytest.raises(ConnectionClosed):
            bad.send("x" * (LONGEST_MESSAGE + 1))
            bad.recv(timeout=10)
        assert served.act("add_subject").status_code == 200
        assert json.loads(good.recv(timeout=10))["event"] == "changed"
    with ExitStack() as crowd:
        for _ in range(MOST_PAGES):
            crowd.enter_context(listen(served))
        with pytest.raises((InvalidStatus, ConnectionClosed)), listen(served) as more:
            more.recv(timeout=10)


def test_names_are_text(clip: Path) -> None:
    named = clip.with_name("<img onerror=alert(1) src=x>.mov")
    clip.rename(named)
    desk = Desk([str(named)])
    try:
        entry = desk.shot(0).clip_entry()
        assert entry["name"] == named.name
        assert desk.shot(0).summary()["outputs"][0]["name"] == "img_onerror_alert_1__src_x.matte.mov"
    finally:
        desk.close()
    page = Path(__file__).resolve().parents[2] / "mam_video" / "studio" / "page"
    for script in page.glob("*.js"):
        text = script.read_text(encoding="utf-8")
        for risk in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert risk not in text, f"{script.name} has {risk}"


def test_the_page_may_load_nothing_from_elsewhere(served: Served) -> None:
    policy = served.client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert served.client.get("/api/0/frame/0").headers["cache-control"] == "private, no-cache"
    assert served.client.get("/").headers["x-content-type-options"] == "nosniff"


def test_two_pages_lose_nothing(served: Served) -> None:
    for k in range(6):
        assert served.act("add_point", subject=0, frame=k, x=30 + k, y=36.5, on=True).status_code == 200
        other = httpx.Client(base_url=served.base, cookies=served.client.cookies)
        with other:
            body = {"act": "set_box", "subject": 0, "frame": 11 - k, "box": [10, 10, 60, 60]}
            assert other.post("/api/0/act", json=body, headers={"Origin": served.base}).status_code == 200
    prompts = served.client.get("/api/0/state").json()["state"]["prompts"]
    assert [p["frame"] for p in prompts] == list(range(12))


def test_two_studios_do_not_open_one_project(served: Served, clip: Path) -> None:
    second = Desk([str(clip)])
    with pytest.raises(UsageError, match="another studio has this project open"):
        second.shot(0)
    second.close()


@pytest.mark.parametrize(("host", "says"), [
    ("0.0.0.0", "every address at once"), ("192.0.2.1", "add --i-know"), ("example.org", "must be an address"),
])  # fmt: skip
def test_others_are_served_only_where_the_user_knows(
    host: str, says: str, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["studio", str(clip), "--host", host, "--no-browser"]) == 2
    assert says in capsys.readouterr().err
