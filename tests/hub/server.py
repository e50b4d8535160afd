"""A hub on loopback: the part of the protocol that fetching models uses, serving local folders.

Source of the protocol: huggingface_hub's client, and https://huggingface.co/docs/hub/api.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_INFO = re.compile(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?")
_TREE = re.compile(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)")
_FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class Repository:
    """A folder as a repository of one commit.

    Args:
        gated: whether its files are for those alone who have accepted its licence, which here
            nobody has.
        cuts: file -> at how many bytes its transfers break off, one transfer each.
        closed: whether transfers of whole files are refused once the cuts are used up.
    """

    folder: Path
    gated: bool = False
    cuts: dict[str, list[int]] = field(default_factory=dict)
    closed: bool = False

    @cached_property
    def files(self) -> dict[str, Path]:
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path for path in paths}

    @cached_property
    def commit(self) -> str:
        digests = [name + etag(path) for name, path in self.files.items()]
        return hashlib.sha1("".join(digests).encode()).hexdigest()

    def has(self, revision: str | None) -> bool:
        return revision in (None, "main", self.commit)


def etag(path: Path) -> str:
    """What names a file's content."""
    return hashlib.sha1(path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Request:
    """What was asked for."""

    method: str
    path: str
    bytes: str | None


class Hub(ThreadingHTTPServer):
    """The server; ``requests`` holds what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.requests: list[Request] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def transfers(self, file: str) -> list[Request]:
        """Whole or partial downloads of a file."""
        return [
            request
            for request in self.requests
            if request.method == "GET" and request.path.endswith(f"/{file}")
        ]


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(Request(self.command, path, self.headers.get("Range")))
        for pattern, handle in ((_TREE, self._tree), (_INFO, self._info), (_FILE, self._file)):
            if match := pattern.fullmatch(path):
                name, revision, *rest = match.groups()
                repository = self.server.repositories.get(name)
                if repository is None:
                    # As the real one: without a token it does not even say that there is nothing.
                    self._refuse(404 if self._token else 401, "RepoNotFound")
                elif not repository.has(revision):
                    self._refuse(404, "RevisionNotFound")
                else:
                    handle(name, repository, *rest)
                return
        self._refuse(404, "EntryNotFound")

    @property
    def _token(self) -> bool:
        return "Authorization" in self.headers

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code})

    def _info(self, name: str, repository: Repository) -> None:
        siblings = [
            {"rfilename": file, "size": path.stat().st_size, "blobId": etag(path)}
            for file, path in repository.files.items()
        ]
        self._json({"id": name, "sha": repository.commit, "siblings": siblings})

    def _tree(self, name: str, repository: Repository) -> None:
        self._json(
            [
                {"type": "file", "path": file, "size": path.stat().st_size, "oid": etag(path)}
                for file, path in repository.files.items()
            ]
        )

    def _file(self, name: str, repository: Repository, file: str) -> None:
        path = repository.files.get(file)
        headers = {"X-Repo-Commit": repository.commit, "Accept-Ranges": "bytes"}
        if repository.gated:
            self._refuse(403 if self._token else 401, "GatedRepo")
        elif path is None:
            self._send(404, b"", headers | {"X-Error-Code": "EntryNotFound"})
        elif self.command == "GET" and file in repository.cuts:
            self._cut(repository, file, headers | {"ETag": f'"{etag(path)}"'})
        else:
            self._content(path.read_bytes(), headers | {"ETag": f'"{etag(path)}"'})

    def _content(self, content: bytes, headers: dict[str, str]) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if wanted is None:
            self._send(200, content, headers)
            return
        start, size = int(wanted[1]), len(content)
        headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        self._send(206, content[start:], headers)

    def _cut(self, repository: Repository, file: str, headers: dict[str, str]) -> None:
        """Breaks off where the next cut says; then refuses, or goes on as usual."""
        content, cuts = repository.files[file].read_bytes(), repository.cuts[file]
        if cuts:
            self._send(200, content[: cuts.pop(0)], headers, promised=len(content))
            self.close_connection = True
        elif repository.closed:
            self.close_connection = True
        else:
            self._content(content, headers)

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(
        self, status: int, body: bytes, headers: dict[str, str], promised: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if promised is None else promised))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
