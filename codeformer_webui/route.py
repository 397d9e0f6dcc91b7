"""Our own requests: restore one picture, find its faces, list the models.

The host's request for Extras can't reach scripts of extensions. An answer of 200 means that the work was done.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from secrets import compare_digest
from typing import Any

import numpy as np
import torch
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials

import codeformer_core as core

from . import bodies, host, images, models, settings, work
from .options import COUNT_KEY

RESTORE, FACES, MODELS = "/codeformer/v1/restore", "/codeformer/v1/faces", "/codeformer/v1/models"


def register(_demo: Any, app: FastAPI) -> None:
    """Adds the routes, where the host was started to serve requests; with the host's own logins."""
    if not host.serves_requests():
        return
    guard = [Depends(_check_login)] if host.logins() else []
    restore_schema = bodies.schema(bodies.restore_example(work.TASKS))
    find_schema = bodies.schema({"image": "", "detector": core.AUTO, "confidence": 0.0})
    app.add_api_route(RESTORE, _route(_restore), methods=["POST"], dependencies=guard, openapi_extra=restore_schema)
    app.add_api_route(FACES, _route(_faces), methods=["POST"], dependencies=guard, openapi_extra=find_schema)
    app.add_api_route(MODELS, _models, methods=["GET"], dependencies=guard)


def _check_login(credentials: HTTPBasicCredentials = Depends(HTTPBasic())) -> None:  # noqa: B008  # FastAPI's way
    password = host.logins().get(credentials.username)
    if password is None or not compare_digest(credentials.password.encode(), password.encode()):
        headers = {"WWW-Authenticate": "Basic"}
        raise HTTPException(status_code=401, detail="Incorrect username or password", headers=headers)


def _route(answer: Callable[[Any], dict[str, Any]]) -> Callable[[Request], Any]:
    """Reads the JSON body and answers from a thread; the host's own handlers would drop the reason of a failure."""

    async def handle(request: Request) -> JSONResponse:
        try:
            body = json.loads(await request.body())
        except ValueError as error:
            status, failed = bodies.failure(ValueError(f"the body is not JSON ({error})"))
            return JSONResponse(failed, status)
        return await run_in_threadpool(_answered, answer, body)

    return handle


def _answered(answer: Callable[[Any], dict[str, Any]], body: Any) -> JSONResponse:
    try:
        return JSONResponse(answer(body))
    except host.Interrupted as error:
        return JSONResponse({"error": "interrupted", "detail": str(error)}, bodies.STOPPED)
    except Exception as error:  # noqa: BLE001  # every failure has an answer that tells it
        status, failed = bodies.failure(error)
        if status == bodies.FAILED:
            host.log_error("codeformer: a request failed")
        return JSONResponse({**failed, "detail": host.without_base(failed["detail"])}, status)


def _restore(body: Any) -> dict[str, Any]:
    asked = bodies.read_restore(body, settings.wanted(), work.TASKS)
    image_1HWC = images.to_tensor(asked.image)
    with host.queue_lock:
        if asked.aligned:
            done = work.restore_aligned(image_1HWC, asked.wanted)
        elif asked.task == work.RESTORE:
            done = work.restore(image_1HWC, asked.wanted, upscale=asked.upscale)
        else:
            mask_1HW = None
            if asked.mask is not None:
                mask_1HW = torch.from_numpy(np.array(asked.mask.convert("L"))).float().div_(255)[None]
            done = work.edit(image_1HWC, asked.wanted, asked.task, mask_1HW=mask_1HW)
    return {
        "image": images.to_base64(images.to_image(done.image_1HWC)),
        "faces": [bodies.face_of(face) for face in done.faces],
        "restored": done.infotext[COUNT_KEY],
        "skipped": done.skipped,
        "report": done.report,
        "infotext": done.infotext,
    }


def _faces(body: Any) -> dict[str, Any]:
    image, wanted = bodies.read_find(body, settings.wanted())
    image_1HWC = images.to_tensor(image)
    with host.queue_lock:
        faces, report = work.find_faces(image_1HWC, wanted)
    return {"faces": [bodies.face_of(face) for face in faces.per_image[0]], "report": report}


def _models() -> dict[str, Any]:
    return {
        "restorers": models.restorers(),
        "detectors": models.detectors(),
        "parsers": models.parsers(),
        "tasks": list(work.TASKS),
    }
