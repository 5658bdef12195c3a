"""How pages are made of what lies in assets/: every value from data is escaped, styles and scripts are ours."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

ASSETS = Path(__file__).parent / "assets"


def environment() -> Environment:
    """Escape every value but what is ours; JSON so that no text in it can end its script."""
    made = Environment(loader=FileSystemLoader(str(ASSETS)), autoescape=True, undefined=StrictUndefined)
    made.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    return made


def ours(asset: str) -> Markup:
    """Read one of our own styles or scripts; it is not escaped."""
    return Markup((ASSETS / asset).read_text(encoding="utf-8"))
