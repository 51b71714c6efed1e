"""What is used of other packages though they do not promise it: an upgrade fails here, by name."""

from __future__ import annotations

import ast
import inspect
import re
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest

import pytest_pyhf_faas

SOURCE = Path(pytest_pyhf_faas.__file__).parent
#: Of the standard library: a documented function, the only name of a type, methods of named tuples.
PUBLIC = {"_exit", "_SubParsersAction", "_asdict", "_replace"}
#: Of the SDK that funcX 2.4 brings, which cannot be installed beside the one of today.
LEGACY = {"_result_watcher"}


def private(names):
    return {name for name in names if name.startswith("_") and not name.startswith("__")} - PUBLIC


def used_of_others(tree):
    """Return the private attributes that a module uses, but for those of its own classes."""
    own, used = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            own |= {
                ast.unparse(part.target) for part in node.body if isinstance(part, ast.AnnAssign)
            }
        elif isinstance(node, ast.Attribute):
            of_itself = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            (own if of_itself else used).add(node.attr)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr"):
            used.add(str(getattr(node.args[1], "value", "")))
    return private(used) - own


def executor():
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider

    return HighThroughputExecutor(label="here", address="127.0.0.1", provider=LocalProvider())


def of_parsl_executors():
    made = executor()
    return vars(made).keys() | set(dir(made))


def of_parsl_interchanges():
    from parsl.executors.high_throughput import interchange

    return re.split(r"\W+", inspect.getsource(interchange))


def of_parsl_command_clients():
    from parsl.executors.high_throughput.zmq_pipes import CommandClient

    made = CommandClient("127.0.0.1", (49152, 65535))
    try:
        return dir(made)
    finally:
        made.close()


def of_parsl_executors_at_their_start():
    from parsl.executors import HighThroughputExecutor

    return inspect.getsource(HighThroughputExecutor.start).replace("self.", " ").split()


def of_the_provider_of_pods():
    from parsl.providers import KubernetesProvider

    return re.split(r"\W+", inspect.getsource(KubernetesProvider))


def of_parsl_timers():
    from parsl.utils import Timer

    timer = Timer(lambda: None, interval=60, name="of a test")
    timer.close()
    return vars(timer)


def of_the_loop_of_xdist():
    from xdist.dsession import DSession

    return {*vars(DSession), *DSession.__init__.__code__.co_names}


def of_the_sdk():
    module = pytest.importorskip("globus_compute_sdk.sdk.executor")
    made = inspect.getsource(module.Executor.__init__)
    return {
        *dir(module),
        *dir(module.Executor),
        *(["_stopped"] if "self._stopped = " in made else []),
    }


def of_sdk_clients():
    return dir(pytest.importorskip("globus_compute_sdk").Client)


def of_metafunc():
    return inspect.getsource(pytest.Metafunc.__init__).replace("self.", " ").split()


def of_configurations_with_benchmarks():
    import pytest_benchmark.plugin

    return inspect.getsource(pytest_benchmark.plugin).replace("config.", " ").split()


