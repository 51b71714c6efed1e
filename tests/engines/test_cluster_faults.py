"""What befalls the nodes of a cluster, and what becomes of the fits: see `cluster.py`.

The recipe for Slurm runs unchanged: two blocks of one node, two workers on each. All but the first
test are for ``benchmarks/fault_table.py``, for each takes half a minute.
"""

import json
import os
import threading

import pytest

from tests.helpers.cluster_stage import perform
from tests.helpers.stage import fits
from tests.services.machines import Line

pytestmark = pytest.mark.timeout(300)
for_the_table = pytest.mark.skipif(
    not os.environ.get("FAAS_FAULT_TABLE"), reason="benchmarks/fault_table.py asks for it"
)


@pytest.fixture
def play(cluster, record_property):
    """Have fits run there while something happens, and take down what came of them."""

    def run(fault, strike, orders):
        row = perform(cluster, fault, strike, fits=orders)
        record_property("fault_row", json.dumps(row))
        return row

    return run


def cut_off_for_30_s(cluster, node):
    threading.Thread(target=cluster.cut, args=(node, 30)).start()


def restart_the_head_after_20_s(cluster, _node):
    threading.Thread(target=cluster.restart_head, args=(20,)).start()


def test_a_node_is_killed(cluster, play):
    struck = []

    def kill(_cluster, node):
        struck.append(node)
        cluster.kill_node(node)

    try:
        row = play("node killed", kill, fits(8, 2.0))
    finally:
        for node in struck:
            cluster.start_node(node)
    assert row["executed"] == 10  # those that ran there once more
    assert row["noticed_s"] < 30  # heartbeat_threshold of the recipe, and a look


@for_the_table
def test_nothing_happens(play):
    row = play("none", lambda *_: None, fits(24, 2.0))
    assert row["executed"] == 24


@for_the_table
def test_a_node_is_cut_off_and_comes_back(play):
    row = play("node cut off for 30 s", cut_off_for_30_s, fits(40, 2.0))
    assert row["executed"] == 42


@for_the_table
def test_a_node_becomes_slow(cluster, play):
    struck = []

    def slow(_cluster, node):
        struck.append(node)
        cluster.slow(node, 5)

    try:
        row = play("node 5 times slower", slow, [{"cpu_s": 4.0} for _ in range(16)])
    finally:
        for node in struck:
            cluster.slow(node, 1)
    assert row["lost"] == 0


@for_the_table
def test_lines_become_long_and_lossy(cluster, play):
    def stretch(_cluster, _node):
        for name in cluster.nodes:
            cluster.connect(name, Line(delay_ms=100, loss_percent=1))

    try:
        row = play("100 ms and 1 % loss, each way", stretch, fits(24, 2.0))
    finally:
        for name in cluster.nodes:
            cluster.connect(name)
    assert row["executed"] == 24


@for_the_table
def test_slurmctld_is_away(play):
    row = play("slurmctld away for 20 s", restart_the_head_after_20_s, fits(24, 2.0))
    assert row["executed"] == 24
