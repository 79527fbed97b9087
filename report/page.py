"""One self-contained page: template, styles, scripts and data in one file that needs no network.

Text of a corpus is hostile until shown otherwise. Three fences hold it: jinja escapes whatever a
template prints; data for scripts is JSON without any character that could end its element, and the
scripts only ever set text, never markup; and the page's content security policy runs the scripts
listed by hash and nothing else, and forbids every request.
"""

import base64
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pellucid.report import wording

HERE = Path(__file__).parent
PLOT_CSS, PLOT_JS = "vendor/uPlot.min.css", "vendor/uPlot.iife.min.js"
_ESCAPED = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def write_page(
    out: Path,
    *,
    template: str,
    styles: list[str],
    scripts: list[str],
    data: Mapping[str, Any],
    context: Mapping[str, Any],
) -> Path:
    """Render a page and put it in place in one move, so that no reader sees half of it.

    styles and scripts name files of `static/`; data becomes one JSON element per key.
    """
    style = "\n".join(asset(name) for name in (PLOT_CSS, *(f"static/{s}" for s in styles)))
    code = "\n".join(asset(f"static/{name}") for name in scripts)
    plot = asset(PLOT_JS)
    html = (
        environment()
        .get_template(template)
        .render(
            **context,
            policy=policy(scripts=[plot, code], styles=[style]),
            style=Markup(style),
            plot_script=Markup(plot),
            script=Markup(code),
            data={key: safe_json(value) for key, value in data.items()},
        )
    )
    return _replace(out, html)


def safe_json(value: Any) -> Markup:
    """JSON that cannot leave a script element; what is not a finite number becomes null."""
    text = json.dumps(_clean(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # A lone surrogate is legal in JSON but not in UTF-8.
    text = text.encode("utf-8", "replace").decode("utf-8")
    return Markup(text.translate(_ESCAPED))


def policy(*, scripts: list[str], styles: list[str]) -> str:
    """A content security policy: only these scripts and styles, and no request of any kind."""
    allowed = {"script-src": map(_hash, scripts), "style-src": map(_hash, styles)}
    sources = [f"{kind} {' '.join(hashes)}" for kind, hashes in allowed.items()]
    return "; ".join(
        ["default-src 'none'", *sources, "img-src data:", "base-uri 'none'", "form-action 'none'"]
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def asset(name: str) -> str:
    """Text of a file of this package, checked to stay inside the element it is inlined in."""
    text = (HERE / name).read_text(encoding="utf-8").strip()
    if "</script" in text.lower() or "</style" in text.lower() or "<!--" in text:
        raise ValueError(f"{name} would end the element it is inlined in")
    return text


def _clean(value: Any) -> Any:
    """Non-finite becomes null; a whole float becomes an int, which halves rows of zeros."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        return {str(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value


def environment() -> Environment:
    """Templates of the pages: whatever they print is escaped, a name they lack is an error."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= wording.FILTERS
    return made


def _replace(out: Path, html: str) -> Path:
    half = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        half.write_text(html, encoding="utf-8", errors="replace")
        half.replace(out)
    finally:
        half.unlink(missing_ok=True)
    return out
