"""The tables as text, and that of samplers as a figure."""

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from course_utils._validate import require_count, require_type
from course_utils.leaderboard.photographs import PhotographRow
from course_utils.leaderboard.plans import BUDGETS
from course_utils.leaderboard.rows import Row
from course_utils.plotting import BLACK, BLUE, GREEN, ORANGE, PINK, SKY, YELLOW

LOOKS = {
    "ddpm": (BLACK, "o"),
    "ddim": (BLUE, "o"),
    "euler": (BLUE, "o"),
    "heun": (GREEN, "o"),
    "dpmpp_2s": (GREEN, "s"),
    "dpmpp_2m": (ORANGE, "o"),
    "unipc_2": (PINK, "s"),
    "unipc_3": (PINK, "o"),
}
DASHES = {"uniform": "-", "quadratic": "--"}


def table(rows: Sequence[Row]) -> str:
    """FID by sampler and budget as plain text, the best of each column starred; the floor below.

    Rows drawn in another precision than most are marked with a ', and the last line says which. All rows must be of one
    n, one seed and the same weights, or they cannot be compared: ValueError if they are not.
    """
    n, usual = _one_table(rows), _usual_precision(rows)
    budgets = [b for b in BUDGETS if any(_budget(row) == b for row in rows)]
    cells: dict[tuple[str, str, int], Row] = {}
    best: dict[int, float] = {}
    for row in rows:
        cells[row.sampler, row.grid, _budget(row)] = row
        best[_budget(row)] = min(row.fid, best.get(_budget(row), row.fid))
    lines = [f"{'FID at network calls':22}" + "".join(f"{budget:>13,}  " for budget in budgets).rstrip()]
    for sampler, grid in dict.fromkeys((row.sampler, row.grid) for row in rows):
        line = f"{sampler + ', ' + grid:22}"
        for budget in budgets:
            found = cells.get((sampler, grid, budget))
            marks = "'" * (found is not None and found.precision != usual)
            marks += "*" * (found is not None and found.fid == best[budget])
            line += f"{_shown(found):>13}{marks:2}"
        lines.append(line.rstrip())
    first = rows[0]
    others = "".join(f", ' {name}" for name in sorted({row.precision for row in rows} - {usual}))
    lines.append(
        f"real images {first.floor:.4f}: the floor. n = {n:,}, seed {first.seed}, features of {first.features}, "
        f"{usual}{others}"
    )
    return "\n".join(lines)


def figure(rows: Sequence[Row], own: Sequence[Row] = ()) -> Figure:
    """Quality against network calls, a line a sampler, with intervals and the floor; `own` rows as stars.

    Lines are moved apart a little along x, so that their intervals can be seen; points drawn in another precision than
    most are open, and a star says its own if it is another. Raises ValueError as `table` does.
    """
    _one_table(rows)
    _one_table([*rows, *own])
    usual = _usual_precision(rows)
    figure, axis = plt.subplots(figsize=(8.5, 3.8))
    names = list(dict.fromkeys((row.sampler, row.grid) for row in rows))
    for k, (sampler, grid) in enumerate(names):
        line = sorted((row for row in rows if (row.sampler, row.grid) == (sampler, grid)), key=lambda row: row.nfe)
        (colour, marker), dash = LOOKS.get(sampler, (SKY, "^")), DASHES.get(grid, ":")
        calls = [row.nfe * 1.02 ** (k - len(names) / 2) for row in line]
        quality = [row.fid for row in line]
        axis.plot(calls, quality, dash, marker=marker, ms=4, lw=1.2, color=colour, label=f"{sampler}, {grid}")
        if other := [(x, row.fid) for x, row in zip(calls, line, strict=True) if row.precision != usual]:
            axis.plot(*zip(*other, strict=True), marker, ms=2.5, color="white", zorder=3)
        axis.vlines(calls, [row.low for row in line], [row.high for row in line], colour, lw=0.8, alpha=0.6)
    for row in own:
        name = f"{row.sampler}, {row.grid}" + f" ({row.precision})" * (row.precision != usual)
        axis.plot(row.nfe, row.fid, "*", ms=14, color=YELLOW, mec=BLACK, mew=0.8, label=name)
    axis.axhline(rows[0].floor, color=BLACK, lw=1, ls=":", label="real images")
    found = [row.fid for row in (*rows, *own)]
    axis.set(xscale="log", xlabel="network calls a sample", ylabel=f"FID, n = {rows[0].n:,}")
    if max(found) > 10 * min(found):
        axis.set(yscale="log")
    else:
        axis.set(ylim=(0, None))
    ticks = [b for b in BUDGETS if b <= 1.1 * max(row.nfe for row in (*rows, *own))]
    axis.set_xticks(ticks, [f"{b:,}" for b in ticks])
    axis.minorticks_off()
    figure.legend(fontsize=8, loc="outside right upper")
    return figure


def table_of_photographs(rows: Sequence[PhotographRow]) -> str:
    """Ways to train, those of equal photographs and seed together, the lowest held-out loss first."""
    lines = [
        f"{'way':<14}{'average':>8}{'seed':>5}{'photographs':>12}{'TFLOP':>7}{'core s':>8}{'loss':>8}"
        f"  {'less the baseline':<28}{'FID':<20}{'agreement':>9}"
    ]
    for row in sorted(rows, key=lambda row: (row.photographs, row.seed, row.loss)):
        less = f"{row.difference:+.4f} [{row.difference_low:+.4f}, {row.difference_high:+.4f}]"
        fid = "" if math.isnan(row.fid) else f"{row.fid:.2f} [{row.low:.2f}, {row.high:.2f}]"
        agreement = "" if math.isnan(row.agreement) else f"{row.agreement:.1%}"
        lines.append(
            f"{row.way:<14}{row.average:>8g}{row.seed:>5}{row.photographs:>12,}{row.training_flops / 1e12:>7.1f}"
            f"{row.seconds:>8.0f}{row.loss:>8.4f}  {less:<28}{fid:<20}{agreement:>9}"
        )
    return "\n".join(lines)


def at(rows: Sequence[Row], budget: int) -> dict[tuple[str, str], Row]:
    """The rows of one column of the table, by (sampler, grid): those that belong to this budget of network calls."""
    require_count("budget", budget)
    return {(row.sampler, row.grid): row for row in rows if _budget(row) == budget}


def _budget(row: Row) -> int:
    """The smallest budget that the row stays within; its own number of calls beyond them all."""
    return next((budget for budget in BUDGETS if row.nfe <= budget), row.nfe)


def _usual_precision(rows: Sequence[Row]) -> str:
    """The precision that most rows were drawn in, the first such if several are as frequent."""
    found = [row.precision for row in rows]
    return max(found, key=found.count)


def _shown(row: Row | None) -> str:
    return "" if row is None else f"{row.fid:.3f} ±{(row.high - row.low) / 2:.3f}"


def _one_table(rows: Sequence[Row]) -> int:
    for row in rows:
        require_type("rows", row, Row, "rows of a leaderboard")
    found = sorted({row.n for row in rows})
    if len(found) != 1:
        raise ValueError(f"rows: wanted rows of one n, since FID depends on it, got n = {found or 'none at all'}")
    tables = sorted({(row.network, row.sha256, row.seed) for row in rows})
    if len(tables) != 1:
        raise ValueError(f"rows: wanted rows of one network, the same weights and one seed, got {tables}; see `stored`")
    return found[0]
