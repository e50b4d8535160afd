"""What the documentation's site needs besides mkdocs: links that leave docs/.

On GitHub such a link leads to the file. On the site there is no such page: the link leads to the
repository if ``repo_url`` is set in mkdocs.yml, and is left out, but for its text, if it is not.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>\.\./[^)\s]*)\)")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """The text of a page, with the links that leave docs/ replaced."""
    folder = posixpath.dirname(page.file.src_uri)

    def replaced(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, link["target"]))
        if not path.startswith("../"):
            return link[0]
        if not config.repo_url:
            return link["text"]
        return f"[{link['text']}]({config.repo_url.rstrip('/')}/blob/HEAD/{path[3:]})"

    return LINK.sub(replaced, markdown)
