# SPDX-License-Identifier: Apache-2.0
"""What a run says at its end: figures held against their bars, as a table and as JSON."""
import json
import math
import statistics

COMPARE = {"<=": lambda a, b: a <= b, ">=": lambda a, b: a >= b}


class Bar:
    """What a figure has to reach: itself, or its ratio to the baseline."""

    def __init__(self, sign, limit, of="ratio"):
        assert sign in COMPARE and of in ("ratio", "value")
        self.sign, self.limit, self.of = sign, limit, of

    def __str__(self):
        return f"{self.of} {self.sign} {self.limit:.4g}"

    def met(self, value, baseline):
        if value is None or (self.of == "ratio" and not baseline):
            return False
        return COMPARE[self.sign](value / baseline if self.of == "ratio" else value, self.limit)


class Figure:
    """One row of the table. `value` None: it could not be measured, and `why` says why."""

    def __init__(self, id_, name, unit, bar, value=None, baseline=None, why="", details=None):
        self.id, self.name, self.unit, self.bar = id_, name, unit, bar
        self.value, self.baseline, self.why, self.details = value, baseline, why, details or {}

    @property
    def ratio(self):
        return self.value / self.baseline if self.value is not None and self.baseline else None

    @property
    def met(self):
        return self.bar.met(self.value, self.baseline)

    def as_dict(self):
        row = {"id": self.id, "name": self.name, "value": self.value, "baseline": self.baseline, "unit": self.unit,
               "bar": str(self.bar), "met": self.met, "ratio": self.ratio}
        if self.why:
            row["why"] = self.why
        if self.details:
            row["details"] = self.details
        return row


def short(value):
    """Three or four digits that matter."""
    if value is None:
        return "–"
    if value and abs(value) < 10000:
        digits = max(0, 3 - math.floor(math.log10(abs(value))) - 1)
        return f"{value:.{min(digits, 4)}f}"
    return f"{value:,.0f}"


def table(figures):
    """Markdown, with columns padded so that it reads well on a terminal too."""
    rows = [("#", "scenario", "Sockgate", "baseline", "unit", "ratio", "bar", "met")]
    for f in figures:
        rows.append((f.id, f.name, short(f.value), short(f.baseline), f.unit, short(f.ratio), str(f.bar),
                     "yes" if f.met else "no" if f.value is not None else "not run"))
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(r, widths)) + " |" for r in rows]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    lines += [f"{f.id}: {f.why}" for f in figures if f.why]
    return "\n".join(lines)


def document(figures, machine, adapters):
    return {"machine": machine, "scenarios": [f.as_dict() for f in figures], "adapters": adapters}


def write_json(path, content):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(content, f, indent=1, ensure_ascii=False)
        f.write("\n")


def spread(values):
    """Median, and how far the rounds lie apart."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "rounds": len(values)}
