"""Figures as SVG: the frontier, tuning curves, and a difference with its interval.

A figure in the page takes its colors from the page's style; as a file it brings its own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from pellucid.report.grid.arms import BITS, COLORS, UNITS, Arm, better_of
from pellucid.report.grid.axis import Axis
from pellucid.report.grid.reading import COSTS
from pellucid.report.wording import number, words

WIDTH, HEIGHT = 400, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 12, 42
STRIP = 190
LINE, LONGEST = 17, 60
"""Of the names beneath a drawing: the height of one, and its characters."""
PALETTE = "#0d7377 #c8591a #5b5fc7 #a83279 #6c7a1d #2f7fc1 #8a5a34 #5a616d".split()
COST_AXES = {**COSTS, UNITS: "Active units (mean over sites)"}
"""What an arm pays with: less of it is better on a frontier, for otherwise equal arms."""
STYLE = "".join(
    [
        "text{font:11px sans-serif;fill:#5a616d}.num{fill:#fff;font-size:9px;font-weight:600}",
        ".grid{stroke:#e1e1dc}.front{fill:none;stroke:#5a616d;stroke-dasharray:2 3}",
        ".title{font-weight:600;fill:#1b1e24}.twin{opacity:.5}",
        ".curve{fill:none;stroke-width:1.6}.whisker{stroke-width:1.2;opacity:.6}",
        *(
            f".c{i} .dot{{fill:{c}}}.c{i} .whisker,.c{i} .twin,.c{i} .curve{{stroke:{c}}}"
            f".c{i}.barred .dot{{stroke:{c}}}"
            for i, c in enumerate(PALETTE)
        ),
        ".base .dot{fill:#fff;stroke:#1b1e24;stroke-width:1.6}.base .num{fill:#1b1e24}",
        ".base .whisker,.base .twin{stroke:#1b1e24}",
        ".barred .dot{fill:#fff;stroke-width:1.4;stroke-dasharray:2 2}.barred .num{fill:#1b1e24}",
    ]
)


@dataclass(frozen=True)
class Figure:
    """One figure: its name as a file, its title and its drawing."""

    name: str
    title: str
    drawing: Markup
    arms: Sequence[Arm] = ()
    """those that the drawing numbers"""

    def file(self) -> str:
        """The drawing as an SVG file of its own, with the names of the arms it numbers."""
        height = HEIGHT + (len(self.arms) * LINE + LINE // 2 if self.arms else 0)
        opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}">'
        drawn = str(self.drawing)
        inner = drawn[drawn.index(">") + 1 : drawn.rindex("</svg>")]
        named = "".join(_entry(arm, HEIGHT + i * LINE + 4) for i, arm in enumerate(self.arms))
        return f"{opening}<style>{STYLE}</style>{inner}{named}</svg>\n"


def frontier(arms: Sequence[Arm], metric: str) -> Figure | None:
    """Bits per byte against a metric or a cost: an arm a point, with intervals over seeds.

    None where fewer than two arms have both. Baselines are squares, arms that are not ranked
    hollow; a bar at an arm's height is what its own random twins score.
    """
    drawn = [a for a in arms if a.by_seed(metric) and a.by_seed(BITS)]
    if metric == BITS or len(drawn) < 2:
        return None
    at = [(arm.mean(metric), arm.mean(BITS)) for arm in drawn]
    twins = [arm.twin(metric) for arm in drawn]
    inside = [x.value for x, _ in at] + [twin for twin in twins if twin is not None]
    log = metric in COST_AXES
    x = Axis.around([*inside, *_ends(at, 0, inside)], LEFT, WIDTH - RIGHT, log=log)
    bits = [y.value for _, y in at]
    y = Axis.around([*bits, *_ends(at, 1, bits)], HEIGHT - BOTTOM, TOP)
    label = COST_AXES.get(metric, words(metric))
    way = "lower" if metric in COST_AXES else better_of(arms).get(metric)
    parts = [_grid(x, y, _named(label, _said(metric, way)), "bits per byte (lower is better)")]
    ranked = [found for arm, found in zip(drawn, at, strict=True) if arm.rank is not None]
    parts.append(_front([(x.place(a.value), y.place(b.value)) for a, b in ranked], way))
    pairs = zip(drawn, at, twins, strict=True)
    parts += [_point(arm, x, y, *found, twin) for arm, found, twin in pairs]
    return Figure(f"frontier-{metric}", label, _svg(f"Bits per byte against {label}", parts), drawn)


def _said(metric: str, way: str | None) -> str | None:
    return "fewer" if metric == UNITS else way


def _ends(at: Sequence[tuple[Any, Any]], which: int, inside: Sequence[float]) -> Iterable[float]:
    """Ends of intervals, cut where they would make the arms a single dot."""
    span = max(inside) - min(inside)
    ends = [end for pair in at for end in (pair[which].low, pair[which].high) if end is not None]
    return [min(max(end, min(inside) - span), max(inside) + span) for end in ends]


def _named(label: str, way: str | None) -> str:
    return f"{label} ({way} is better)" if way else label


def _svg(title: str, parts: Iterable[Markup]) -> Markup:
    opening = Markup('<svg class="figure" viewBox="0 0 {} {}" role="img" aria-label="{}">')
    return opening.format(WIDTH, HEIGHT, title) + Markup("").join(parts) + Markup("</svg>")


def _grid(x: Axis, y: Axis, x_label: str, y_label: str) -> Markup:
    across = Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>')
    text = Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>')
    foot = HEIGHT - BOTTOM
    parts = []
    for place, said in y.ticks():
        parts.append(across.format(LEFT, WIDTH - RIGHT, place, place))
        parts.append(text.format(LEFT - 7, place + 4, "end", said))
    for place, said in x.ticks():
        parts.append(across.format(place, place, TOP, foot))
        parts.append(text.format(place, foot + 15, "middle", said))
    parts.append(text.format((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "middle", x_label))
    middle = (TOP + foot) / 2
    turned = Markup('<text transform="translate(13 {}) rotate(-90)" text-anchor="middle">{}</text>')
    return Markup("").join([*parts, turned.format(middle, y_label)])


def _front(places: Sequence[tuple[float, float]], way: str | None) -> Markup:
    """A line through those that no other one beats on both axes (places grow downwards)."""
    if way is None or not places:
        return Markup("")
    sign = 1 if way == "lower" else -1
    best, kept = float("-inf"), []
    for x, y in sorted(places, key=lambda p: (sign * p[0], -p[1])):
        if y > best:
            best = y
            kept.append((x, y))
    return Markup('<polyline class="front" points="{}"/>').format(
        " ".join(f"{x},{y}" for x, y in kept)
    )


def _point(arm: Arm, x: Axis, y: Axis, across: Any, up: Any, twin: float | None) -> Markup:
    at = x.place(across.value), y.place(up.value)
    line = Markup('<line class="whisker" x1="{}" x2="{}" y1="{}" y2="{}"/>')
    parts = [] if twin is None else [_twin(x.place(twin), *at)]
    if across.low is not None and across.low != across.high:
        parts.append(line.format(x.place(across.low), x.place(across.high), at[1], at[1]))
    if up.low is not None and up.low != up.high:
        parts.append(line.format(at[0], at[0], y.place(up.low), y.place(up.high)))
    parts.append(_mark(arm, *at))
    said = f"{arm.index}. {arm.label}: {number(up.value)} bits per byte at {number(across.value)}"
    said += "" if twin is None else f"; its random twin {number(twin)}"
    said += "" if arm.rank else f"; not ranked: {', '.join(arm.barred)}"
    opening = Markup('<g class="point {}" data-arm="{}"><title>{}</title>')
    return opening.format(_kind(arm), arm.index, said) + Markup("").join(parts) + Markup("</g>")


def _twin(place: float, x: float, y: float) -> Markup:
    """What an arm's random twins score: a bar at the arm's height, joined to it."""
    line = Markup('<line x1="{}" x2="{}" y1="{}" y2="{}"{}/>')
    joined = line.format(place, x, y, y, Markup(' stroke-dasharray="1 4"'))
    bar = line.format(place, place, y - 6, y + 6, Markup(' stroke-width="2"'))
    return Markup('<g class="twin">') + joined + bar + Markup("</g>")


def _kind(arm: Arm) -> str:
    """How an arm is drawn: hollow where it is not ranked."""
    return arm.kind if arm.rank else f"{arm.kind} barred"


def _mark(arm: Arm, x: float, y: float) -> Markup:
    """The arm's number on its dot, or on a baseline's square."""
    if arm.is_baseline:
        square = Markup('<rect class="dot" x="{}" y="{}" width="14" height="14" rx="2"/>')
        dot = square.format(round(x - 7, 1), round(y - 7, 1))
    else:
        dot = Markup('<circle class="dot" cx="{}" cy="{}" r="7.5"/>').format(x, y)
    label = Markup('<text class="num" x="{}" y="{}" text-anchor="middle">{}</text>')
    return dot + label.format(x, round(y + 3.2, 1), arm.index)


def _entry(arm: Arm, top: float) -> Markup:
    """A line of the names beneath a drawing."""
    said = arm.label if len(arm.label) <= LONGEST else f"{arm.label[: LONGEST - 1]}…"
    line = Markup('<g class="{}">{}<text x="30" y="{}">{}</text></g>')
    return line.format(_kind(arm), _mark(arm, 16, top + LINE / 2), top + LINE / 2 + 4, said)


def tuning_curve(name: str, arm: dict[str, Any]) -> Figure | None:
    """Validation bits per byte over the learning rate, a line for each value of the arm's dial."""
    points = [p for p in arm.get("curve", []) if p.get("bits") is not None]
    if len(points) < 2:
        return None
    x = Axis.around([p["rate"] for p in points], LEFT, WIDTH - RIGHT, log=True)
    y = Axis.around([p["bits"] for p in points], HEIGHT - BOTTOM, TOP)
    parts = [_grid(x, y, "learning rate", "validation bits per byte")]
    for index, dial in enumerate(dict.fromkeys(p.get("dial", "") for p in points)):
        line = sorted((p["rate"], p["bits"]) for p in points if p.get("dial", "") == dial)
        parts.append(_line(index, dial, [(x.place(rate), y.place(bits)) for rate, bits in line]))
    chosen = arm.get("chosen") or {}
    for point in points:
        if all(point.get(key) == chosen.get(key) for key in ("rate", "dial")):
            parts.append(_ring(x.place(point["rate"]), y.place(point["bits"])))
    return Figure(f"tuning-{name}", name, _svg(f"Tuning of {name}", parts))


