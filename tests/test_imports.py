"""Who merely has the plugin installed pays nothing, and nothing imports upward."""

from __future__ import annotations

import ast
import base64
import builtins
import json
import os
import subprocess
import sys
import zlib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import pytest_pyhf_faas

PACKAGE = "pytest_pyhf_faas"
SOURCE = Path(pytest_pyhf_faas.__file__).parent
HEAVY = (
    "pyhf",
    "numpy",
    "scipy",
    "pebble",
    "parsl",
    "globus_compute_sdk",
    "globus_sdk",
    "requests",
    "pooch",
    "jsonschema",
    "jinja2",
    "matplotlib",
    "yaml",
)
#: What may know of pytest.
PYTEST_LAYER = {"commands", "plugin", "suite"}
#: Data flows down this list; a module imports only what stands above it, or on its own line.
FLOW = (
    {
        "caches",
        "errors",
        "histfactory",
        "redaction",
        "schemas",
        "toml_files",
        "verdicts",
        "wording",
    },
    {"worker", "pallets", "published"},
    {"engines", "inference"},
    {"campaign"},
    {"references", "advice"},
    {"preflight"},
    {"report"},
    {"session"},
    {"gate", "validation"},
    {"plugin", "suite"},
    {"commands"},
    {"__main__"},
)

#: The same inside of folders.
INSIDE = {
    "histfactory": (
        {"defects", "errors", "interpolation", "newton"},
        {"workspace", "parameters"},
        {"likelihood", "minima"},
        {"search", "asymptotics"},
        {"pyhf_optimizer", "limits", "toys"},
    ),
    "published": ({"agreement", "download", "tables", "theory"}, {"publication"}),
    "worker": (
        {"messages", "fitting"},
        {"patching", "limits", "toys"},
        {"certified", "inspection"},
        {"certified_limits", "certified_toys"},
    ),
    "pallets": (
        {"bounds", "combination", "download", "joining", "packing", "verify"},
        {"archives"},
        {"sources"},
        {"pallet", "parts", "table"},
        {"rows"},
        {"columns"},
        {"scan"},
        {"combined_scans"},
        {"check", "combine", "read"},
        {"catalogue", "overview"},
    ),
    "engines": (
        {"base", "texts", "local_worker", "remote_worker", "parsl_interchange"},
        {"parsl_failures", "parsl_gridengine", "parsl_pbspro", "parsl_pods", "parsl_refusals"},
        {"remote", "session"},
        {"globus_client", "globus_errors", "globus_outbox"},
        {"parsl_blocks", "parsl_config", "parsl_ends"},
        {"globus_connection", "globus_health", "parsl_session"},
        {"globus_session"},
        {"local", "parsl", "globus_compute"},
    ),
    "campaign": (
        {"tasks", "results", "clocks"},
        {"times", "requirements", "quantities"},
        {"accounting", "answers", "events", "policy", "pools", "progress"},
        {"estimates", "flight", "queue", "sendings"},
        {"recovery", "lifetimes", "watch", "dispatch", "translate"},
        {"state"},
        {"loop", "log"},
        {"journal", "campaign"},
    ),
    "references": (
        {"cls_values", "limit_values", "toy_values", "file", "form", "sameness"},
        {"criteria", "entries", "known_issues", "merging", "places"},
        {"ambiguity", "diagnosis"},
        {"reference"},
        {"compare"},
        {"limits", "published", "toys"},
        {"store", "matrix"},
    ),
    "preflight": (
        {"measurement", "quickest_fit", "words"},
        {"remedies"},
        {"waiting"},
        {"preflight"},
    ),
    "report": (
        {"axes", "form", "document", "budgets", "quantity", "whole"},
        {"environments", "published", "wall_times"},
        {"analyses", "scaling"},
        {"ambiguous", "published_limits", "toys", "unreferenced", "upper_limits"},
        {"answer", "comparison", "plots", "csv_tables", "hepdata"},
        {"markdown", "page"},
        {"publish"},
        {"history", "many"},
    ),
    "session": (
        {"display", "fitting", "hypotheses", "interrupts", "progress", "resume", "stream"},
        {"campaigns"},
        {"sending"},
        {"fits"},
    ),
    "gate": (
        {"digests", "processes", "progress", "reasons", "selection", "versions"},
        {"installer", "own_code", "plan"},
        {"cells", "environments", "tables"},
        {"gate", "kept"},
    ),
    "plugin": (
        {"display", "notes", "plan", "relay", "sharing"},
        {"update", "values"},
        {"failures", "no_reference"},
        {"option", "options", "command_line", "markers", "settings", "rerun"},
        {"measuring", "terminal", "book", "header"},
        {"analysis", "schedule", "obstacles"},
        {"context", "subjects", "outcomes"},
        {"fixtures", "summaries"},
        {"recording"},
        {"hooks"},
    ),
    "suite": (
        {
            "test_analysis",
            "test_endpoint",
            "test_limits",
            "test_published",
            "test_scaling",
            "test_toys",
            "test_whole_analysis",
        },
    ),
    "commands": (
        {"choosing", "errors"},
        {"gate", "history", "inspect", "matrix", "report", "validate"},
    ),
}


