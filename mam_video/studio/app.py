"""The application: what the page asks for, by address. Everything it may name is a number or one of a few words."""

from __future__ import annotations

import asyncio
import hashlib
from importlib import resources
from typing import Any, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from mam_video.core.errors import MamVideoError, UsageError
from mam_video.core.settings import FinishSettings
from mam_video.core.untrusted import line_of, parse_json
from mam_video.studio.desk import Desk
from mam_video.studio.mattes import Wanted, shown_value, tried_edges
from mam_video.studio.pictures import view_size
from mam_video.studio.security import REPORT_POLICY
from mam_video.studio.shot import Shot
from mam_video.studio.sockets import listen

_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_POINTING: Final = ("set_box", "add_point", "remove_point")  # acts after which the frame's matte is made


def make_app(desk: Desk) -> Starlette:
    """Make the application of the shots that are on the desk."""
    routes = _Routes(desk)
    return Starlette(
        routes=[
            Route("/", routes.page),
            Route("/page/{name}", routes.file),
            Route("/api/desk", routes.desk),
            Route("/api/knobs", routes.knobs),
            Route("/api/queue", routes.queue, methods=["POST"]),
            Route("/api/{shot:int}/clip", routes.clip),
            Route("/api/{shot:int}/state", routes.state),
            Route("/api/{shot:int}/act", routes.act, methods=["POST"]),
            Route("/api/{shot:int}/mask/{index:int}", routes.mask, methods=["POST"]),
            Route("/api/{shot:int}/frame/{index:int}", routes.frame),
            Route("/api/{shot:int}/background/{number:int}/{index:int}", routes.background),
            Route("/api/{shot:int}/matte/{index:int}", routes.matte),
            Route("/api/{shot:int}/pixel/{index:int}", routes.pixel),
            Route("/api/{shot:int}/version/{number:int}", routes.version),
            Route("/api/{shot:int}/report", routes.report),
            WebSocketRoute("/events", lambda socket: listen(socket, desk.events)),
        ],
        exception_handlers={MamVideoError: _told, ValueError: _told},
    )


async def _told(request: Request, error: Exception) -> Response:
    """Tell the page what is wrong, in one line."""
    return JSONResponse({"error": line_of(str(error))}, 400 if isinstance(error, UsageError | ValueError) else 500)


