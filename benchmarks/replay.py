"""Fits that are sleeps of known lengths: the published study acted out on any number of workers.

Two cores cannot fit on 96 workers at once, but they can let 96 processes sleep. Everything around a
fit is real: campaign, engine, batch system, worker, and the bytes that travel.
"""

from __future__ import annotations

import heapq
import json
import random
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

from pytest_pyhf_faas.errors import PalletError
from pytest_pyhf_faas.pallets import catalogue
from pytest_pyhf_faas.pallets.pallet import Packed
from pytest_pyhf_faas.references.store import DIRECTORY
from tests.helpers.made_up_fits import SLEEP
from tests.helpers.scripted_engine import toy_pallet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_pyhf_faas.campaign.times import Trial
    from pytest_pyhf_faas.pallets.pallet import Pallet

#: The way to fit that the study used.
FIT_SETUP = "numpy+scipy"


@dataclass(frozen=True, slots=True)
class Analysis:
    """A line of Table 1 of arXiv:2103.02182.

    Attributes
    ----------
    name, published_in : str
        Short and long.
    patches : int
        How many hypotheses it has.
    wall_s, stdev_s : float
        Through funcX with ``max_blocks = 4`` and ``nodes_per_block = 1``, over 10 trials.
    serial_s : float
        "Single node": the study's own script fits one patch after the other in one process.
    shape : str
        The pallet whose measured fit times spread as those that are replayed.
    """

    name: str
    published_in: str
    patches: int
    wall_s: float
    stdev_s: float
    serial_s: float
    shape: str


TABLE_1 = (
    Analysis("1Lbb", "Eur. Phys. J. C 80 (2020) 691", 125, 156.2, 9.5, 3842.0, "1Lbb"),
    # Its pallet is not at hand; RegionB has the nearest fit times, 0.7 s.
    Analysis("SS3L", "JHEP 06 (2020) 46", 76, 31.2, 2.7, 114.0, "sbottom_RegionB"),
    Analysis("stau", "Phys. Rev. D 101 (2020) 032009", 57, 57.4, 5.2, 612.0, "stau_combined"),
)


def reference_times(pallet: str) -> list[float]:
    """Return how long pyhf's default fits of a pallet took when its references were made."""
    text = (Path(__file__).parents[1] / DIRECTORY / f"{pallet}.json").read_text(encoding="utf-8")
    checked = [entry.get("checked", {}) for entry in json.loads(text)["patches"].values()]
    times = [each[FIT_SETUP].get("fit_s") for each in checked if FIT_SETUP in each]
    return [seconds for seconds in times if seconds]


def fit_lengths(times: Sequence[float], count: int, total_s: float) -> list[float]:
    """Return so many lengths that spread as measured times do, with a given sum.

    They are the quantiles of the times, in an order that has nothing to do with them.

    Parameters
    ----------
    times : sequence of float
        Measured.
    count : int
        How many lengths.
    total_s : float
        Their sum.
    """
    ranked = sorted(times)
    lengths = [ranked[(2 * i + 1) * len(ranked) // (2 * count)] for i in range(count)]
    random.Random(count).shuffle(lengths)
    scale = total_s / sum(lengths)
    return [scale * seconds for seconds in lengths]


def shortest_s(lengths: Sequence[float], free_at: Sequence[float]) -> float:
    """Return how long workers take that do nothing but fit, the longest first.

    No order takes less than 3/4 of that (Graham, SIAM J. Appl. Math. 17 (1969) 416), nor less than
    the longest fit, nor less than an equal share.

    Parameters
    ----------
    lengths : sequence of float
        Of the fits.
    free_at : sequence of float
        From when on each worker is there.
    """
    free = list(free_at)
    heapq.heapify(free)
    for seconds in sorted(lengths, reverse=True):
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


def replayed(analysis: Analysis, lengths: Sequence[float], pallet: Pallet | None) -> Pallet:
    """Return a pallet each of whose patches says how long it takes.

    Parameters
    ----------
    analysis : Analysis
        What the pallet is called after.
    lengths : sequence of float
        Seconds, one for each patch.
    pallet : Pallet or None
        Where background and patches are taken from, so that as many bytes travel.
    """
    base = pallet or toy_pallet(1)
    patches = []
    for number, seconds in enumerate(lengths):
        patch = base.patches[number % len(base.patches)]
        name = f"{analysis.name}_{number:03}"
        sleep = {"op": SLEEP, "path": name, "value": seconds}
        content = Packed.of([*patch.operations, sleep])
        patches.append(replace(patch, pallet=analysis.name, name=name, content=content))
    return replace(base, name=analysis.name, patches=tuple(patches))


def find_pallet(name: str) -> Pallet | None:
    """Return a pallet of the search path, if it is there."""
    try:
        (pallet,) = catalogue.resolve(name, search_path=catalogue.search_path_from_environment())
    except PalletError:
        return None
    return pallet


#: What the wall time goes into, in the order in which it is told.
PARTS = ("fit", "longest", "quantum", "blocks", "transport", "other")


def parts_of(
    trial: Trial, lengths: Sequence[float], begins: Sequence[float] = ()
) -> dict[str, float]:
    """Return what the wall time of a trial went into, in seconds; the parts add up to it.

    Parameters
    ----------
    trial : Trial
        As measured.
    lengths : sequence of float
        Of its fits.
    begins : sequence of float, optional
        When each worker began its first fit, where the trial started the blocks.

    Returns
    -------
    dict
        ``fit``, an equal share of the fits; ``longest``, what the longest fit takes more than
        that; ``quantum``, what is lost since fits cannot be divided; ``blocks``, what is lost since
        the workers were not there from the beginning; ``transport``, the mean of what passed
        between the fits of a worker; and ``other``, what none of these explains.
    """
    workers = trial.workers
    share_s = sum(lengths) / workers
    at_once_s = shortest_s(lengths, [0.0] * workers)
    longest_s = max(0.0, max(lengths) - share_s)
    parts = {
        "fit": share_s,
        "longest": longest_s,
        "quantum": max(0.0, at_once_s - share_s - longest_s),
        "blocks": shortest_s(lengths, begins) - at_once_s if begins else 0.0,
        "transport": (trial.transfer_s + trial.unpack_s + trial.build_s + trial.overhead_s)
        / workers,
    }
    return {**parts, "other": trial.wall_s - sum(parts.values())}


def serial_fractions(parts: dict[str, float], workers: int) -> dict[str, float]:
    """Return the serial fraction of Amdahl's law that each part of the wall time stands for.

    The fraction that Karp and Flatt (Commun. ACM 33 (1990) 539) take from the wall time with ``n``
    workers, ``(1 / S - 1 / n) / (1 - 1 / n)``, is ``(n wall - fits) / ((n - 1) fits)``: the sum of
    what the workers did but fit, over the fits, so that each part has its share of it.
    """
    if workers == 1:
        return {}
    fits_s = workers * parts["fit"]
    return {
        name: workers * seconds / ((workers - 1) * fits_s)
        for name, seconds in parts.items()
        if name != "fit"
    }
