"""A Git LFS server for tests: the Batch API and the objects, as pages of a web server.

lfs = LfsServer(web, "/git/code.git")
lfs.put(b"content")             # the text of its pointer
lfs.errors[oid] = (404, "…")    # the batch answer has this error for the object
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.web_server import Answer, Request, WebServer

MEDIA_TYPE = "application/vnd.git-lfs+json"


def oid_of(content: bytes) -> str:
    """Return the name of an object."""
    return hashlib.sha256(content).hexdigest()


def pointer(content: bytes) -> str:
    """Return what git has in place of *content*."""
    return (
        "version https://git-lfs.github.com/spec/v1\n"
        f"oid sha256:{oid_of(content)}\n"
        f"size {len(content)}\n"
    )


@dataclass
class LfsServer:
    """What the server of one repository has, says and was asked.

    Attributes:
        web: where the batch API is.
        path: of the repository there; ``/info/lfs`` follows.
        store: where the objects are; *web* where nothing is said.
        authorization: what the batch API wants; None for nothing.
        action: more of each ``download`` action: ``header``, ``expires_in`` and so on.
        entry: more of each object's entry.
        errors: code and message, by oid.
        asked: the oids of each batch.
    """

    web: WebServer
    path: str
    store: WebServer | None = None
    authorization: str | None = None
    action: Mapping[str, Any] = field(default_factory=dict)
    entry: Mapping[str, Any] = field(default_factory=dict)
    errors: dict[str, tuple[int, str]] = field(default_factory=dict)
    asked: list[list[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.web.pages[self.batch_path] = self._batch

    @property
    def url(self) -> str:
        """What ``lfs.url`` would be."""
        return f"{self.web.address}{self.path}/info/lfs"

    @property
    def batch_path(self) -> str:
        """Where the batch API is."""
        return f"{self.path}/info/lfs/objects/batch"

    def put(self, content: bytes, instead: bytes | None = None) -> str:
        """Take *content*, and give *instead* where that is said; return the pointer."""
        server = self.store or self.web
        given = content if instead is None else instead
        server.add(self.object_path(oid_of(content)), given, etag='"1"')
        return pointer(content)

    def object_path(self, oid: str) -> str:
        """Where an object is."""
        return f"/objects/{oid}"

    def _batch(self, request: Request) -> Answer:
        if self.authorization not in (None, request.headers.get("authorization")):
            return _json(401, {"message": "Credentials needed"})
        if MEDIA_TYPE not in (request.headers.get("accept"), request.headers.get("content-type")):
            return _json(406, {"message": "not acceptable"})
        question = json.loads(request.body)
        assert question["operation"] == "download"
        assert "basic" in question["transfers"]
        self.asked.append([each["oid"] for each in question["objects"]])
        objects = [self._told(each) for each in question["objects"]]
        return _json(200, {"transfer": "basic", "objects": objects})

    def _told(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        oid = asked["oid"]
        if oid in self.errors:
            code, message = self.errors[oid]
            return {**asked, "error": {"code": code, "message": message}}
        server = self.store or self.web
        if self.object_path(oid) not in server.pages:
            return {**asked, "error": {"code": 404, "message": "Object does not exist"}}
        href = server.address + self.object_path(oid) + "?signature=hidden"
        return {**asked, **self.entry, "actions": {"download": {"href": href, **self.action}}}


def _json(status: int, content: object) -> Answer:
    return Answer(status, {"Content-Type": MEDIA_TYPE}, json.dumps(content).encode())
