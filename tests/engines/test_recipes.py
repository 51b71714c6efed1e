"""The recipes for endpoints of Globus Compute: what the agent itself makes of them."""

from __future__ import annotations

import os
import pwd
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import parsl.addresses
import parsl.executors.high_throughput.executor as high_throughput
import parsl.providers.kubernetes.kube as kubernetes_provider
import pytest
import yaml
from parsl.launchers import SingleNodeLauncher, SrunLauncher
from parsl.providers import cluster_provider

from pytest_pyhf_faas.worker.fitting import THREAD_VARIABLES
from tests.helpers.paths import REPOSITORY

if not os.environ.get("CI"):  # there it is installed, so that these tests must run
    pytest.importorskip("globus_compute_endpoint")

from globus_compute_endpoint.endpoint.config.utils import (
    get_config,
    load_config_yaml,
    load_user_config_schema,
    load_user_config_template,
    render_config_user_template,
)
from globus_compute_endpoint.endpoint.identity_mapper import MappedPosixIdentity

RECIPES = REPOSITORY / "endpoints" / "globus_compute"
TEMPLATE, SCHEMA = "user_config_template.yaml.j2", "user_config_schema.json"
NAMES = sorted(path.parent.name for path in RECIPES.glob(f"*/{TEMPLATE}"))
#: What tells on a provider how many cores a block has.
CORES = {
    "htcondor": "cores_per_slot",
    "kubernetes": "max_cpu",
    "pbspro": "cpus_per_node",
    "slurm": "cores_per_node",
}
#: What would be more than a value if a template or a scheduler's script took it as it is.
INJECTIONS = (
    "1\n  evil: true",
    "batch\n",
    "batch\n#SBATCH --nodes=1000",
    "batch; touch evil",
    "$(touch evil)",
    "batch --nodes=1000",
    "-evil",
    '"',
    "{{ 7 * 7 }}",
    "{% raw %}",
    "",
)
#: The files for Parsl: one called kubernetes.py would hide the module of that name.
FILES = {"kubernetes": "k8s.py"}
#: Their workers run in the environment of the agent, or of a container.
NOTHING_TO_ACTIVATE = (
    ("globus_compute", "local"),
    ("globus_compute", "kubernetes"),
    ("parsl", "local"),
)
#: An agent, its workers, and a queue in which jobs wait for some seconds.
ANSWER_S = 80


def schema(name):
    return load_user_config_schema(RECIPES / name / SCHEMA)


def rendered(name, asked=None, *, text=None, checked=True):
    """Return what the agent renders for a client."""
    path = RECIPES / name / TEMPLATE
    user = MappedPosixIdentity(
        local_user_record=pwd.getpwuid(os.getuid()),
        globus_identity_candidates=[],
        matched_identity=None,
    )
    return render_config_user_template(
        get_config(path.parent),
        text or load_user_config_template(path),
        path,
        user,
        schema(name) if checked else None,
        asked,
    )


@pytest.fixture
def load(monkeypatch):
    """Loads what the agent renders, where there is no cluster and no look at the network."""
    monkeypatch.setattr(high_throughput, "get_all_addresses", lambda: {"127.0.0.1"})
    monkeypatch.setattr(parsl.addresses, "address_by_route", lambda: "127.0.0.1")
    monkeypatch.setattr(cluster_provider, "execute_wait", lambda *_: (1, "", "no cluster"))
    client, config = SimpleNamespace(CoreV1Api=object), SimpleNamespace(load_kube_config=object)
    monkeypatch.setattr(kubernetes_provider, "_kubernetes_enabled", True)
    monkeypatch.setattr(kubernetes_provider, "client", client, raising=False)
    monkeypatch.setattr(kubernetes_provider, "config", config, raising=False)

    def load(name, asked=None, **how):
        engine = load_config_yaml(rendered(name, asked, **how)).engine
        return engine, engine.executor, engine.executor.provider

    return load


def test_there_is_a_recipe_for_each_of_parsl():
    assert {path.name for path in RECIPES.parent.glob("parsl/*.py")} == {
        FILES.get(name, f"{name}.py") for name in NAMES
    }


@pytest.mark.parametrize("name", NAMES)
def test_who_asks_for_nothing_gets_the_blocks_of_the_published_study(load, name):
    engine, executor, provider = load(name)
    assert type(engine).__name__ == "GlobusComputeEngine"
    assert engine.label == name
    assert (provider.init_blocks, provider.min_blocks) == (1, 0)
    assert provider.max_blocks == (1 if name == "local" else 4)
    assert provider.nodes_per_block == 1
    assert executor.prefetch_capacity == 0
    assert executor.heartbeat_threshold <= 20
    assert engine.encrypted == (name != "kubernetes")
    if name != "kubernetes":
        assert type(provider.launcher) is SingleNodeLauncher
    if hasattr(provider, "walltime") and name != "htcondor":
        assert provider.walltime == "00:30:00"
    for variable in THREAD_VARIABLES:
        assert f"{variable}=1" in provider.worker_init
    assert " install " not in provider.worker_init


