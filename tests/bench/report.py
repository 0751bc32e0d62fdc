"""The tables and the plot of docs/performance.md and docs/scale.md, from what was measured."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.bench.alone import Step
from tests.bench.beside import Rounds, ratio
from tests.bench.cost import Cost
from tests.bench.scale import HOSTS, Answer
from tests.bench.simulation import Costs
from tests.bench.workers import Load, Run

DOCS = Path(__file__).parents[2] / "docs"
PAGE, PLOT = DOCS / "performance.md", DOCS / "performance" / "beside.svg"
SCALE = DOCS / "scale.md"

Bar = tuple[str, str, float]
"""What was done, how, and its ratio to the original."""
Ways = tuple[str, str, str]
"""As is usual, otherwise, and the flag that has it otherwise."""

SHOWN_OF_BACKUPS: Ways = ("full", "structure", "-verify structure")
SHOWN_OF_RESTORES: Ways = ("receipts", "no receipts", "-receipts off")


def write(name: str, text: str, into: Path = PAGE) -> None:
    """Put measured text between a page's marks of that name.

    Raises:
        ValueError: the page has no such marks.
    """
    page = into.read_text()
    begin, end = f"<!-- {name}: -->\n", f"<!-- :{name} -->\n"
    before, _, rest = page.partition(begin)
    _, closing, after = rest.partition(end)
    if not closing:
        raise ValueError(f"{into} has no marks for {name}")
    into.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Markdown; numbers to the right."""
    lines = [list(head), ["---", *["---:"] * (len(head) - 1)]]
    lines += [[str(cell) for cell in row] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def beside(found: Mapping[str, Rounds], command: str, version: str, load: float) -> str:
    """The tables of ours beside the original's; `load` is the machine's before it began."""
    rounds = len(next(iter(found.values())).backups["original"])
    message = (
        f"`{command}`, {rounds} rounds after one to warm up, influxd {version}, "
        f"Python {platform.python_version()}, {_machine(load)}. Medians of the ratios to the "
        "original, taken round by round; below 1 is better.\n\n"
    )
    sizes = table(
        ["set", "shards", "MB", "original's backup, s", "archives, ours to the original's"],
        [
            [
                name,
                of.filled.shards,
                f"{of.filled.size_bytes / 1e6:.0f}",
                f"{statistics.median(_wall(of.backups['original'])):.2f}",
                f"{ratio(of.stored_bytes['full'], of.stored_bytes['original']):.3f}",
            ]
            for name, of in found.items()
        ],
    )
    backups = _costs("backup", {name: of.backups for name, of in found.items()}, SHOWN_OF_BACKUPS)
    restores = _costs(
        "restore", {name: of.restores for name, of in found.items()}, SHOWN_OF_RESTORES
    )
    picture = f"![ratios to the original]({PLOT.relative_to(DOCS)})"
    return f"{message}{sizes}\n{backups}\n{restores}\n{picture}\n"


def _costs(what: str, found: Mapping[str, Mapping[str, Sequence[Cost]]], ways: Ways) -> str:
    """What a set's backups, or its restores, cost beside the original's."""
    usual, other, flag = ways
    return table(
        [what, "wall", "CPU", f"wall, `{flag}`", "CPU", "MiB", "original's MiB"],
        [
            [
                name,
                *_ratios(costs, usual),
                *_ratios(costs, other),
                f"{_peak(costs[usual]):.0f}",
                f"{_peak(costs['original']):.0f}",
            ]
            for name, costs in found.items()
        ],
    )


def bars(found: Mapping[str, Rounds]) -> list[Bar]:
    """What the plot shows."""
    return [
        (f"{what}, {name}", way, ratio(_wall(costs[way]), _wall(costs["original"])))
        for what, (usual, other, _) in (
            ("backup", SHOWN_OF_BACKUPS),
            ("restore", SHOWN_OF_RESTORES),
        )
        for name, of in found.items()
        for costs in [of.backups if what == "backup" else of.restores]
        for way in (usual, other)
    ]


def plot(shown: Sequence[Bar]) -> str:
    """Bars of ratios, the original's as a line at 1."""
    row, left, unit, margin = 26, 250, 300, 20
    most = max(1.0, *(value for _, _, value in shown)) * 1.08
    width, height = left + int(unit * most) + 60, row * len(shown) + 2 * margin
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for i, (what, way, value) in enumerate(shown):
        y = margin + i * row
        colour = "#2f6f9f" if way in ("full", "receipts") else "#9cc3dd"
        parts += [
            f'<text x="{left - 8}" y="{y + 17}" text-anchor="end">{what}, {way}</text>',
            f'<rect x="{left}" y="{y + 4}" width="{unit * value:.0f}" height="{row - 8}" '
            f'fill="{colour}"/>',
            f'<text x="{left + unit * value + 6:.0f}" y="{y + 17}">{value:.2f}</text>',
        ]
    at = left + unit
    parts += [
        f'<line x1="{at}" y1="{margin - 6}" x2="{at}" y2="{height - margin + 6}" stroke="#b33" '
        'stroke-dasharray="4 3"/>',
        f'<text x="{at}" y="{margin - 8}" text-anchor="middle" fill="#b33">the original</text>',
        "</svg>\n",
    ]
    return "\n".join(parts)


def alone(steps: Sequence[Step], command: str, counted: str, load: float) -> str:
    """How ours grows by itself."""
    sizes = sorted({step.size for step in steps})
    whats = list(dict.fromkeys(step.what for step in steps))
    by = {(step.what, step.size): step for step in steps}
    rows: list[list[str]] = []
    for what in whats:
        here = [by[what, size] for size in sizes]
        last = here[-1]
        asked = "-" if last.asked is None else f"{last.asked.meta}, {last.asked.data}"
        seconds = [f"{step.cost.wall_s:.2f}" for step in here]
        rows.append([what, *seconds, f"{last.cost.peak_mib:.0f}", asked])
    head = ["seconds", *(f"{size:,} {counted}" for size in sizes), "MiB", "requests: meta, data"]
    return f"`{command}`, {_machine(load)}.\n\n{table(head, rows)}"


def workers(found: Sequence[Run], wanted: Load, command: str, load: float) -> str:
    """How the time falls with workers, beside what the nodes' networks allow."""
    alone = {run.what: run.cost.wall_s for run in found if run.workers == 1}
    rows = [
        [
            run.what,
            str(run.workers),
            f"{run.cost.wall_s:.1f}",
            f"{wanted.seconds(run.workers) * (2 if run.what == 'restore' else 1):.1f}",
            f"{alone[run.what] / run.cost.wall_s / run.workers:.2f}" if run.what in alone else "-",
            f"{run.cost.cpu_s:.1f}",
        ]
        for run in found
    ]
    head = ["", "workers", "seconds", "the networks' alone", "of linear", "CPU s"]
    size_gb = wanted.nodes * wanted.shards_each * wanted.shard_mb / 1000
    return (
        f"`{command}`, {size_gb:.1f} GB, {_machine(load)}; the nodes' own work runs on the same "
        "cores. A restore reads back what it sent, so everything passes twice."
        f"\n\n{table(head, rows)}"
    )


def simulated(
    known: Costs,
    checked: Iterable[tuple[int, float, float]],
    answers: Iterable[Answer],
    command: str,
    load: float,
) -> str:
    """The costs, the model beside real runs, and the cases."""
    rows = [
        [count, f"{model:.1f}", f"{real:.1f}", f"{model / real:.2f}"]
        for count, model, real in checked
    ]
    beside_real = table(["workers", "simulated, s", "measured, s", "ratio"], rows)
    shown: list[list[object]] = []
    for one in answers:
        case, last = one.case, one.by_hosts[max(one.by_hosts)]
        parts = f", {one.parts} backups" if one.parts > 1 else ""
        shown.append(
            [
                f"{case.shards:,} of {case.shard_gb:g} GB on {case.nodes} nodes",
                "everything" if one.first else f"{case.changed:.0%}",
                *(_duration(steps.seconds) for steps in one.by_hosts.values()),
                last.limit,
                f"{last.batches} of up to {last.largest_bytes / 1e9:.0f} GB{parts}",
            ]
        )
    hosts = [f"{n} host{'s' * (n > 1)}" for n in HOSTS]
    head = ["shards", "copied", *hosts, f"what limits {HOSTS[-1]} hosts", "steps"]
    return (
        f"`{command}`, {_machine(load)}.\n\n"
        f"Measured here: {known.plan_shard_s * 1e3:.2f} ms to find out whether a shard has "
        f"changed, {known.copy_shard_s * 1e3:.1f} ms to copy a small one; a worker copies "
        f"{known.worker_rate / 1e6:.0f} MB/s and takes {known.start_s:.1f} s to start. The model "
        "beside real backups of six nodes with 20 MB/s each, 12 shards of 15 MB on each:\n\n"
        f"{beside_real}\nWhat the model says:\n\n{table(head, shown)}"
    )


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 72 * 3600 else f"{seconds / 86400:.1f} d"


def _machine(load: float) -> str:
    return f"{len(os.sched_getaffinity(0))} cores, load {load:.1f} before it began"


def _wall(costs: Sequence[Cost]) -> list[float]:
    return [cost.wall_s for cost in costs]


def _cpu(costs: Sequence[Cost]) -> list[float]:
    return [cost.cpu_s for cost in costs]


def _peak(costs: Sequence[Cost]) -> float:
    return max(cost.peak_mib for cost in costs)


def _ratios(costs: Mapping[str, Sequence[Cost]], way: str) -> list[str]:
    original = costs["original"]
    return [
        f"{ratio(_wall(costs[way]), _wall(original)):.2f}",
        f"{ratio(_cpu(costs[way]), _cpu(original)):.2f}",
    ]
