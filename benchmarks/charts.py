"""Bar charts as SVG, which look right on a light page and on a dark one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _LABEL, _FIGURE = 860, 330, 110
_BAR, _GAP, _GROUP, _TOP = 15, 5, 26, 34
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#24292f}.title{font-weight:600;font-size:14px}"
    ".group{font-weight:600}.other{fill:#9aa4af}.ours{fill:#2f81f7}.spread{stroke:#24292f;stroke-width:1.2}"
    ".mark{stroke:#d1242f;stroke-dasharray:4 3}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.other{fill:#6e7681}.spread{stroke:#e6edf3}}"
)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One figure, with the range it was in, and whether it is one of ours."""

    label: str
    value: float
    low: float
    high: float
    ours: bool


@dataclass(frozen=True, kw_only=True)
class Group:
    """Bars under one heading, which may be empty."""

    title: str
    bars: Sequence[Bar]


def bar_chart(title: str, unit: str, groups: Sequence[Group], mark: float | None = None) -> str:
    """The chart of `groups`, one below the other on one scale from zero; a dashed line at `mark`."""
    bars = [bar for group in groups for bar in group.bars]
    if not bars:
        raise ValueError(f"{title}: there is nothing to draw")
    scale = (_WIDTH - _LABEL - _FIGURE) / max([*(bar.high for bar in bars), mark or 0.0])
    lines = [f'<text class="title" x="0" y="16">{escape(title)}</text>']
    y = _TOP
    for group in groups:
        if group.title:
            lines.append(f'<text class="group" x="0" y="{y + 12}">{escape(group.title)}</text>')
            y += _BAR + _GAP
        for bar in group.bars:
            lines += _bar(bar, unit, scale, y)
            y += _BAR + _GAP
        y += _GROUP - _BAR
    if mark is not None:
        x = _LABEL + mark * scale
        lines.append(f'<line class="mark" x1="{x:.1f}" y1="{_TOP - 6}" x2="{x:.1f}" y2="{y - _GROUP + _BAR}"/>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" role="img">'
    return "\n".join([head, f"<title>{escape(title)}</title>", f"<style>{_STYLE}</style>", *lines, "</svg>", ""])


def _bar(bar: Bar, unit: str, scale: float, y: int) -> list[str]:
    low, high = (f"{_LABEL + value * scale:.1f}" for value in (bar.low, bar.high))
    middle, kind = y + _BAR / 2, "ours" if bar.ours else "other"
    figure = f"{bar.value:.4g} {unit}".strip()
    return [
        f'<text x="{_LABEL - 8}" y="{y + 12}" text-anchor="end">{escape(bar.label)}</text>',
        f'<rect class="{kind}" x="{_LABEL}" y="{y}" width="{bar.value * scale:.1f}" height="{_BAR}"/>',
        f'<line class="spread" x1="{low}" y1="{middle}" x2="{high}" y2="{middle}"/>',
        f'<text x="{float(high) + 6:.1f}" y="{y + 12}">{escape(figure)}</text>',
    ]