def module_of(path):
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(SOURCE.rglob("*.py"))}


def top(module):
    return module.partition(".")[0]


def imports_of(module):
    """Return the names that a module imports anywhere, but for the sake of types alone."""
    found = set()

    def visit(node):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for other in node.orelse:
                visit(other)
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(MODULES[module].read_text(encoding="utf-8")))
    return found


def own_imports_of(module):
    """Return the modules of this package that a module imports."""
    found = set()
    for name in imports_of(module):
        if top(name) != PACKAGE:
            continue
        module_or_more = name.removeprefix(PACKAGE).removeprefix(".")
        while module_or_more not in MODULES:
            module_or_more = module_or_more.rpartition(".")[0]
        found.add(module_or_more)
    return found - {module, ""}


def test_the_import_finder_finds_imports():
    found = own_imports_of("session.campaigns")
    assert {"engines", "session.interrupts", "campaign.campaign"} <= found
    assert "session.fitting" not in found  # for the sake of types alone
    assert "pyhf" in imports_of("worker.fitting")
    assert "pytest" in imports_of("plugin.hooks")


def test_importing_the_plugin_imports_nothing_heavy():
    program = (
        f"import sys, pytest\nbefore = set(sys.modules)\nimport {PACKAGE}.plugin.hooks\n"
        "print(*(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    imported = {top(name) for name in done.stdout.split()}
    assert PACKAGE in imported
    assert imported & set(HEAVY) == set()


#: What importing the plugin imports of ours beside itself: no station of the data.
OF_THE_PLUGIN = {
    "caches",
    "errors",
    "redaction",
    "session",
    "session.fitting",
    "verdicts",
    "wording",
}


def test_importing_the_plugin_imports_none_of_the_domain():
    program = (
        f"import sys, {PACKAGE}.plugin.hooks\n"
        f"print(*(name for name in sys.modules if name.startswith('{PACKAGE}.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    imported = {name.removeprefix(f"{PACKAGE}.") for name in done.stdout.split()}
    assert "plugin.hooks" in imported
    assert {name for name in imported if top(name) != "plugin"} == OF_THE_PLUGIN


def test_importing_the_plugin_costs_little_next_to_pytest():
    """In processor time, 12 ms beside 100 ms of pytest; how fast the machine is does not matter."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}  # compiling would be most of it
    program = (
        "from time import process_time as now\n"
        f"began = now()\nimport pytest\nhalf = now()\nimport {PACKAGE}.plugin.hooks\n"
        "print(now() - half, half - began)"
    )
    command = [sys.executable, "-c", program]
    runs = [subprocess.check_output(command, env=environment, text=True) for _ in range(5)]
    own, of_pytest = zip(*(map(float, run.split()) for run in runs), strict=True)
    assert min(own) < 0.25 * min(of_pytest)


def test_reading_a_pallet_does_not_import_pyhf():
    """Which takes a second, of each process of pytest-xdist."""
    program = (
        f"import sys\nfrom {PACKAGE}.pallets import catalogue\n"
        "(pallet,) = catalogue.resolve(catalogue.BUNDLED, search_path=())\n"
        "print(len(pallet.patches), 'pyhf' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    count, imported = done.stdout.split()
    assert int(count) > 0
    assert imported == "False"


def test_a_session_without_our_tests_imports_nothing_heavy(pytester):
    pytester.makepyfile(
        f"""
        import sys

        def test_modules():
            assert {PACKAGE + ".plugin.hooks"!r} in sys.modules
            assert set({HEAVY!r}) & set(sys.modules) == set()
        """
    )
    pytester.runpytest_subprocess("-p", "no:hypothesispytest").assert_outcomes(passed=1)


#: What only Unix has: modules, and names in others.
OF_UNIX = ("fcntl", "grp", "pwd", "resource", "termios")
NAMES_OF_UNIX = {
    "os": ("fork", "getpgid", "getppid", "getuid", "killpg", "sched_getaffinity", "setsid"),
    "signal": ("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGUSR1"),
}


def test_who_merely_has_the_plugin_installed_needs_no_unix(tmp_path):
    (tmp_path / "test_own.py").write_text("def test_own():\n    pass\n")
    program = f"""
import os, signal, sys
import pytest

for name in {OF_UNIX}:
    sys.modules[name] = None
for module, names in {NAMES_OF_UNIX}.items():
    for name in names:
        delattr(sys.modules[module], name)
status = pytest.main(["-q", "-p", "{PACKAGE}.plugin.hooks"])
assert not [name for name in {OF_UNIX} if sys.modules[name]]
sys.exit(status)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 passed" in done.stdout


def test_what_tests_are_typed_with_is_imported_when_asked_for():
    program = (
        f"import sys, {PACKAGE}\nprint(*(set(sys.modules) & set({HEAVY!r})), '.')\n"
        f"for name in {PACKAGE}.__all__:\n    print(getattr({PACKAGE}, name))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    before, *found = done.stdout.splitlines()
    assert before.strip() == "."
    assert len(found) == len(pytest_pyhf_faas.__all__)
    assert set(pytest_pyhf_faas.__all__) <= set(dir(pytest_pyhf_faas))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = pytest_pyhf_faas.nothing


def may_know_pytest(module):
    return top(module) in {*PYTEST_LAYER, "__main__"}


@pytest.mark.parametrize("module", [name for name in MODULES if not may_know_pytest(name)])
def test_domain_modules_know_nothing_of_pytest(module):
    foreign = {top(name) for name in imports_of(module)}
    assert not {name for name in foreign if name in {"pytest", "_pytest", "pluggy", "xdist"}}
    assert not [name for name in own_imports_of(module) if may_know_pytest(name)]


def upward(modules, flow, station):
    """Return the imports that point up a flow, and the modules that have no place in it."""
    level = {name: number for number, names in enumerate(flow) for name in names}
    assert {station(module) for module in modules} == level.keys(), "say in it where they stand"
    return [
        f"{module} imports {other}"
        for module in modules
        for other in own_imports_of(module)
        if other in modules and level[station(other)] > level[station(module)]
    ]


def test_nothing_imports_upward():
    assert upward([name for name in MODULES if name], FLOW, top) == []


@pytest.mark.parametrize("folder", INSIDE)
def test_nothing_imports_upward_inside_of_a_folder(folder):
    inside = [name for name in MODULES if name.startswith(f"{folder}.")]
    assert upward(inside, INSIDE[folder], lambda name: name.split(".")[1]) == []


def test_each_folder_has_an_order_of_its_own():
    assert {top(name) for name in MODULES if "." in name} == INSIDE.keys()


def test_there_is_no_circle_of_imports():
    graph = {module: own_imports_of(module) for module in MODULES}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("module", [name for name in MODULES if top(name) == "worker"])
def test_what_runs_on_a_worker_needs_pyhf_and_the_likelihood_of_our_own_alone(module):
    """All that it imports of ours is shipped with it, and pyhf brings the rest."""
    assert {top(name) for name in own_imports_of(module)} <= {"worker", "histfactory"}
    foreign = {top(name) for name in imports_of(module)} - {PACKAGE}
    # pyhf brings jsonpatch; threadpoolctl is looked for, and not needed.
    brought = {"pyhf", "numpy", "scipy", "jsonpatch"}
    assert foreign <= {*brought, "threadpoolctl", *sys.stdlib_module_names}


@pytest.mark.parametrize("module", [name for name in MODULES if top(name) == "histfactory"])
def test_the_likelihood_of_our_own_is_independent(module):
    """Truth must not come from what is tested, nor need what a worker has not."""
    assert {top(name) for name in own_imports_of(module)} <= {"histfactory"}
    foreign = {top(name) for name in imports_of(module)} - {PACKAGE}
    assert foreign <= {"numpy", "scipy", *sys.stdlib_module_names}


def test_the_worker_works_from_its_source_alone():
    """On a remote worker there are its source, pyhf and the standard library."""
    background = {
        "channels": [
            {"name": "SR", "samples": [{"name": "bkg", "data": [50.0, 52.0], "modifiers": []}]}
        ],
        "observations": [{"name": "SR", "data": [51.0, 48.0]}],
        "measurements": [{"name": "meas", "config": {"poi": "mu", "parameters": []}}],
        "version": "1.0.0",
    }
    modifiers = [{"name": "mu", "type": "normfactor", "data": None}]
    signal = {"name": "signal", "data": [20.0, 15.0], "modifiers": modifiers}
    patch = [{"op": "add", "path": "/channels/0/samples/1", "value": signal}]

    def packed(value):
        return base64.b64encode(zlib.compress(json.dumps(value).encode())).decode()

    namespace = {"__name__": "shipped", "__builtins__": builtins}
    exec((SOURCE / "worker/fitting.py").read_text(encoding="utf-8"), namespace)
    batch = {
        "background": {"digest": "of the test", "data": packed(background)},
        "config": {
            "test_poi": 1.0,
            "test_stat": "qtilde",
            "backend": "numpy",
            "optimizer": "scipy",
            "method": "hypotest",
            "measurement": None,
            "normsys_interpcode": "code4",
            "histosys_interpcode": "code4p",
        },
        "patches": [{"key": "one", "data": packed(patch)}, {"key": "two", "data": packed([{}])}],
    }
    answer = namespace["fit_batch"](json.loads(json.dumps(batch)))
    assert json.loads(json.dumps(answer)) == answer
    good, bad = answer["results"]
    assert (good["key"], good["status"]) == ("one", "ok")
    assert 0 < good["CLs_obs"] < 0.05
    assert len(good["CLs_exp"]) == 5
    assert (bad["key"], bad["status"]) == ("two", "error")
    assert answer["environment"]["versions"]["pyhf"]


@pytest.mark.parametrize("module", [name for name in MODULES if top(name) == "report"])
def test_the_report_needs_a_document_and_the_values_in_it_alone(module):
    values = {"campaign.results", "campaign.times", "campaign.quantities"}
    values |= {f"references.{each}_values" for each in ("cls", "limit", "toy")}
    words = {"errors", "schemas", "verdicts", "wording"}
    own = {name for name in own_imports_of(module) if top(name) != "report"}
    assert own <= values | words
