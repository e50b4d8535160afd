"""What the documentation's site needs besides mkdocs.

Links that leave docs/: on GitHub such a link leads to the file. On the site there is no such page.
The link leads to the repository if ``repo_url`` is set in mkdocs.yml, else only its text is left.

Code blocks: behind the language the pages say what the tests do with a block, such as
``file=path`` or ``measured`` (tests/docs/pages.py). The site shows a path as the block's title.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>\.\./[^)\s]*)\)")
FENCE = re.compile(r"^```(?P<language>\w+) (?:file=(?P<file>\S+)|measured)$", re.MULTILINE)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """The text of a page as the site takes it."""
    folder = posixpath.dirname(page.file.src_uri)

    def link(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, found["target"]))
        if not path.startswith("../"):
            return found[0]
        if not config.repo_url:
            return found["text"]
        return f"[{found['text']}]({config.repo_url.rstrip('/')}/blob/HEAD/{path[3:]})"

    def fence(found: re.Match[str]) -> str:
        title = f' title="{found["file"]}"' if found["file"] else ""
        return f"```{found['language']}{title}"

    return FENCE.sub(fence, LINK.sub(link, markdown))
