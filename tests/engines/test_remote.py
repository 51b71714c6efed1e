"""Calls to workers that have pyhf and nothing of this package."""

from __future__ import annotations

import ast
import base64
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_pyhf_faas import histfactory
from pytest_pyhf_faas.campaign.tasks import HypotestConfig, batch_payload, make_tasks
from pytest_pyhf_faas.engines import remote
from pytest_pyhf_faas.engines.remote import expression_arguments, pack_call, unpack_answer
from pytest_pyhf_faas.errors import RemoteCallError, TaskTimeoutError
from pytest_pyhf_faas.pallets.catalogue import resolve
from pytest_pyhf_faas.worker import certified, fitting
from pytest_pyhf_faas.worker.fitting import THREAD_VARIABLES
from tests.helpers import remote_functions
from tests.helpers.scripted_engine import wait_until

pytestmark = pytest.mark.timeout(600)

#: Where the package cannot be imported, a worker does what an executor has it do.
BARE = """\
import json
import sys
from concurrent.futures import ThreadPoolExecutor


class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pytest_pyhf_faas", *absent):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


absent = ("pyhf", "jax") if "without pyhf" in sys.argv else ()
sys.meta_path.insert(0, NotInstalled())
for line in sys.stdin:
    names = json.loads(line)
    expression = names.pop("expression")
    if "thread" in sys.argv:
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(eval, expression, names).result()
    else:
        answer = eval(expression, names)
    print(json.dumps(answer), flush=True)
"""
#: Starts two processes that do nothing, the second in a group of its own, and says which; starts a
#: worker, gives it one call, and waits.
PARENT = """\
import subprocess
import sys

for apart in (False, True):
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    print(subprocess.Popen(command, start_new_session=apart).pid, flush=True)
# A daemon of the user's: in the same group, an orphan too, and not started by the parent itself.
program = "import subprocess, sys; print(subprocess.Popen(sys.argv[1:]).pid, flush=True)"
subprocess.run([sys.executable, "-c", program, *command])
worker = subprocess.Popen([sys.executable, "-I", "-c", sys.argv[1]], stdin=subprocess.PIPE)
worker.stdin.write(sys.stdin.readline().encode())
worker.stdin.flush()
sys.stdin.readline()
"""
#: All that a worker has of us when it has been asked to certify.
SHIPPED = {
    "histfactory",
    *(
        f"histfactory.{path.stem}"
        for path in Path(histfactory.__file__).parent.glob("[!_]*.py")
        if path.stem not in ("pyhf_optimizer", "limits", "toys")  # these are for scripts
    ),
    "tests",
    "tests.helpers",
    "tests.helpers.remote_functions",
    "worker",
    "worker.certified",
    "worker.fitting",
    "worker.messages",
    "worker.patching",
}
HARD_LIMIT = "hard_limit_after_s = 10.0"
GONE_S = 10.0


def line_of(call, hard_limit_s=None):
    """What a worker reads: a call, and perhaps how long after its time limit it is ended hard."""
    expression, names = expression_arguments(call)
    if hard_limit_s is not None:
        assert HARD_LIMIT in names["source"]
        changed = names["source"].replace(HARD_LIMIT, f"hard_limit_after_s = {hard_limit_s}")
        names = {**names, "source": changed}
    return json.dumps({"expression": expression, **names}) + "\n"


class BareWorker:
    """A fresh Python that has pyhf, but nothing of this package."""

    def __init__(self, *argv, environment=None, hard_limit_s=None):
        self.hard_limit_s = hard_limit_s
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", BARE, *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )

    def answer(self, call):
        """Return the answer to a packed call as it comes; ``None`` from a worker that ended."""
        self.process.stdin.write(line_of(call, self.hard_limit_s))
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def call(self, function, *args, timeout_s=None):
        return unpack_answer(self.answer(pack_call(function, args, timeout_s)))

    def end(self):
        """Kill it and return what it wrote to its standard error."""
        self.process.kill()
        _output, errors = self.process.communicate()
        return errors


@pytest.fixture
def start():
    """Start workers that end with the test."""
    started = []

    def make(*argv, **options):
        started.append(BareWorker(*argv, **options))
        return started[-1]

    yield make
    for bare in started:
        bare.end()


