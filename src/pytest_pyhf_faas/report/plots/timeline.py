"""What each worker did at which time."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from matplotlib.collections import PolyCollection

from pytest_pyhf_faas.report.analyses import stem_of
from pytest_pyhf_faas.report.plots.plot import Plot, plot_of
from pytest_pyhf_faas.report.plots.style import DARK_GREY, LIGHT_GREY, MANY, single_axes
from pytest_pyhf_faas.report.plots.texts import AT_ROW, IN_TITLE, drawable, within_width
from pytest_pyhf_faas.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from pytest_pyhf_faas.report.form import Analysis


#: Fewer bars show nothing that a sentence could not say.
_FEWEST_TASKS = 3


def plot_timeline(place: int, analysis: Analysis, name: str) -> Plot | None:
    """Draw a bar for each task, in a row for each worker; ``None`` if there are too few."""
    timeline = analysis["timeline"]
    if timeline is None:
        return None
    workers = timeline["workers"]
    tasks = sorted(task for task in timeline["tasks"] if task[0] < len(workers))
    if len(tasks) < _FEWEST_TASKS:
        return None
    height = min(max(0.17 * len(workers), 0.8), 5.0) + 1.3
    uncertainty = max(worker["clock_uncertainty_s"] for worker in workers)
    notes = [
        f"one bar for each task, dark and light in turn; positions known to ± {uncertainty:.2g} s"
    ]
    figure, axes = single_axes(height, notes)
    _draw_tasks(axes, tasks)
    seconds = timeline["seconds"]
    first, last = min(task[1] for task in tasks), max(task[2] for task in tasks)
    axes.set_xlim(min(0.0, first), max(seconds, last, 1e-3))
    axes.set_ylim(len(workers) - 0.4, -0.6)
    step = math.ceil(len(workers) / (height * 4.5))
    rows = range(0, len(workers), step)
    axes.set_yticks(rows, [within_width(workers[row]["worker"], AT_ROW) for row in rows])
    axes.set_xlabel("time since the start [s]")
    axes.set_ylabel(counted(len(workers), "worker"))
    axes.grid(axis="x", alpha=0.4)
    busy = sum(end - begin for _, begin, end, _ in tasks)
    share = f"{busy / (seconds * len(workers)):.0%} of the workers' time, " if seconds > 0 else ""
    title = f"What the workers did: {within_width(name, IN_TITLE)}"
    alt = (
        f"What each worker did: {drawable(name)}. {counted(len(tasks), 'task')} on "
        f"{counted(len(workers), 'worker')} within {seconds:.4g} s; tasks fill {share}"
        f"the first began after {first:.3g} s, the last ended after {last:.4g} s. Positions are "
        f"known to ± {uncertainty:.2g} s."
    )
    return plot_of(figure, stem_of("timeline", place, analysis), title, alt, place)


def _draw_tasks(axes: Axes, tasks: Sequence[Sequence[Any]]) -> None:
    of_worker: Counter[int] = Counter()
    boxes, colours = [], []
    for worker, begin, end, _ in tasks:
        low, high = worker - 0.42, worker + 0.42
        boxes.append([(begin, low), (end, low), (end, high), (begin, high)])
        # Neighbours differ in shade, not in colour: in another plot colours mean parts of the time.
        colours.append((DARK_GREY, LIGHT_GREY)[of_worker[worker] % 2])
        of_worker[worker] += 1
    axes.add_collection(
        PolyCollection(boxes, facecolors=colours, edgecolors="none", rasterized=len(boxes) > MANY)
    )