class _Routes:
    """The answers. All that reads files or computes is done in threads."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._uploading = asyncio.Lock()
        folder = resources.files("mam_video.studio") / "page"
        self._files = {
            each.name: each.read_bytes() for each in folder.iterdir() if each.name.rpartition(".")[2] in _TYPES
        }

    async def page(self, request: Request) -> Response:
        return HTMLResponse(self._files["index.html"])

    async def file(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._files or name == "index.html":
            raise HTTPException(404)
        return Response(self._files[name], media_type=_TYPES[name.rpartition(".")[2]])

    async def desk(self, request: Request) -> Response:
        return JSONResponse(self._desk.entry())

    async def knobs(self, request: Request) -> Response:
        return JSONResponse(self._desk.knobs())

    async def clip(self, request: Request) -> Response:
        return JSONResponse((await self._shot(request)).clip_entry())

    async def state(self, request: Request) -> Response:
        shot = await self._shot(request)
        return JSONResponse(await run_in_threadpool(shot.summary))

    async def act(self, request: Request) -> Response:
        shot, given = await self._shot(request), await _body(request)
        name = given.get("act")

        def done() -> dict[str, Any]:
            if name in ("undo", "redo"):
                shot.step(back=name == "undo")
            elif name == "track":
                shot.tracking.start()
            elif name == "stop":
                shot.tracking.stop()
            elif name == "still":
                shot.still(_index(given.get("frame"), shot))
            elif name == "find":
                shot.stills.find(
                    _whole(given, "subject"), _index(given.get("frame"), shot), str(given.get("words", ""))
                )
            else:
                shot.act(str(name), given)
                if name in _POINTING:
                    shot.still(_index(given.get("frame"), shot))
            return shot.summary()

        return JSONResponse(await run_in_threadpool(done))

    async def mask(self, request: Request) -> Response:
        """Take a mask of a frame. One is read at a time, so that many hold no more memory than one."""
        shot = await self._shot(request)
        index = _index(request.path_params["index"], shot)
        subject = _number(request.query_params.get("subject"))
        if request.headers.get("content-type") != "image/png":
            raise UsageError("a mask is a PNG picture: the subject white, all else black")
        async with self._uploading:
            data = await request.body()

            def done() -> dict[str, Any]:
                shot.take_mask(subject, index, data)
                shot.still(index)
                return shot.summary()

            return JSONResponse(await run_in_threadpool(done))

    async def queue(self, request: Request) -> Response:
        given = await _body(request)
        return JSONResponse(await run_in_threadpool(self._desk.queue, given))

    async def frame(self, request: Request) -> Response:
        shot = await self._shot(request)
        index = _index(request.path_params["index"], shot)
        full = request.query_params.get("size") == "full"
        tag = f'"{shot.identity}-{index}-{int(full)}"'
        if _has(request, tag):
            return Response(status_code=304, headers={"etag": tag})
        data = await run_in_threadpool(shot.frames.picture, index, full=full)
        return Response(data, media_type="image/png" if full else "image/jpeg", headers={"etag": tag})

    async def background(self, request: Request) -> Response:
        shot = await self._shot(request)
        index, number = _index(request.path_params["index"], shot), request.path_params["number"]
        width, height = view_size(shot.info.width, shot.info.height)
        data = await run_in_threadpool(self._desk.backdrops.picture, number, index, (height, width))
        tag = f'"{hashlib.sha256(data).hexdigest()[:20]}"'
        if _has(request, tag):
            return Response(status_code=304, headers={"etag": tag})
        return Response(data, media_type="image/jpeg", headers={"etag": tag})

    async def matte(self, request: Request) -> Response:
        shot = await self._shot(request)
        wanted, full = _wanted(request, shot), request.query_params.get("size") == "full"

        def made() -> tuple[str, bytes | None]:
            files = shot.mattes.sources(wanted)
            tag = f'"{shot.mattes.tag(wanted, files, full=full)}"'
            if not files or _has(request, tag):
                return tag, None
            return tag, shot.mattes.picture(wanted, files, tag, full=full)

        tag, data = await run_in_threadpool(made)
        if _has(request, tag):
            return Response(status_code=304, headers={"etag": tag})
        if data is None:
            return Response(status_code=204)
        return Response(data, media_type="image/png", headers={"etag": tag})

    async def pixel(self, request: Request) -> Response:
        shot = await self._shot(request)
        wanted = _wanted(request, shot)
        x, y = (_number(request.query_params.get(name)) for name in ("x", "y"))
        if not (0 <= x < shot.info.width and 0 <= y < shot.info.height):
            raise UsageError("the pixel lies outside the picture")

        def found() -> dict[str, Any]:
            rgb = shot.frames.frame(wanted.frame).rgb[y, x]
            files = shot.mattes.sources(wanted)
            alpha = shot.mattes.alpha(wanted, files) if files else None
            return {"rgb": [v.item() for v in rgb], "type": str(rgb.dtype), "alpha": shown_value(alpha, x, y)}

        return JSONResponse(await run_in_threadpool(found))

    async def version(self, request: Request) -> Response:
        shot, number = await self._shot(request), request.path_params["number"]

        def read() -> dict[str, Any] | None:
            return shot.tracking.records_of(number)

        found = await run_in_threadpool(read)
        if found is None:
            raise HTTPException(404)
        return JSONResponse(found)

    async def report(self, request: Request) -> Response:
        shot = await self._shot(request)
        text = await run_in_threadpool(shot.report)
        if text is None:
            raise HTTPException(404)
        return HTMLResponse(text, headers={"content-security-policy": REPORT_POLICY})

    async def _shot(self, request: Request) -> Shot:
        return await run_in_threadpool(self._desk.shot, request.path_params["shot"])


async def _body(request: Request) -> dict[str, Any]:
    """Read a JSON table. Raises: ValueError."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise ValueError("an act is JSON")
    found = parse_json(await request.body())
    if not isinstance(found, dict):
        raise ValueError("an act is a table")
    return found


def _index(value: Any, shot: Shot) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < shot.frames.count:
        raise UsageError(f"the clip has the frames 0-{shot.frames.count - 1}")
    return value


def _whole(given: dict[str, Any], name: str) -> int:
    value = given.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{name} must be a whole number")
    return value


def _number(text: str | None) -> int:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 9:
        raise UsageError("a whole number is missing")
    return int(text)


def _wanted(request: Request, shot: Shot) -> Wanted:
    """Read which matte is wanted. Raises: UsageError or ValueError."""
    given = request.query_params
    version = _number(given["version"]) if "version" in given else None
    subject = _number(given["subject"]) if "subject" in given else None
    edges: FinishSettings | None = None
    if "edges" in given:
        state = shot.state
        name = state.subject(subject).name if subject is not None else ""
        edges = tried_edges(state.settings().finish_of(name), given["edges"][:200])
    return Wanted(_index(request.path_params["index"], shot), version, subject, edges)


def _has(request: Request, tag: str) -> bool:
    return tag in [each.strip() for each in request.headers.get("if-none-match", "").split(",")]