@pytest.mark.parametrize("name", NAMES)
def test_the_defaults_are_those_that_the_schema_names(name):
    properties = schema(name)["properties"]
    defaults = {key: value["default"] for key, value in properties.items() if "default" in value}
    assert {"max_blocks", "nodes_per_block"} <= defaults.keys()
    assert rendered(name) == rendered(name, defaults)


@pytest.mark.parametrize("name", NAMES)
def test_who_asks_gets_what_the_schema_allows(load, name):
    properties = schema(name)["properties"]
    asked = {
        key: value["maximum"] if value["type"] == "integer" else f"my_{key}.1-a"
        for key, value in properties.items()
    }
    assert {"max_blocks", "nodes_per_block", "workers"} <= asked.keys()
    # JSON does not tell 2.0 from 2, and neither does the schema.
    for spelled in (asked, {k: float(v) if v != str(v) else v for k, v in asked.items()}):
        _engine, executor, provider = load(name, spelled)
        assert provider.max_blocks == asked["max_blocks"]
        assert provider.nodes_per_block == asked["nodes_per_block"]
        assert executor.max_workers_per_node == asked["workers"]
        if name in CORES:
            assert getattr(provider, CORES[name]) == asked["workers"]
        for key in {"partition", "queue", "account"} & asked.keys():
            assert getattr(provider, key) == asked[key]
        if name == "htcondor":
            assert "EnteredCurrentStatus > 86400)" in provider.scheduler_options
        elif "walltime" in asked:
            assert provider.walltime == "24:00:00"
        if "walltime" in asked:
            assert executor.drain_period == 24 * 3600 - 300


def test_blocks_of_several_nodes_have_a_launcher_for_them(load):
    _engine, _executor, provider = load("slurm", {"nodes_per_block": 2, "workers": 8})
    assert type(provider.launcher) is SrunLauncher
    assert provider.launcher.overrides == "--ntasks-per-node=1 --cpus-per-task=8"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_out_of_bounds_is_refused(name):
    properties = schema(name)["properties"]
    for key, value in properties.items():
        wrong = [None, True, [], {}, 1.5]
        if value["type"] == "integer":
            wrong += [value["minimum"] - 1, value["maximum"] + 1, str(value["minimum"])]
        else:
            wrong += [1, "a" * 65]
        for bad in (*wrong, *INJECTIONS):
            with pytest.raises(jsonschema.ValidationError, match=re.escape(repr(bad))):
                rendered(name, {key: bad})
    for unknown in ("worker_init", "image", "walltimes"):
        with pytest.raises(jsonschema.ValidationError, match=unknown):
            rendered(name, {unknown: "1"})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("injection", INJECTIONS)
def test_a_value_stays_one_where_the_schema_was_taken_away(name, injection):
    asked = dict.fromkeys(schema(name)["properties"], injection)
    clean, dirty = (
        yaml.safe_load(rendered(name, options, checked=False))["engine"]
        for options in (None, asked)
    )
    assert dirty.keys() == clean.keys()
    assert dirty["provider"].keys() == clean["provider"].keys()
    for key in {"partition", "queue", "account"} & asked.keys():
        assert dirty["provider"][key] == injection


def test_workers_of_slurm_may_run_in_a_container(load):
    text = (RECIPES / "slurm" / TEMPLATE).read_text()
    for key in ("container_type", "container_uri"):
        text = text.replace(f"  # {key}:", f"  {key}:")
    engine, *_ = load("slurm", text=text)
    command = engine.containerized_launch_cmd()
    assert command.startswith(
        "apptainer run /your/site/pyhf-worker.sif globus-compute-endpoint python-exec "
    )


def test_whatever_starts_containers_is_put_before_the_workers_as_the_page_says(load):
    page = (REPOSITORY / "docs" / "how-to" / "endpoints.md").read_text(encoding="utf-8")
    (shown,) = re.findall(
        r"^  container_type: custom\n  container_cmd_options: .*\n", page, re.MULTILINE
    )
    text = (RECIPES / "slurm" / TEMPLATE).read_text()
    engine, *_ = load("slurm", text=text.replace("  # container_type: apptainer\n", shown))
    command = engine.containerized_launch_cmd()
    assert command.startswith(
        "ch-run --home --set-env /your/site/pyhf-worker -- globus-compute-endpoint "
    )