@pytest.fixture(scope="module")
def bare():
    """A worker that serves many tests, as workers do."""
    bare = BareWorker()
    yield bare
    assert bare.process.poll() is None
    assert bare.end() == ""


@pytest.fixture(scope="module")
def payload():
    """A batch of one patch of the bundled pallet."""
    (pallet,) = resolve("synthetic", search_path=[])
    return batch_payload(make_tasks(pallet, HypotestConfig())[:1])


@pytest.fixture(scope="module")
def certified_payload():
    """The same, at certified minima."""
    (pallet,) = resolve("synthetic", search_path=[])
    return batch_payload(make_tasks(pallet, HypotestConfig(method="certified"))[:1])


def alive(process_id):
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


# Values

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5)
    ),
    max_leaves=15,
)


@settings(max_examples=100, deadline=None)
@given(value=values)
def test_values_come_back_as_they_were_sent(bare, value):
    back = bare.call(remote_functions.echo, value)
    assert back == value
    assert json.dumps(back) == json.dumps(value)  # 1, 1.0 and True are equal


def test_large_values_come_back(bare):
    value = {"σ": "x" * 5_000_000, "more": list(range(10_000))}
    assert bare.call(remote_functions.echo, value) == value


def test_a_value_may_look_like_an_answer(bare):
    for value in ({"value": 1}, {"error": 2}, {"timeout": 3.0}, None):
        assert bare.call(remote_functions.echo, value) == value


@pytest.mark.parametrize("kind", ["set", "bytes", "nan", "keys"])
def test_an_answer_that_json_lacks_is_an_error_that_says_so(bare, kind):
    with pytest.raises(RemoteCallError, match=r"(Type|Value)Error: its answer cannot be sent as"):
        bare.call(remote_functions.no_json, kind)


def test_an_argument_that_json_lacks_is_not_sent():
    with pytest.raises(TypeError, match="not JSON serializable"):
        pack_call(remote_functions.echo, ({1},), None)


# What runs there


def test_nothing_of_this_package_is_imported_on_a_worker(bare):
    there = bare.call(remote_functions.where)
    assert there == {
        "pid": bare.process.pid,
        "modules": sorted(SHIPPED),
        "installed": False,
    }


def test_a_patch_of_the_bundled_pallet_is_fitted(bare, payload):
    answer = bare.call(fitting.fit_batch, payload, timeout_s=100.0)
    (result,) = answer["results"]
    assert result["status"] == "ok", result
    assert answer["worker"].endswith(f":{bare.process.pid}")
    assert answer["environment"]["versions"]["pyhf"]
    (here,) = fitting.fit_batch(payload)["results"]
    assert result["CLs_obs"] == pytest.approx(here["CLs_obs"], rel=1e-6)
    assert result["CLs_exp"] == pytest.approx(here["CLs_exp"], rel=1e-6)
    assert result["key"] == here["key"]


def test_a_worker_remembers_what_it_said_of_itself(bare, payload):
    first = bare.call(remote_functions.fail_to_certify, payload)
    second = bare.call(remote_functions.fail_to_certify, payload)
    assert second["environment"] == first["environment"]
    assert second["gap_s"] is not None
    assert first["worker"] == second["worker"]


def test_what_certifies_goes_along_with_all_that_it_imports(start, certified_payload):
    """To a worker that has neither this package nor pyhf."""
    bare = start("without pyhf")
    answer = bare.call(certified.certify_batch, certified_payload, timeout_s=100.0)
    here = json.loads(json.dumps(certified.certify_batch(certified_payload)))
    (result,), (mine,) = answer["results"], here["results"]
    assert result["status"] == "ok", result
    assert {**result, "seconds": {}} == {**mine, "seconds": {}}
    with pytest.raises(RemoteCallError, match=r"could not run what was sent to it: KeyError: 'con"):
        bare.call(certified.certify_batch, {})
    assert bare.call(remote_functions.echo, 3) == 3