#: Each with what must have it, and what it does for us.
ATTRIBUTES = [
    ("_workers_per_node", of_parsl_executors, "--faas-workers"),
    ("_last_poll_time", of_parsl_executors, "a lost block is noticed at once"),
    ("_status", of_the_provider_of_pods, "pods that are gone, or fail again and again"),
    ("_kill_event", of_parsl_timers, "no block is started while Parsl ends"),
    ("_thread", of_parsl_timers, "no block is started while Parsl ends"),
    ("_lock", of_parsl_command_clients, "no socket is closed that a thread waits in"),
    ("_stopped", of_the_sdk, "a submitter that has ended is replaced"),
    ("_default_task_group_id", of_the_sdk, "a new session gets a task group of its own"),
    ("_RESULT_WATCHERS", of_the_sdk, "no thread of the SDK keeps the interpreter from its end"),
    ("_log_version_mismatch", of_sdk_clients, "other versions on the workers are no warning"),
    ("_arg2fixturedefs", of_metafunc, "a fixture of the user's goes before ours"),
    ("_benchmarksession", of_configurations_with_benchmarks, "wall times in the report"),
]
#: Without an underscore, and in no documentation.
UNDOCUMENTED = [
    ("status_facade", of_parsl_executors, "states of blocks"),
    ("bad_state_is_set", of_parsl_executors, "blocks that fail"),
    ("executor_exception", of_parsl_executors, "why they do"),
    ("connected_managers", of_parsl_executors, "the number of workers"),
    ("blocks_to_job_id", of_parsl_executors, "jobs that are to be ended"),
    ("job_ids_to_block", of_parsl_executors, "process groups that are to be ended"),
    ("interchange_launch_cmd", of_parsl_executors, "an interchange that ends with its client"),
    ("interchange_proc", of_parsl_executors, "a dead interchange is noticed"),
    ("expire_bad_managers", of_parsl_interchanges, "how old heartbeats are"),
    ("last_heartbeat", of_parsl_interchanges, "how old heartbeats are"),
    ("_ready_managers", of_parsl_interchanges, "how old heartbeats are"),
    ("kube_client", of_the_provider_of_pods, "pods that are gone, or fail again and again"),
    ("prefetch_capacity", of_parsl_executors, "a dead worker does not hang its manager"),
    ("block_error_handler", of_parsl_executors, "one block that ends does not end all"),
    (
        "command_client",
        of_parsl_executors_at_their_start,
        "no socket is closed that a thread waits in",
    ),
    ("zmq_context", of_parsl_command_clients, "threads that wait in it are let go"),
    ("zmq_socket", of_parsl_command_clients, "threads that wait in it are let go"),
    ("queue", of_the_loop_of_xdist, "progress under pytest-xdist"),
    ("worker_logstart", of_the_loop_of_xdist, "progress under pytest-xdist: how events are named"),
]


@pytest.mark.parametrize(
    ("name", "names_of", "why"),
    ATTRIBUTES + UNDOCUMENTED,
    ids=lambda value: getattr(value, "__name__", value),
)
def test_what_we_use_is_there(name, names_of, why):
    assert name in names_of(), f"{name} is gone, which is needed for: {why}"


def test_nothing_else_is_used():
    used = {
        f"{path.relative_to(SOURCE).as_posix()}: {name}"
        for path in SOURCE.rglob("*.py")
        for name in used_of_others(ast.parse(path.read_text(encoding="utf-8")))
    }
    known = {name for name, _names, _why in ATTRIBUTES} | LEGACY
    assert {name.partition(": ")[2] for name in used} | {"_log_version_mismatch"} == known, used


#: Of pyhf all is public; these are what an upgrade of it must keep.
OF_PYHF = (
    "Model",
    "Workspace.data",
    "Workspace.model",
    "exceptions.InvalidModel",
    "exceptions.InvalidSpecification",
    "get_backend",
    "infer.calculators.ToyCalculator.distributions",
    "infer.calculators.ToyCalculator.teststatistic",
    "infer.hypotest",
    "infer.intervals.upper_limits.upper_limit",
    "schema.path",
    "schema.validate",
    "schema.version",
    "set_backend",
    "utils.digest",
)
OF_MODELS = (
    "config.auxdata",
    "config.channel_slices",
    "config.channels",
    "config.npars",
    "config.par_names",
    "config.par_order",
    "config.par_slice",
    "config.param_set",
    "config.poi_index",
    "config.samples",
    "config.suggested_bounds",
    "config.suggested_fixed",
    "config.suggested_init",
    "expected_data",
    "logpdf",
    "main_model.expected_data",
)


@pytest.mark.parametrize("name", OF_PYHF)
def test_what_we_use_of_pyhf_is_there(name):
    pyhf = import_module("pyhf")
    import_module("pyhf.infer.intervals.upper_limits")
    attrgetter(name)(pyhf)


@pytest.mark.parametrize("name", OF_MODELS)
def test_what_we_use_of_the_models_of_pyhf_is_there(name):
    pyhf = import_module("pyhf")
    attrgetter(name)(pyhf.simplemodels.uncorrelated_background([5.0], [50.0], [7.0]))


def test_nothing_private_of_pyhf_is_used():
    """0.8 renamed a private method that an earlier version of ours called."""
    using, private_names = set(), set()
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {
            f"{getattr(node, 'module', None) or ''}.{alias.name}"
            for node in ast.walk(tree)
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for alias in node.names
        }
        of_pyhf = {name for name in names if name.lstrip(".").partition(".")[0] == "pyhf"}
        if of_pyhf:
            using.add(path.name)
            parts = {part for name in of_pyhf for part in name.split(".")}
            private_names |= used_of_others(tree) | private(parts)
    assert {"fitting.py", "certified.py", "limits.py", "toys.py", "inspection.py"} <= using
    assert private_names == set()
