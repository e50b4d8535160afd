"""The protocol with a judged script: requests to its process, and reading what it answers.

The boundary: `Exchange.ask` writes one line to the code and reads exactly as many bytes as were
asked for, or one short message. Nothing that comes back is parsed, unpickled or run, and no length
that the code claims is believed beyond that of a message. The time is read here, before the request
is written and after the last byte was read.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import time
from collections.abc import Callable, Mapping
from typing import Any

from diffaccel.benchmark.judge import inside

NONCE = 16


class Failed(Exception):
    """What the judged code did wrong, in words; they may quote it."""


class Disturbed(Exception):
    """What became of it through no fault of its own, in words."""


class Exchange:
    """Requests to judged code and its answers, over a pipe each.

    Args:
        to, answers: file descriptors of the pipes, neither of which blocks.
        ended: why the process was ended, if it was.
        gone: why there is no one at the other end.
    """

    def __init__(
        self,
        to: int,
        answers: int,
        ended: Callable[[], Failed | Disturbed | None],
        gone: Callable[[], Failed | Disturbed],
    ) -> None:
        self._to, self._from, self._ended, self._gone = to, answers, ended, gone

    def ask(
        self, request: Mapping[str, Any], kind: bytes, size: int, seconds: float
    ) -> tuple[bytearray, float]:
        """Sends a request and reads an answer of exactly this kind and size.

        Raises:
            Failed: what came is anything else, or did not come in time.
        """
        nonce = secrets.token_bytes(NONCE)
        line = json.dumps({"nonce": nonce.hex(), **request}).encode() + b"\n"
        start = time.perf_counter()
        deadline = start + seconds
        self._write(line, deadline)
        if self._read(NONCE, deadline) != nonce:
            raise Failed("it answered something that it was not asked for")
        answered = bytes(self._read(1, deadline))
        if answered == kind:
            body = self._read(size, deadline)
            return body, time.perf_counter() - start
        if answered == b"E":
            length = int.from_bytes(self._read(2, deadline), "big")
            text = self._read(min(length, inside.LONGEST_MESSAGE), deadline)
            raise Failed(readable(text))
        raise Failed("it answered something that it was not asked for")

    def _write(self, data: bytes, deadline: float) -> None:
        rest = memoryview(data)
        while rest:
            self._wait(self._to, select.POLLOUT, deadline)
            try:
                rest = rest[os.write(self._to, rest) :]
            except BlockingIOError:
                continue
            except OSError:
                raise self._gone() from None

    def _read(self, size: int, deadline: float) -> bytearray:
        """Exactly so many bytes."""
        data = bytearray(size)
        rest = memoryview(data)
        while rest:
            self._wait(self._from, select.POLLIN, deadline)
            try:
                count = os.readv(self._from, [rest])
            except BlockingIOError:
                continue
            if not count:
                raise self._gone()
            rest = rest[count:]
        return data

    def _wait(self, handle: int, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(handle, event)
        left = deadline - time.perf_counter()
        if left <= 0 or not poll.poll(left * 1000):
            raise Failed("it took too long")
        ended = self._ended()
        if ended is not None:
            raise ended


def readable(text: bytes | bytearray) -> str:
    """Bytes of judged code as one line that a terminal may show."""
    decoded = bytes(text).decode("utf-8", errors="replace")
    line = " ".join(decoded.split())
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in line)
