"""What runs in the sandbox: loads a script and answers requests with its images.

Not part of the package as it is imported: the file itself is run there, with nothing but the
standard library and what the script imports. All of it is as untrusted as the script from the
moment that one is loaded; the answers are checked by who reads them.

A request is a line of JSON: ``{"nonce": hex, "load": true}``, or ``{"nonce": hex, "prompts":
[...], "seeds": [...], "size": [height, width]}``. An answer is the nonce (16 bytes), then one of:
``R``, loaded; ``I`` and the images' bytes (n, height, width, 3); ``E``, the length of a message (2
bytes) and the message.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import resource
import sys
from types import ModuleType
from typing import Any

LONGEST_MESSAGE = 2000


class NotAsked(Exception):
    """What the script generated is not what was asked for."""


def main() -> None:
    order = json.loads(sys.argv[1])
    limit(order["limits"])
    become(order["user"])
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for each in (0, 1, 2):
        os.dup2(nothing, each)
    state: dict[str, Any] = {}
    if order["wanted"] is not None:
        # Not found there by its name, as a module would be.
        state["witness"] = read("witness", order["witness"]).Witness(order["wanted"])
    while line := requests.readline():
        request = json.loads(line)
        nonce = bytes.fromhex(request["nonce"])
        try:
            answer = respond(request, order["script"], state)
        except BaseException as error:
            kind = "" if isinstance(error, NotAsked) else f"{type(error).__name__}: "
            text = f"{kind}{error}".encode(errors="replace")[:LONGEST_MESSAGE]
            answer = b"E" + len(text).to_bytes(2, "big") + text
        send(answers, nonce + answer)


def limit(limits: dict[str, int]) -> None:
    """Puts limits on this process and all that it starts; nothing in here can raise them. Where the
    machine's memory ends all the same, it is the first to go."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    for name, most in limits.items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (least, least))


def become(user: int | None) -> None:
    """Another user, where this is the superuser: limits do not count for that one."""
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)


def respond(request: dict[str, Any], script: str, state: dict[str, Any]) -> bytes:
    if request.get("load"):
        state["module"] = read("judged", script, known=True)
        state["pipe"] = state["module"].load_pipeline()
        quiet = getattr(state["pipe"], "set_progress_bar_config", None)
        if quiet is not None:
            quiet(disable=True)
        return b"R"
    witness = state.get("witness")
    if witness is not None:
        witness.begin()
    images = list(state["module"].generate(state["pipe"], request["prompts"], request["seeds"]))
    if len(images) != len(request["prompts"]):
        raise ValueError(f"{len(images)} images for {len(request['prompts'])} prompts")
    made = [pixels(image, request["size"]) for image in images]
    if witness is not None and (problem := witness.problem(made)):
        raise NotAsked(problem)
    return b"I" + b"".join(made)


def read(name: str, path: str, *, known: bool = False) -> ModuleType:
    """A file as a module, which an import finds where it is to be known."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if known:
        sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def pixels(image: Any, size: list[int]) -> bytes:
    """An image's bytes: of a PIL image, or of anything that holds bytes in this shape."""
    if hasattr(image, "convert"):
        image = image.convert("RGB")
        if [image.height, image.width] != size:
            raise ValueError(
                f"an image of {image.width}x{image.height}; asked: {size[1]}x{size[0]}"
            )
        found: bytes = image.tobytes()
        return found
    view = memoryview(image)
    if view.shape != (*size, 3) or view.format != "B":
        raise ValueError(f"neither a PIL image nor bytes of the shape {(*size, 3)}")
    return view.tobytes()


def send(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


if __name__ == "__main__":
    main()