def test_modules_travel_under_dotted_names_after_what_they_need():
    call = json.loads(pack_call(certified.certify_batch, ({},), None))
    assert call["function"] == "worker.certified.certify_batch"
    names = list(call["modules"])
    assert set(names) == {name for name in SHIPPED if not name.startswith("tests")}
    assert all(value.isascii() for value in call["modules"].values())
    place = {name: number for number, name in enumerate(names)}
    sources = {
        name: zlib.decompress(base64.b64decode(packed)).decode()
        for name, packed in call["modules"].items()
    }
    for name, source in sources.items():
        above = name.rpartition(".")[0]
        assert not above or place[above] < place[name]
        # A package of this name that is installed there has no part in it.
        assert "pytest_pyhf_faas" not in source
        for node in ast.walk(ast.parse(source)):
            for inner in imported(node, call["package"]):
                assert inner in place, f"{name} imports {inner}, which does not go along"
        for node in ast.parse(source).body:  # but for the sake of types alone
            for inner in imported(node, call["package"]):
                assert place[inner] < place[name]


def imported(node, package):
    """Yield the modules of a package that a node imports from or as a whole."""
    if isinstance(node, ast.ImportFrom) and node.module == package:
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module.startswith(f"{package}."):
        inner = node.module.removeprefix(f"{package}.")
        submodules = [f"{inner}.{a.name}" for a in node.names if f"{inner}.{a.name}" in SHIPPED]
        yield from submodules or [inner]


def test_a_package_may_lie_in_a_package(bare, tmp_path, monkeypatch):
    """As long as each has an ``__init__``; a name that is no module comes from where it is."""
    monkeypatch.setattr(remote, "_PACKAGE", "nested")
    monkeypatch.syspath_prepend(tmp_path)
    for path, text in {
        "nested/__init__.py": "",
        "nested/one/__init__.py": "WHERE = __name__\n",
        "nested/one/two/__init__.py": "DEPTH = 2\n",
        "nested/one/two/three.py": (
            "from nested.one import WHERE\n\n\ndef where():\n    return WHERE\n"
        ),
        "nested/top.py": (
            "from nested.one.two import DEPTH, three\n\n\n"
            "def ask():\n    return [three.where(), DEPTH, three.__name__]\n"
        ),
    }.items():
        (tmp_path / path).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / path).write_text(text)
    names = ["nested", "nested.one", "nested.one.two", "nested.one.two.three", "nested.top"]
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    top = importlib.import_module("nested.top")
    call = pack_call(top.ask, (), None)
    for name in names:  # or the next test would find them
        monkeypatch.delitem(sys.modules, name)
    remote._shipped.cache_clear()
    package = json.loads(call)["package"]
    assert list(json.loads(call)["modules"]) == ["one", "one.two", "one.two.three", "top"]
    answer = json.loads(bare.answer(call))
    assert answer["value"] == [f"{package}.one", 2, f"{package}.one.two.three"]


def test_the_digest_of_what_travels_changes_with_any_part_of_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(remote, "_PACKAGE", "digested")
    files = {
        "__init__": "",
        "inner": "DEPTH = 2\n",
        "other": "UNUSED = 1\n",
        "top": "from digested.inner import DEPTH\n",
    }
    (tmp_path / "digested").mkdir()

    def digest(**changes):
        for name, text in {**files, **changes}.items():
            (tmp_path / "digested" / f"{name}.py").write_text(text)
        return remote.sources_sha256("digested.top")

    first = digest()
    assert digest() == first
    assert digest(other="UNUSED = 2\n") == first
    assert len({first, digest(inner="DEPTH = 3\n"), digest(top=f"{files['top']}\n")}) == 3
    assert "digested" not in sys.modules


def test_the_exceptions_of_shipped_modules_have_their_own_names(bare, payload):
    answer = bare.call(remote_functions.fail_to_certify, payload)
    (result,) = answer["results"]
    name = "pytest_pyhf_faas.histfactory.errors.CertificationError"
    assert result["error"]["type"] == name
    assert result["error"]["message"] == "not at a minimum"
    assert f"{name}: not at a minimum" in result["error"]["traceback"]
    assert not remote._SHIPPED_AS.search(json.dumps(answer))


