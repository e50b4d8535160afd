"""The picture of the rooms in docs/explanation/architecture.md, made from the imports.

``python -m tests.docs.rooms`` writes it; part of ``make pages``. A test keeps it in step.
"""

from __future__ import annotations

import grimp

from tests.docs.made import Parts, write
from tests.docs.pages import DOCS

PAGE = DOCS / "explanation" / "architecture.md"
PACKAGE = "diffaccel"


def imports() -> dict[str, set[str]]:
    """The rooms that each room imports."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    rooms = {
        module.rpartition(".")[2]
        for module in graph.find_children(PACKAGE)
        if graph.find_children(module)
    }
    found: dict[str, set[str]] = {room: set() for room in rooms}
    for module in graph.modules:
        room = _room(module)
        if room in found:
            others = {_room(each) for each in graph.find_modules_directly_imported_by(module)}
            found[room] |= (others & rooms) - {room}
    return found


def _room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def picture(found: dict[str, set[str]]) -> str:
    """A flow chart in mermaid. What a room imports through another one has no arrow of its own."""

    def below(room: str) -> set[str]:
        return found[room].union(*map(below, found[room]))

    lines = ["```mermaid", "flowchart TD"]
    for room in sorted(found, key=lambda each: (-len(below(each)), each)):
        through = set().union(*map(below, found[room]))
        lines += [f"    {room} --> {other}" for other in sorted(found[room] - through)]
    return "\n".join([*lines, "```", ""])


PARTS: Parts = {"rooms": lambda: picture(imports())}

if __name__ == "__main__":
    write(PAGE, PARTS)
