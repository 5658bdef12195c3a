"""Pages of the components in static/: served ones, which link to them, and files that open offline.

A page is a title, one entry module, styles, and data. The document has no text from data but its title; all else is put
into JSON, and from there onto the page by `textContent` (static/dom.js). `one_file` writes the same modules into the
file itself: each as a `data:` URL under its name in an import map, as a module in a `data:` URL cannot import "./x.js".
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

STATIC = Path(__file__).parent / "static"
# One form, so that it is found without a parser: import {...} from "./name.js"; (tests keep all modules to it)
IMPORT = re.compile(r'(?m)^((?:import|export) (?:[^;"\']*? from )?)"(\.{1,2}/[^"]+)";')
Data = Iterable[tuple[str, Any]]  # id of the element -> a value that JSON has


def served_page(title: str, entry: str, styles: Sequence[str] = (), data: Data = ()) -> str:
    """Give a page of the server; its modules and styles are files under /static.

    Args:
        entry: of static/, e.g. "review/main.js".
        styles: of static/, after theme.css.
        data: what the page finds by `read(id)` of static/data.js.
    """
    links = "".join(f'<link rel="stylesheet" href="/static/{name}">' for name in ("theme.css", *styles))
    script = f'<script type="module" src="/static/{entry}"></script>'
    return "".join([_start(title), links, script, "</head><body>", *_blocks(data), "</body></html>\n"])


def one_file(title: str, entry: str, styles: Sequence[str] = (), data: Data = (), images: str = "") -> Iterator[str]:
    """Give the pieces of a page that is one file and opens offline, one block of data after the other.

    Scripts that are not these very ones do not run: a policy names them by their sha256.

    Args:
        images: from where pictures may come too, as the policy has it: "'self' file:" of files beside the page.
    """
    modules = _modules(entry)
    imports = {name: _data_url(text) for name, text in modules.items()}
    import_map = json.dumps({"imports": imports}, separators=(",", ":"))
    start = f'import "{entry}";'
    allowed = " ".join(f"'sha256-{_sha256(script)}'" for script in (import_map, start))
    policy = f"default-src 'none'; script-src data: {allowed}; style-src 'unsafe-inline'; img-src data: blob: {images}"
    yield _start(title)
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    for name in ("theme.css", *styles):
        yield f"<style>{(STATIC / name).read_text(encoding='utf-8')}</style>"
    yield f'<script type="importmap">{import_map}</script></head><body>'
    yield from _blocks(data)
    yield f'<script type="module">{start}</script></body></html>\n'


def json_text(value: Any) -> str:
    """Write JSON that ends no element: every < in it is escaped."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _start(title: str) -> str:
    about = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    about += f'<link rel="icon" href="data:,"><title>{html.escape(title)}</title>'
    return f'<!doctype html><html lang="en"><head>{about}'


def _blocks(data: Data) -> Iterator[str]:
    for name, value in data:
        yield f'<script type="application/json" id="{html.escape(name)}">{json_text(value)}</script>\n'


def _modules(entry: str) -> dict[str, str]:
    """The entry and all that it imports, by name; what they import is named likewise."""
    modules: dict[str, str] = {}
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        if name in modules:
            continue
        text = (STATIC / name).read_text(encoding="utf-8")
        modules[name] = IMPORT.sub(lambda found, name=name: f'{found[1]}"{_named(name, found[2])}";', text)  # type: ignore[misc]
        waiting += [_named(name, found[2]) for found in IMPORT.finditer(text)]
    return modules


def _named(importer: str, relative: str) -> str:
    """The name in static/ of what a module imports: "review/main.js" and "../dom.js" are "dom.js"."""
    parts = list(PurePosixPath(importer).parent.parts)
    for part in relative.split("/"):
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def _data_url(text: str) -> str:
    return f"data:text/javascript;base64,{base64.b64encode(text.encode()).decode()}"


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
