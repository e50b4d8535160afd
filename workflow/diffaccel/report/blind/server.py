"""The page on which a person compares images: served to this machine alone, by Python's own server.

The page asks for one pair at a time. What it is sent are a prompt, two images under random names,
and how many pairs are left.
"""

from __future__ import annotations

import json
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from diffaccel.errors import InputError
from diffaccel.recipes.codegen import TEMPLATES
from diffaccel.report.blind.session import Said, Session

HOST = "127.0.0.1"
FOLDER = TEMPLATES / "report"
LONGEST = 4096
"""Bytes of a request at most."""
SAID: tuple[Said, ...] = ("a", "same", "b")
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' data:; frame-ancestors 'none'",
}


class Server(ThreadingHTTPServer):
    """Serves a session until somebody finishes it."""

    daemon_threads = True

    def __init__(self, session: Session, port: int) -> None:
        self.session = session
        self.token = secrets.token_hex(16)
        """The page sends it with what it asks for: no other page in the browser can."""
        super().__init__((HOST, port), _Handler)

    @property
    def address(self) -> str:
        """Of the page."""
        return f"http://{HOST}:{self.server_port}/"

    def finish(self) -> None:
        """Ends serving; whoever called `serve_forever` goes on."""
        threading.Thread(target=self.shutdown, daemon=True).start()


def serve(session: Session, port: int = 0) -> Server:
    """A server for a session: call its ``serve_forever``, and close it at the end.

    Args:
        port: 0: any that is free.

    Raises:
        InputError: the port cannot be had.
    """
    try:
        return Server(session, port)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"port {port} cannot be had ({error}); leave out --port for any that is free"
        ) from None


def page(token: str) -> str:
    """The page as HTML."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined
    )
    css = Markup((FOLDER / "page.css").read_text(encoding="utf-8"))
    return environment.get_template("blind.html.jinja").render(css=css, token=token)


class _Handler(BaseHTTPRequestHandler):
    server_version, sys_version = "diffaccel", ""
    actions: ClassVar[tuple[str, ...]] = ("/pair", "/say", "/undo", "/finish")

    @property
    def _own(self) -> Server:
        return cast(Server, self.server)

    def do_GET(self) -> None:
        """The page, or an image of the pair that is shown."""
        if not self._is_local():
            return
        if self.path == "/":
            self._send(page(self._own.token).encode(), "text/html; charset=utf-8")
        elif (found := self._own.session.image(self.path.removeprefix("/image/"))) is not None:
            self._send(found, "image/png")
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        """What the page does; it answers with the pair that is to be judged then."""
        given = self._given()
        if not self._is_local():
            return
        if self.headers.get("X-Token") != self._own.token or self.path not in self.actions:
            self.send_error(403)
            return
        session = self._own.session
        if self.path == "/say":
            if given.get("said") not in SAID:
                self.send_error(400, f"said must be one of {', '.join(SAID)}")
                return
            session.say(str(given.get("pair")), given["said"])
        elif self.path == "/undo":
            session.undo()
        self._send(json.dumps(state(session)).encode(), "application/json")
        if self.path == "/finish":
            self._own.finish()

    def _given(self) -> dict[str, Any]:
        """What was sent, as JSON; nothing where it is none."""
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > LONGEST:
            return {}
        try:
            found = json.loads(self.rfile.read(int(length)) or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def _is_local(self) -> bool:
        """Whether the browser asks for this machine by its own name: else a page from elsewhere may
        have its name lead here."""
        port = self._own.server_port
        if self.headers.get("Host") in (f"{HOST}:{port}", f"localhost:{port}"):
            return True
        self.send_error(403)
        return False

    def _send(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the terminal is for the person who judges."""


def state(session: Session) -> dict[str, Any]:
    """What the page is told."""
    shown = session.shown()
    return {
        "pair": shown.name if shown else None,
        "images": [f"/image/{name}" for name in shown.images] if shown else [],
        "prompt": shown.text if shown else "",
        "judged": session.judged,
        "left": len(session.left),
        "undo": session.can_undo,
    }