def _line(index: int, dial: str, places: Sequence[tuple[float, float]]) -> Markup:
    curve = Markup('<polyline class="curve" points="{}"/>')
    dot = Markup('<circle class="dot" cx="{}" cy="{}" r="3.5"/>')
    opening = Markup('<g class="c{}"><title>{}</title>').format(index % COLORS, dial or "as it is")
    drawn = [
        curve.format(" ".join(f"{a},{b}" for a, b in places)),
        *(dot.format(*p) for p in places),
    ]
    return opening + Markup("").join(drawn) + Markup("</g>")


def _ring(x: float, y: float) -> Markup:
    ring = Markup('<circle class="ring" cx="{}" cy="{}" r="8" fill="none" stroke="#d9731a"/>')
    return ring.format(x, y)


def strip(low: float, high: float, found: Any) -> Markup:
    """A difference on a line that all differences of its metric share, with 0 marked."""
    axis = Axis(low, high, 4, STRIP - 4)
    zero, dot = axis.place(0), axis.place(found.value)
    parts = [Markup('<line class="zero" x1="{}" x2="{}" y1="0" y2="20"/>').format(zero, zero)]
    if found.low is not None:
        line = Markup('<line class="whisker" x1="{}" x2="{}" y1="10" y2="10"/>')
        parts.append(line.format(axis.place(found.low), axis.place(found.high)))
    parts.append(Markup('<circle class="dot" cx="{}" cy="10" r="4"/>').format(dot))
    size = Markup(
        '<svg class="strip" viewBox="0 0 {0} 20" width="{0}" height="20" aria-hidden="true">'
    )
    return size.format(STRIP) + Markup("").join(parts) + Markup("</svg>")
