"""What `medsynth evaluate` says to people: the cells of its table, its sentences, and one self-contained page."""

from __future__ import annotations

from medsynth_ray.evaluate import Evaluation, Row

COLUMNS = ("space", "class", "number", "value [95 % interval]", "real vs real (worst)", "p", "n real, synthetic")

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Synthetic against real images</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .8rem; border-bottom: 1px solid #ccc; }
</style>
</head>
<body>
<h1>Synthetic against real images</h1>
<p>{{ found.synthetic.num_images }} synthetic images ({{ found.synthetic.root }}) against
{{ found.real.num_images }} real ones ({{ found.real.root }}).</p>
{% for sentence in sentences %}<p>{{ sentence }}</p>
{% endfor %}
<table>
<thead><tr>{% for column in columns %}<th scope="col">{{ column }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody>
</table>
{% if found.notes %}<h2>Notes</h2>
<ul>{% for note in found.notes %}<li>{{ note }}</li>{% endfor %}</ul>{% endif %}
</body>
</html>
"""


def page(found: Evaluation) -> str:
    """One HTML page without script, pictures or links."""
    from jinja2 import Environment, StrictUndefined

    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(_PAGE)
    rows = [cells(row) for row in found.rows]
    return template.render(found=found, columns=COLUMNS, rows=rows, sentences=sentences(found))


def cells(row: Row) -> tuple[str, ...]:
    """A row of the table, in the order of COLUMNS."""
    counts = f"{row.num_real}, {row.num_synthetic}"
    start = (row.space, row.label or "all", row.name)
    if row.value is None:
        return (*start, row.reason, "-", "-", counts)
    interval = "" if row.low is None or row.high is None else f" [{row.low:.4g}, {row.high:.4g}]"
    floor = "-"
    if row.floor is not None:
        floor = f"{row.floor:.4g}" + ("" if row.floor_extreme is None else f" ({row.floor_extreme:.4g})")
    return (*start, f"{row.value:.4g}{interval}", floor, "-" if row.p is None else f"{row.p:.3g}", counts)


def sentences(found: Evaluation) -> list[str]:
    """How to read each number over all images."""
    return [
        f"{row.name}: {row.value:.4g} is {row.said}." for row in found.rows if not row.label and row.value is not None
    ]
