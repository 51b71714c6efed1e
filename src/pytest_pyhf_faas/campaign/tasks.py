"""Make content-addressed tasks with compressed payloads of configurations and patches."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.engines.remote import sources_sha256
from pytest_pyhf_faas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from pytest_pyhf_faas.pallets.pallet import Pallet, SignalPatch
    from pytest_pyhf_faas.worker.messages import BatchAnswer, BatchPayload, PatchOrder

#: Those of pyhf 0.7 and 0.8, to find misspellings before anything is sent. The actual list depends
#: on the pyhf of the workers: see `advice`.
_FAMILIAR = {
    "backend": ("numpy", "jax", "pytorch", "tensorflow"),
    "optimizer": ("scipy", "minuit"),
}
#: How similar a misspelling is to the right name, as `difflib` measures it.
_MISSPELLED = 0.75
CERTIFIED = "certified"
#: What is calculated: CLs, the upper limits on the POI, or CLs by pseudo-experiments.
QUANTITIES = ("cls", "limit", "toys")
#: pyhf's own test, which is validated, or the same at certified minima.
METHODS = ("hypotest", CERTIFIED)
#: How long a certified test searches for other minima: for a result, or for a reference.
EFFORTS = ("brief", "thorough")
TEST_STATISTICS = ("q", "qtilde", "q0")
_NORMSYS_CODES = ("code1", "code4")
_HISTOSYS_CODES = ("code0", "code2", "code4p")
#: The functions that are sent to workers, by method and quantity. They are imported only where they
#: are used: certification imports SciPy.
_FUNCTIONS = {
    ("hypotest", "cls"): ("fitting", "fit_batch"),
    ("hypotest", "limit"): ("limits", "limit_batch"),
    ("hypotest", "toys"): ("toys", "toys_batch"),
    (CERTIFIED, "cls"): ("certified", "certify_batch"),
    (CERTIFIED, "limit"): ("certified_limits", "limit_batch"),
    (CERTIFIED, "toys"): ("certified_toys", "toys_batch"),
}
_WORKER = "pytest_pyhf_faas.worker"
#: Toys of one task: enough that the search for the minima of their parent takes little time, and a
#: multiple of a block.
TOYS_OF_A_TASK = 500


@dataclass(frozen=True, slots=True)
class HypotestConfig:
    """How a hypothesis is tested; the defaults are those of the published likelihoods.

    Attributes
    ----------
    test_poi : float
        Tested value of the parameter of interest, in units of the nominal signal strength.
    test_stat : str
        "qtilde", "q" or "q0".
    quantity : str
        What is calculated: "cls", "limit" or "toys".
    toys : int
        The number of toys with the tested signal, and the same number without signal; 0 for other
        quantities.
    backend, optimizer : str
        As `pyhf.set_backend` names them; the worker's pyhf decides which exist.
    method : str
        "hypotest" for `pyhf.infer.hypotest`, or "certified" for the same at certified minima of
        the likelihood of `histfactory`; then backend and optimizer are not used.
    effort : str
        How long a certified test searches for other minima: "brief" or "thorough".
    checked : bool
        Whether a certified test compares the likelihood of each patch with that of pyhf.
    measurement : str or None
        Name of the measurement; ``None`` takes the first.
    normsys_interpcode, histosys_interpcode : str
        Interpolation codes; HistFactory's own (code4 and code4p), not the defaults of
        `pyhf.Workspace.model`.

    Raises
    ------
    ConfigurationError
        If a value is not one that pyhf knows, or there is no such quantity; of backend and
        optimizer, if the value is a misspelling.
    """

    test_poi: float = 1.0
    test_stat: str = "qtilde"
    quantity: str = "cls"
    toys: int = 0
    backend: str = "numpy"
    optimizer: str = "scipy"
    method: str = "hypotest"
    effort: str = "brief"
    checked: bool = False
    measurement: str | None = None
    normsys_interpcode: str = "code4"
    histosys_interpcode: str = "code4p"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("test_stat", self.test_stat, TEST_STATISTICS),
            ("quantity", self.quantity, QUANTITIES),
            ("method", self.method, METHODS),
            ("effort", self.effort, EFFORTS),
            ("normsys_interpcode", self.normsys_interpcode, _NORMSYS_CODES),
            ("histosys_interpcode", self.histosys_interpcode, _HISTOSYS_CODES),
        ):
            if value not in known:
                raise ConfigurationError(
                    f"{name} is {value!r}, which is not known: use one of {', '.join(known)}"
                )
        _check_spelling("backend", self.backend)
        _check_spelling("optimizer", self.optimizer)
        if isinstance(self.test_poi, bool) or not isinstance(self.test_poi, (int, float)):
            raise ConfigurationError(f"test_poi is {self.test_poi!r}: it must be a number")
        if self.test_stat == "q0" and self.quantity != "cls":
            raise ConfigurationError(
                f"test_stat is 'q0', a test of discovery, and has no {self.quantity}: use qtilde "
                "or q, or leave this quantity out"
            )
        if self.method == CERTIFIED:
            object.__setattr__(self, "backend", "numpy")
            object.__setattr__(self, "optimizer", "scipy")

    def to_json(self) -> dict[str, Any]:
        """Return the configuration as JSON-able values."""
        return dict(_as_json(self))

    @property
    def physics(self) -> dict[str, Any]:
        """The part that decides which minima are right: all but what is calculated, and how."""
        data = self.to_json()
        for name in ("quantity", "toys", "backend", "optimizer", "method", "effort", "checked"):
            del data[name]
        return data

    @property
    def fit_setup(self) -> str:
        """How minima are found, as shown to people and as the key of tolerances."""
        return CERTIFIED if self.method == CERTIFIED else f"{self.backend}+{self.optimizer}"


def _check_spelling(name: str, value: str) -> None:
    """Refuse what can only be a misspelling of a backend or optimizer."""
    familiar = _FAMILIAR[name]
    if value in familiar:
        return
    if not value.isidentifier():
        raise ConfigurationError(
            f"{name} is {value!r}: it must be a name, such as {' or '.join(familiar[:2])}"
        )
    near = get_close_matches(value.lower(), familiar, 1, _MISSPELLED)
    if near:
        raise ConfigurationError(f"{name} is {value!r}, which is not known: do you mean {near[0]}?")


@lru_cache(maxsize=64)
def _as_json(config: HypotestConfig) -> dict[str, Any]:
    """Convert a configuration once for all of its tasks."""
    return {**asdict(config), "test_poi": float(config.test_poi)}


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Additional starts for the searches of a pallet.

    Attributes
    ----------
    points : tuple of mapping
        Each a value for some parameters by their names.
    sha256 : str
        Of the points.
    """

    points: tuple[Mapping[str, float], ...] = ()
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        content = json.dumps(self.points, sort_keys=True)
        object.__setattr__(self, "sha256", hashlib.sha256(content.encode()).hexdigest())


