"""What can be told of the page without a browser."""

import re
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[2] / "stream_unmask" / "web" / "static"
# What is written in which colour, and on which ground.
PAIRS = [
    *((ink, ground) for ink in ("ink", "soft", "accent") for ground in ("ground", "card")),
    ("bad", "card"),
    ("ink", "warm"),
    ("on-accent", "accent"),
]


def colours(scheme: str) -> dict[str, str]:
    """The page's colours by name, in light or in dark."""
    light, dark = (STATIC / "style.css").read_text().split("@media (prefers-color-scheme: dark)")
    found = re.findall(r"--([\w-]+):\s*#(\w+);", light if scheme == "light" else dark)
    return {
        name: value if len(value) == 6 else re.sub("(.)", r"\1\1", value) for name, value in found
    }


def luminance(colour: str) -> float:
    """WCAG's relative luminance."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("pair", PAIRS, ids="-on-".join)
def test_contrast(scheme: str, pair: tuple[str, str]) -> None:
    known = colours(scheme)
    darker, lighter = sorted(luminance(known[name]) for name in pair)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5


@pytest.mark.parametrize("path", sorted(STATIC.iterdir()), ids=lambda path: path.name)
def test_nothing_comes_from_elsewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    addresses = re.findall(r"(?:https?:)?//[\w.-]+\.\w+[\w./]*", text)
    assert {*addresses} <= {"http://www.w3.org/2000/svg"}
    if path.suffix == ".html":
        assert re.findall(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=", text) == []


def test_every_control_has_a_name() -> None:
    text = (STATIC / "index.html").read_text(encoding="utf-8")
    for control in re.findall(r"<(?:input|progress|video)\b[^>]*>", text):
        inside_label = re.search(
            rf"<label\b[^>]*>(?:(?!</label>).)*{re.escape(control)}", text, re.S
        )
        named_later = control == '<progress max="1">'  # with its file's name
        assert "aria-label=" in control or inside_label or named_later, control