def test_the_launcher_of_the_parsl_recipe_may_start_a_container(tmp_path):
    text = (RECIPES.parent / "parsl" / "slurm.py").read_text(encoding="utf-8")
    path = tmp_path / "slurm.py"
    path.write_text(text.replace("CONTAINER = None", 'CONTAINER = "ch-run image --"'))
    (executor,) = runpy.run_path(str(path))["fresh_config"]().executors
    assert executor.provider.launcher("pool", 1, 1) == "ch-run image -- pool"


@pytest.mark.parametrize("of", ["globus_compute", "parsl"])
@pytest.mark.parametrize("name", NAMES)
def test_a_block_without_its_environment_ends(load, tmp_path, of, name):
    """It would go on with what is found on the PATH, which may be another pyhf."""
    if of == "parsl":
        path = RECIPES.parent / "parsl" / FILES.get(name, f"{name}.py")
        provider = runpy.run_path(str(path))["fresh_config"]().executors[0].provider
    else:
        provider = load(name)[2]
    words = "\n".join(
        line for line in provider.worker_init.splitlines() if not line.startswith("#")
    )
    done = subprocess.run(
        [shutil.which("bash"), "-c", f"{provider.worker_init}\necho went on"],
        env={"HOME": str(tmp_path), "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if (of, name) in NOTHING_TO_ACTIVATE:
        assert all(line.startswith("export ") for line in words.splitlines())
        assert done.stdout == "went on\n"
    else:
        assert done.returncode == 1
        assert done.stdout == ""
    if name == "slurm":  # the only one whose jobs take over the variables of who submits them
        assert provider.scheduler_options.strip().endswith("#SBATCH --export=NONE")


def test_the_recipe_of_kubernetes_names_the_image_that_is_built():
    worker_image = runpy.run_path(str(REPOSITORY / "scripts" / "worker_image.py"))
    versions = worker_image["definition"]()["versions"]
    assert f"pyhf-worker:{versions['pyhf']}" in (RECIPES / "kubernetes" / TEMPLATE).read_text()


# --- on a real agent ----------------------------------------------------------------------------


def surroundings():
    import os

    names = ("OMP_NUM_THREADS", "PARSL_WORKER_COUNT", "SLURM_JOB_ID", "OF_THE_AGENT")
    return {name: os.environ.get(name) for name in names}


@pytest.fixture
def ask(globus_compute):
    """Starts an agent with a recipe, and runs a function there for a client that asks for this."""
    from globus_compute_sdk import Executor
    from globus_compute_sdk.serialize import AllCodeStrategies, ComputeSerializer, JSONData

    agents, executors = {}, []

    def ask(name, asked, pyhf_env="$HOME/pyhf-env", **environment):
        if name not in agents:
            agents[name] = globus_compute.endpoint(f"recipe-{name}", environment=environment)
            # The agent reads them when the first task comes.
            for file in (TEMPLATE, SCHEMA):
                text = (RECIPES / name / file).read_text()
                edited = text.replace("$HOME/pyhf-env", str(pyhf_env))
                (agents[name].directory / file).write_text(edited)
        executor = Executor(
            endpoint_id=agents[name].id,
            user_endpoint_config=asked,
            serializer=ComputeSerializer(
                strategy_code=AllCodeStrategies(), strategy_data=JSONData()
            ),
            result_serializers=[JSONData()],
        )
        executors.append(executor)
        return executor.submit(surroundings).result(ANSWER_S)

    yield ask
    while executors:  # what is kept here would end after all that cares for its sockets
        executors.pop().shutdown(wait=False, cancel_futures=True)
    for agent in agents.values():
        agent.stop()


@pytest.mark.timeout(180)
def test_a_task_runs_on_this_machine(ask):
    from globus_sdk import ComputeAPIError

    found = ask("local", {"workers": 1})
    assert found["OMP_NUM_THREADS"] == "1"
    assert found["PARSL_WORKER_COUNT"] == "1"
    with pytest.raises(ComputeAPIError, match="1000 is greater than the maximum of 128"):
        ask("local", {"workers": 1000})


@pytest.mark.timeout(180)
def test_a_task_runs_in_a_block_of_slurm(ask, slurm, tmp_path):
    (tmp_path / "bin").mkdir()
    path = Path(sys.executable).parent
    (tmp_path / "bin" / "activate").write_text(f"export PATH={path}:$PATH\n")
    asked = {"workers": 1, "max_blocks": 1}
    found = ask("slurm", asked, pyhf_env=tmp_path, OF_THE_AGENT="1", **slurm.env)
    assert found["OMP_NUM_THREADS"] == "1"
    assert found["OF_THE_AGENT"] is None  # nor its PATH
    assert found["PARSL_WORKER_COUNT"] == "1"
    assert int(found["SLURM_JOB_ID"]) in {int(job) for job in slurm.jobs()}
