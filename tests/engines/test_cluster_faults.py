"""What befalls the nodes of a cluster, and what becomes of the fits: see `cluster.py`.

The recipe for Slurm runs unchanged: blocks of one node, two workers on each. All but the first test
are for ``benchmarks/fault_table.py``, for each takes half a minute.
"""

import json
import os
import threading

import pytest

from tests.helpers.cluster_stage import perform
from tests.services.machines import Line

pytestmark = pytest.mark.timeout(600)
for_the_table = pytest.mark.skipif(
    not os.environ.get("FAAS_FAULT_TABLE"), reason="benchmarks/fault_table.py asks for it"
)
WORKERS = 2


class Play:
    """Fits on a cluster while something happens, and what came of them."""

    def __init__(self, cluster, record_property):
        self.cluster = cluster
        self._record = record_property

    def __call__(self, fault, strike, waves, order, *, spare=0):
        """Send so many fits for each worker; `spare` nodes have no block at first."""
        blocks = len(self.cluster.nodes) - spare
        orders = [order] * (waves * blocks * WORKERS)
        row = perform(self.cluster, fault, strike, fits=orders, blocks=blocks, workers=WORKERS)
        self._record("fault_row", json.dumps(row))
        return row


@pytest.fixture
def play(cluster, record_property):
    return Play(cluster, record_property)


@pytest.fixture
def kill(cluster):
    """Take a node's power; it is back after the test."""
    struck = []

    def strike(_cluster, node):
        struck.append(node)
        cluster.kill_node(node)

    yield strike
    for node in struck:
        cluster.start_node(node)


def cut_off_for_30_s(cluster, node):
    threading.Thread(target=cluster.cut, args=(node, 30)).start()


def restart_the_head_after_20_s(cluster, _node):
    threading.Thread(target=cluster.restart_head, args=(20,)).start()


def test_a_node_is_killed_and_another_one_is_free(cluster, play, kill):
    # As many that those which are left cannot do them before another block is there.
    waves = 4 if len(cluster.nodes) == 2 else 20
    row = play("node killed, another free", kill, waves, {"seconds": 2.0}, spare=1)
    assert row["executed"] >= row["fits"] + WORKERS  # those that ran there, and copies
    assert row["noticed_s"] < 30  # heartbeat_threshold of the recipe, and a look
    assert row["replaced_s"] < 90  # Slurm itself would miss it after five minutes


@for_the_table
def test_a_node_is_killed(play, kill):
    row = play("node killed", kill, 4, {"seconds": 2.0})
    assert row["executed"] >= row["fits"] + WORKERS


@for_the_table
def test_nothing_happens(play):
    row = play("none", lambda *_: None, 6, {"seconds": 2.0})
    assert row["executed"] == row["fits"]


@for_the_table
def test_a_node_is_cut_off_and_comes_back(play):
    row = play("node cut off for 30 s", cut_off_for_30_s, 20, {"seconds": 2.0})
    assert row["executed"] >= row["fits"] + WORKERS


@for_the_table
def test_a_node_becomes_slow(cluster, play):
    struck = []

    def slow(_cluster, node):
        struck.append(node)
        cluster.slow(node, 5)

    try:
        row = play("node 5 times slower", slow, 2, {"cpu_s": 2.0})
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
        row = play("100 ms and 1 % loss, each way", stretch, 6, {"seconds": 2.0})
    finally:
        for name in cluster.nodes:
            cluster.connect(name)
    assert row["executed"] == row["fits"]


@for_the_table
def test_slurmctld_is_away(play):
    row = play("slurmctld away for 20 s", restart_the_head_after_20_s, 6, {"seconds": 2.0})
    assert row["executed"] == row["fits"]