def test_names_of_shipped_packages_differ_with_their_content(bare, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "shifting.py"
    path.write_text("def version():\n    return 1\n")
    shifting = importlib.import_module("shifting")
    monkeypatch.delitem(sys.modules, "shifting")
    monkeypatch.setitem(sys.modules, "shifting", shifting)
    first = pack_call(shifting.version, (), None)
    assert (
        pack_call(shifting.version, (), 3.0).partition('"function"')[0]
        == (first.partition('"function"')[0])
    )
    path.write_text("def version():\n    return 'another'\n")
    importlib.reload(shifting)
    remote._shipped.cache_clear()
    second = pack_call(shifting.version, (), None)
    assert json.loads(first)["package"] != json.loads(second)["package"]
    # A worker that serves two clients keeps them apart.
    answers = [unpack_answer(bare.answer(call)) for call in (first, second, first)]
    assert answers == [1, "another", 1]


def test_what_cannot_be_imported_on_a_worker_says_so_each_time(bare, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "particular.py").write_text(
        "import sys\n"
        "if 'pytest' not in sys.modules:\n"
        "    raise ImportError('not for workers')\n\n\n"
        "def function():\n"
        "    return 1\n"
    )
    particular = importlib.import_module("particular")
    monkeypatch.delitem(sys.modules, "particular")
    monkeypatch.setitem(sys.modules, "particular", particular)
    for _ in range(2):
        with pytest.raises(RemoteCallError, match="ImportError: not for workers"):
            bare.call(particular.function)
    assert bare.call(remote_functions.echo, 3) == 3


# What goes wrong


def test_an_exception_names_its_type_and_says_its_message(bare):
    with pytest.raises(RemoteCallError) as caught:
        bare.call(remote_functions.fail, "of its own making: σ")
    assert str(caught.value) == (
        "a worker could not run what was sent to it: ValueError: of its own making: σ"
    )
    assert bare.call(remote_functions.echo, 3) == 3


def test_the_traceback_of_an_exception_shows_the_lines(bare):
    answer = json.loads(bare.answer(pack_call(remote_functions.fail, ("why",), None)))
    assert "raise ValueError(message)" in answer["error"]["traceback"]
    assert ".remote_functions>" in answer["error"]["traceback"]


def test_a_message_without_end_is_cut(bare):
    with pytest.raises(RemoteCallError) as caught:
        bare.call(remote_functions.fail, "x" * 3_000_000)
    assert len(str(caught.value)) < 110_000


def test_a_function_that_would_end_its_worker_does_not(bare):
    with pytest.raises(RemoteCallError, match="SystemExit: 3"):
        bare.call(remote_functions.leave, 3)
    assert bare.call(remote_functions.where)["pid"] == bare.process.pid


NONSENSE = [
    *("", "{", "null", "3", "[]", "{}", '"value"', '"error"', "true", "NaN", "garbage"),
    *('{"error": 3}', '{"error": null}', '{"error": {}}', '{"error": {"type": "E"}}'),
    *('{"error": []}', '["value"]', '{"values": 1}'),
    *(None, 7, b'{"value": 1}', {"value": 1}),
]


@pytest.mark.parametrize("answer", NONSENSE, ids=repr)
def test_an_answer_that_makes_no_sense_says_so(answer):
    with pytest.raises(RemoteCallError, match="an invalid answer"):
        unpack_answer(answer)


@settings(max_examples=200, deadline=None)
@given(answer=st.text() | values.map(json.dumps))
def test_whatever_comes_back_is_a_value_or_an_error_of_ours(answer):
    try:
        value = unpack_answer(answer)
    except (RemoteCallError, TaskTimeoutError):
        return
    assert json.loads(answer)["value"] == value


def test_an_answer_of_ever_deeper_lists_makes_no_sense():
    with pytest.raises(RemoteCallError, match="an invalid answer"):
        unpack_answer("[" * 100_000)


# Time limits


@pytest.mark.parametrize("how", ["loop", "sleep"])
def test_a_time_limit_ends_what_runs_and_spares_its_worker(bare, how):
    function, args = (
        (remote_functions.loop, ()) if how == "loop" else (remote_functions.nap, (60.0,))
    )
    started = time.monotonic()
    with pytest.raises(TaskTimeoutError, match=r"ended after its time limit of 0\.3 s"):
        bare.call(function, *args, timeout_s=0.3)
    assert 0.3 <= time.monotonic() - started < 9.0
    assert bare.call(remote_functions.where)["pid"] == bare.process.pid


def test_a_batch_that_its_time_limit_ends_gives_no_errors_of_patches(bare, payload):
    call = pack_call(remote_functions.fit_for_ever, (payload,), 1.0)
    assert json.loads(bare.answer(call))["timeout"] == 1.0


def test_nothing_of_a_time_limit_is_left_after_a_call(start):
    bare = start(hard_limit_s=0.5)
    before = bare.call(remote_functions.alarm)
    assert before[0] == 0
    with pytest.raises(TaskTimeoutError):
        bare.call(remote_functions.nap, 60.0, timeout_s=0.05)
    assert bare.call(remote_functions.alarm) == before
    assert bare.call(remote_functions.nap, 0.01, timeout_s=0.2) == 0.01
    assert bare.call(remote_functions.alarm) == before
    with pytest.raises(RemoteCallError, match="ValueError: early"):
        bare.call(remote_functions.fail, "early", timeout_s=0.2)
    assert bare.call(remote_functions.alarm) == before
    assert bare.call(remote_functions.nap, 0.8) == 0.8


@pytest.mark.parametrize("function", [remote_functions.sum_for_ever, remote_functions.shrug_off])
def test_what_its_time_limit_cannot_end_is_ended_with_its_worker(start, function):
    bare = start(hard_limit_s=0.3)
    assert bare.call(remote_functions.echo, 1, timeout_s=5.0) == 1
    assert bare.answer(pack_call(function, (), 0.2)) is None
    assert bare.process.wait(GONE_S) == 1
    assert bare.end() == ""


@pytest.mark.parametrize("in_thread", [True, False])
def test_the_process_of_the_client_is_neither_alarmed_nor_ended(monkeypatch, in_thread):
    monkeypatch.setattr(remote, "_ENVIRONMENT", {})
    threads, (left_s, handler) = set(threading.enumerate()), remote_functions.alarm()
    expression, names = expression_arguments(pack_call(remote_functions.nap, (0.3,), 0.05))
    try:
        if in_thread:
            with ThreadPoolExecutor(1) as pool:
                answer = pool.submit(eval, expression, names).result()
        else:
            answer = eval(expression, names)
        left_later_s, handler_later = remote_functions.alarm()
        assert set(threading.enumerate()) == threads
    finally:
        for name in [name for name in sys.modules if remote._SHIPPED_AS.match(name)]:
            del sys.modules[name]
        vars(sys).pop(names["key"], None)
    assert unpack_answer(answer) == 0.3
    assert handler_later == handler
    assert left_later_s <= left_s  # that of pytest-timeout goes on
    assert bool(left_later_s) == bool(left_s)


def test_a_worker_that_is_a_thread_has_no_time_limits(start):
    bare = start("thread")
    assert bare.call(remote_functions.nap, 0.3, timeout_s=0.05) == 0.3


# Where it runs


@needs_proc
def test_a_worker_whose_parent_dies_ends_itself_and_what_that_had_started(tmp_path):
    path = tmp_path / "worker"
    parent = subprocess.Popen(
        [sys.executable, "-I", "-c", PARENT, BARE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # or it would be these tests that are left behind
    )
    with parent:
        beside, apart, daemon = (int(parent.stdout.readline()) for _ in range(3))
        call = pack_call(remote_functions.announce_and_nap, (str(path),), 50.0)
        parent.stdin.write(line_of(call))
        parent.stdin.flush()
        wait_until(path.exists, "the worker is busy")
        process_id = int(path.read_text())
        assert alive(process_id)
        parent.kill()
    try:
        wait_until(lambda: not alive(process_id), "the worker is gone")
        wait_until(lambda: not alive(beside), "what its parent started as well is gone")
        assert alive(apart)
        assert alive(daemon)
    finally:
        for process_id in (apart, daemon):
            os.kill(process_id, signal.SIGKILL)


def test_variables_of_threads_are_set_where_they_are_not(start, monkeypatch):
    for name in (*THREAD_VARIABLES, "XLA_FLAGS"):
        monkeypatch.delenv(name, raising=False)
    bare = start(environment={"OPENBLAS_NUM_THREADS": "3"})
    answer = bare.call(remote_functions.environment_of, [*THREAD_VARIABLES, "XLA_FLAGS"])
    assert "intra_op_parallelism_threads=1" in answer.pop("XLA_FLAGS")
    assert answer == {**dict.fromkeys(THREAD_VARIABLES, "1"), "OPENBLAS_NUM_THREADS": "3"}


def test_the_client_is_left_as_it_was(bare):
    before = dict(os.environ)
    bare.call(remote_functions.echo, 1)
    assert dict(os.environ) == before
    assert not [name for name in sys.modules if remote._SHIPPED_AS.match(name)]