_NO_POOL = Pool()
_NO_TOYS = (0, 0)


@dataclass(frozen=True, slots=True)
class Task:
    """One hypothesis to test; equal keys mean equal content, whatever the names.

    Attributes
    ----------
    key : str
        SHA-256 of everything that decides the result: background, patch, configuration and pool.
    pallet, patch, config : Pallet, SignalPatch, HypotestConfig
        What is tested, and how.
    pool : Pool
        Additional starts of a certified test.
    toys : tuple of int
        For toys, which ones: the number of the first, and how many from there on.
    """

    key: str
    pallet: Pallet
    patch: SignalPatch
    config: HypotestConfig
    pool: Pool = _NO_POOL
    toys: tuple[int, int] = _NO_TOYS

    @property
    def hypothesis(self) -> Hashable:
        """The identity of an item, independent of equal content elsewhere and of the starts."""
        pallet, patch = self.pallet, self.patch
        return pallet.name, pallet.digest, patch.name, patch.digest, self.config


def make_task(
    pallet: Pallet,
    patch: SignalPatch,
    config: HypotestConfig,
    pool: Pool = _NO_POOL,
    toys: tuple[int, int] = _NO_TOYS,
) -> Task:
    """Return the task that tests one patch of a pallet, or draws some of its toys."""
    # How many toys there are in all does not decide what some of them are.
    how = {name: value for name, value in config.to_json().items() if name != "toys"}
    content = json.dumps([pallet.digest, patch.digest, how, pool.sha256, toys], sort_keys=True)
    return Task(hashlib.sha256(content.encode()).hexdigest(), pallet, patch, config, pool, toys)


def parts_of(task: Task) -> list[Task]:
    """Return the tasks that a hypothesis is sent as: itself, or some of its toys each."""
    total = task.config.toys
    return [
        make_task(
            task.pallet,
            task.patch,
            task.config,
            task.pool,
            (first, min(TOYS_OF_A_TASK, total - first)),
        )
        for first in range(0, total, TOYS_OF_A_TASK)
    ] or [task]


def with_pool(task: Task, pool: Pool) -> Task:
    """Return a task that also starts at the points of a pool."""
    return make_task(task.pallet, task.patch, task.config, pool, task.toys)


def make_tasks(
    pallet: Pallet,
    config: HypotestConfig,
    patches: Iterable[SignalPatch] | None = None,
    pool: Pool = _NO_POOL,
) -> list[Task]:
    """Return the tasks of a pallet, or of some of its patches."""
    return [
        make_task(pallet, patch, config, pool)
        for patch in (pallet.patches if patches is None else patches)
    ]


def batch_payload(tasks: Sequence[Task]) -> BatchPayload:
    """Return what `fitting.fit_batch` takes, for tasks of one pallet, configuration and pool.

    The background goes along with every batch: a worker may be new at any time. Compressed it is a
    tenth of its size, and a worker that knows its digest does not unpack it.
    """
    first = tasks[0]
    return {
        "background": {
            "digest": first.pallet.digest,
            "data": base64.b64encode(first.pallet.background).decode(),
        },
        "config": first.config.to_json(),
        "patches": [_order(task) for task in tasks],
        "pool": [dict(point) for point in first.pool.points],
    }


def _order(task: Task) -> PatchOrder:
    order: PatchOrder = {
        "key": task.key,
        "data": base64.b64encode(task.patch.content.packed).decode(),
    }
    if any(task.toys):
        order["toys"] = task.toys
    return order


@lru_cache(maxsize=1)
def worker_sha256() -> str:
    """Return the digest of the code with which this version fits on workers."""
    return sources_sha256(*(f"{_WORKER}.{module}" for module, _name in _FUNCTIONS.values()))


def worker_function(config: HypotestConfig) -> Callable[[BatchPayload], BatchAnswer]:
    """Return the function that takes a payload of this configuration on a worker."""
    module, name = _FUNCTIONS[config.method, config.quantity]
    function: Callable[[BatchPayload], BatchAnswer] = getattr(
        import_module(f"{_WORKER}.{module}"), name
    )
    return function
