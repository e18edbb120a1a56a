# SPDX-License-Identifier: Apache-2.0
"""Plots as SVG, with nothing but the standard library: curves over axes, linear or by powers of ten, and bars."""
import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 80, 170, 40, 60
COLOURS = ("#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#d68910", "#34495e")


def number(value):
    """A tick's label: 1200 as 1.2k, 0.05 as 0.05."""
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.4g}{suffix}"
    return f"{value:.4g}"


class Axis:
    """Values of `low`..`high` onto pixels `start`..`end`."""

    def __init__(self, low, high, start, end, log):
        self.log = log and low > 0
        if self.log:
            low, high = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))
            if low == high:
                high *= 10
        elif low == high:
            low, high = low - 1, high + 1
        self.low, self.high, self.start, self.end = low, high, start, end

    def at(self, value):
        if self.log:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self):
        if self.log:
            return [10.0 ** e for e in range(round(math.log10(self.low)), round(math.log10(self.high)) + 1)]
        step = 10.0 ** math.floor(math.log10((self.high - self.low) / 4))
        step *= next(m for m in (1, 2, 5, 10) if (self.high - self.low) / (step * m) <= 6)
        first = math.ceil(self.low / step - 1e-9)
        return [k * step for k in range(first, math.floor(self.high / step + 1e-9) + 1)]


class Drawing:
    """An SVG document that is put together piece by piece."""

    def __init__(self, title, width=WIDTH, height=HEIGHT):
        self.width, self.height = width, height
        self.pieces = [f'<rect width="{width}" height="{height}" fill="white"/>']
        self.text(width / 2, 24, title, anchor="middle", size=15)

    def text(self, x, y, words, anchor="start", size=12, turn=0):
        rotate = f' transform="rotate({turn} {x:.1f} {y:.1f})"' if turn else ""
        self.pieces.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"{rotate}>'
                           f"{escape(str(words))}</text>")

    def line(self, x1, y1, x2, y2, colour="#cccccc", dashed=False):
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.pieces.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dash}/>')

    def rect(self, x, y, width, height, colour):
        self.pieces.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" '
                           f'fill="{colour}"/>')

    def curve(self, points, colour, dots):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.pieces.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        if dots:
            self.pieces += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]

    def document(self):
        return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}" '
                f'viewBox="0 0 {self.width} {self.height}" font-family="sans-serif">\n'
                + "\n".join(self.pieces) + "\n</svg>\n")


def curves(title, x_label, y_label, series, log_x=False, log_y=False, dots=True):
    """series: {name: [(x, y), ...]}. Returns the SVG's text; None when there is no point."""
    points = [p for s in series.values() for p in s]
    if not points:
        return None
    d = Drawing(title)
    x = Axis(min(p[0] for p in points), max(p[0] for p in points), LEFT, WIDTH - RIGHT, log_x)
    low = min(p[1] for p in points) if log_y else 0
    y = Axis(low, max(p[1] for p in points), HEIGHT - BOTTOM, TOP, log_y)
    for tick in x.ticks():
        d.line(x.at(tick), TOP, x.at(tick), HEIGHT - BOTTOM)
        d.text(x.at(tick), HEIGHT - BOTTOM + 18, number(tick), anchor="middle")
    for tick in y.ticks():
        d.line(LEFT, y.at(tick), WIDTH - RIGHT, y.at(tick))
        d.text(LEFT - 8, y.at(tick) + 4, number(tick), anchor="end")
    d.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, x_label, anchor="middle")
    d.text(20, (TOP + HEIGHT - BOTTOM) / 2, y_label, anchor="middle", turn=-90)
    for i, (name, line) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        d.curve([(x.at(a), y.at(b)) for a, b in line], colour, dots)
        d.rect(WIDTH - RIGHT + 12, TOP + 20 * i, 12, 12, colour)
        d.text(WIDTH - RIGHT + 30, TOP + 20 * i + 11, name)
    return d.document()


def bars(title, rows, unit):
    """rows: [(label, value, bar or None, met)]: one horizontal bar each, with a mark where it has to get to."""
    if not rows:
        return None
    height = TOP + 28 * len(rows) + 50
    d = Drawing(title, height=height)
    left = 260
    x = Axis(0, max(max(r[1], r[2] or 0) for r in rows) * 1.05 or 1, left, WIDTH - 60, False)
    for tick in x.ticks():
        d.line(x.at(tick), TOP, x.at(tick), height - 46)
        d.text(x.at(tick), height - 30, number(tick), anchor="middle")
    for i, (label, value, bar, met) in enumerate(rows):
        y = TOP + 28 * i + 6
        d.text(left - 8, y + 13, label, anchor="end")
        d.rect(left, y, x.at(value) - left, 18, COLOURS[2] if met else COLOURS[1])
        d.text(x.at(value) + 5, y + 13, number(value))
        if bar is not None:
            d.line(x.at(bar), y - 4, x.at(bar), y + 22, colour="black", dashed=True)
    d.text((left + WIDTH - 60) / 2, height - 10, unit, anchor="middle")
    return d.document()
