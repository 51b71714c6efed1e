"""The published wall times, to compare with those of a run of the same patches.

Table 1 of M. Feickert, L. Heinrich, G. Stark and B. Galewsky, "Distributed statistical inference
with pyhf enabled through funcX", EPJ Web Conf. 251 (2021) 02070, arXiv:2103.02182: means and
standard deviations over 10 trials, with pyhf's NumPy backend and SciPy optimizer, on a funcX
endpoint whose Slurm provider had ``max_blocks = 4`` and ``nodes_per_block = 1``; and the
time of one node.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_pyhf_faas.report.wall_times import wall_time_of

if TYPE_CHECKING:
    from pytest_pyhf_faas.report.form import Analysis

SOURCE = (
    "Feickert, Heinrich, Stark, Galewsky, EPJ Web Conf. 251 (2021) 02070, arXiv:2103.02182, "
    "Table 1: 10 trials, NumPy backend, SciPy optimizer, Slurm with max_blocks = 4 and "
    "nodes_per_block = 1"
)


@dataclass(frozen=True, slots=True)
class Published:
    """One row of the published table; times in seconds."""

    patches: int
    wall_time_s: float
    stdev_s: float
    single_node_s: float


#: Eur. Phys. J. C 80 (2020) 691; Phys. Rev. D 101 (2020) 032009; JHEP 06 (2020) 046. Of the last
#: the table says "SS3L", which has five pallets. The authors' code (github.com/matthewfeickert/
#: distributed-inference-with-pyhf-and-funcX, config/InclSS3L.json) fits this one.
_TABLE = {
    "1Lbb": Published(125, 156.2, 9.5, 3842),
    "stau_combined": Published(57, 57.4, 5.2, 612),
    "SS3L_Rpc2L0b": Published(76, 31.2, 2.7, 114),
}


def published_of(analysis: Analysis) -> Published | None:
    """Return the published figures of an analysis.

    Parameters
    ----------
    analysis : mapping
        One of the analyses of a report.

    Returns
    -------
    Published or None
        ``None`` if there are none, or the wall time of so many patches was not measured.
    """
    published, measured = _TABLE.get(analysis["pallet"]), wall_time_of(analysis)
    if published is None or measured is None or analysis["synthetic"]:
        return None
    return published if measured.last.fits == published.patches else None


def patches_of(analysis: Analysis) -> int:
    """Return how many patches were fitted, or should have been."""
    wall_time = analysis["wall_time"]
    if wall_time is not None:
        return int(wall_time["trials"][-1]["fits"])
    if "whole" in analysis:
        return sum(analysis["whole"]["verdicts"].values())
    return len({hypothesis["patch"] for hypothesis in analysis["hypotheses"]})
