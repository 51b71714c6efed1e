"""The functions that run on a worker.

A worker is somebody else's Python: this module imports nothing of this package, needs nothing but
pyhf and the standard library, takes and returns JSON-able values, and answers with data whatever
goes wrong. Importing it does not import pyhf, so that shipping it costs nothing.
"""

from __future__ import annotations

import base64
import json
import lzma
import os
import platform
import re
import socket
import sys
import time
import traceback
import warnings
import zlib
from importlib import metadata
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_pyhf_faas.worker.messages import (
        Background,
        BatchAnswer,
        BatchPayload,
        Environment,
        Failure,
        PatchAnswer,
        PatchOrder,
    )

#: Where Parsl says which block a worker is of.
BLOCK = "PARSL_WORKER_BLOCK_ID"
#: Backgrounds that a worker keeps, so that its memory does not grow over several pallets.
MAX_BACKGROUNDS = 8
#: pyhf's FailedMinimization carries correlation matrices; more than this helps nobody, and Globus
#: Compute carries 10 MiB for a whole batch.
MAX_ERROR_CHARACTERS = 50_000
#: How much of a message its traceback repeats.
_REPEATED_CHARACTERS = 500
MAX_WARNINGS = 20

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
#: Distributions whose versions a worker reports.
VERSIONED = (
    "pyhf",
    "numpy",
    "scipy",
    "iminuit",
    "jax",
    "jaxlib",
    "torch",
    "tensorflow",
    "tensorflow-probability",
    "jsonpatch",
)

# What a worker process keeps between batches.
_backgrounds: dict[str, str] = {}
_environments: dict[tuple[str, str, str], Environment] = {}
_idle_since: float | None = None


def fit_batch(batch: BatchPayload) -> BatchAnswer:
    """Test the hypothesis of each patch of a batch against one background, by pyhf.

    Parameters
    ----------
    batch : dict
        As for `answer_batch`.

    Returns
    -------
    dict
        As of `answer_batch`, with results as `hypotest` gives them.
    """
    return answer_by_pyhf(
        batch, lambda model, observations, _patch: hypotest(model, observations, batch["config"])
    )


def answer_by_pyhf(
    batch: BatchPayload, calculate: Callable[[Any, Any, PatchOrder], dict[str, Any]]
) -> BatchAnswer:
    """Do what a batch asks for with pyhf.

    Parameters
    ----------
    batch : dict
        As for `answer_batch`.
    calculate : callable
        Takes the `pyhf.Model` of a patch, its observations, and the patch as it was sent; gives the
        values of a result.
    """

    def begin() -> str:
        background = _background(batch["background"])
        set_backend(batch["config"])
        return background

    def test(background: str, patch: PatchOrder, seconds: dict[str, float]) -> dict[str, Any]:
        model, observations = _model(background, patch["data"], batch["config"], seconds)
        clock = time.perf_counter()
        result = calculate(model, observations, patch)
        seconds["fit"] = time.perf_counter() - clock
        return result

    return answer_batch(batch, begin, test)


def answer_batch(
    batch: BatchPayload,
    begin: Callable[[], Any],
    test: Callable[[Any, PatchOrder, dict[str, float]], dict[str, Any]],
) -> BatchAnswer:
    """Do what a batch asks for, and answer with data whatever goes wrong.

    Parameters
    ----------
    batch : dict
        ``background`` (``digest`` and ``data``), ``config`` (the fields of `HypotestConfig`) and
        ``patches`` (a list of ``key`` and ``data``). Each ``data`` is JSON, compressed by zlib or
        xz, in base64. The background is known to be valid: the client has checked its schema.
    begin : callable
        Gives what all patches share.
    test : callable
        Takes that, a patch, and where to note durations; gives the values of a result.

    Returns
    -------
    dict
        ``results``, one for each patch in the order of the batch (see `_answer_patch`);
        ``environment`` (see `probe_environment`); ``worker`` (host and process); ``block``
        (as Parsl names it, also inside of Globus Compute; ``None`` where it is not known); and
        durations on the worker's own clock: ``began_s`` on it, ``gap_s`` since its previous batch
        ended (``None`` for the first), ``unpack_s`` for the background, ``total_s`` for the whole
        call.
    """
    global _idle_since
    started = time.perf_counter()
    gap_s = None if _idle_since is None else started - _idle_since
    config = batch["config"]
    unpack_s = 0.0
    results: list[PatchAnswer]
    try:
        shared = begin()
        unpack_s = time.perf_counter() - started
    except KeyboardInterrupt:  # its time limit, or the end of the run: no answer at all
        raise
    except BaseException as error:  # whatever else it is, it is the answer for every patch
        failure = _failure(error)
        results = [
            {"key": patch["key"], "status": "error", "error": failure, "seconds": {}}
            for patch in batch["patches"]
        ]
    else:
        results = [_answer_patch(shared, patch, test) for patch in batch["patches"]]
    kind = (config["method"], config["backend"], config["optimizer"])
    if kind not in _environments:
        _environments[kind] = probe_environment(config)
    _idle_since = time.perf_counter()
    return {
        "worker": f"{socket.gethostname()}:{os.getpid()}",
        "block": os.environ.get(BLOCK),
        # In each answer: another one may be lost on its way, or belong to another session.
        "environment": _environments[kind],
        "results": results,
        "began_s": started,
        "gap_s": gap_s,
        "unpack_s": unpack_s,
        "total_s": _idle_since - started,
    }


def probe_environment(config: dict[str, Any] | None = None) -> Environment:
    """Describe this worker.

    Parameters
    ----------
    config : dict, optional
        ``method``, ``backend`` and ``optimizer`` that the worker was asked to use.

    Returns
    -------
    dict
        ``python`` (its version), ``executable`` (which one it is), ``platform``, ``host``, ``pid``,
        ``cpu``, ``backend``, ``optimizer``, ``threads`` (the thread settings of the linear algebra
        libraries) and ``versions`` (installed ones of pyhf and what it computes with).
    """
    versions = {}
    for name in VERSIONED:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    config = config or {}
    if config.get("method") == "certified":
        config = {"backend": None, "optimizer": "certified"}
    return {
        "python": platform.python_version(),
        "executable": sys.executable or sys.prefix,
        "platform": f"{platform.system()} {platform.machine()}",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "cpu": _cpu_model(),
        "backend": config.get("backend"),
        "optimizer": config.get("optimizer"),
        "threads": {name: os.environ.get(name) for name in THREAD_VARIABLES},
        "versions": versions,
    }


def _answer_patch(
    shared: Any,
    patch: PatchOrder,
    test: Callable[[Any, PatchOrder, dict[str, float]], dict[str, Any]],
) -> PatchAnswer:
    """Test one patch; the answer has ``status`` "ok" or "error", and what was measured."""
    result: dict[str, Any] = {"key": patch["key"], "seconds": {}}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # These are for developers of the libraries, not for users of the fit.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            result.update(test(shared, patch, result["seconds"]))
            result["status"] = "ok"
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a worker that dies of an exception takes others down
            result["status"] = "error"
            result["error"] = _failure(error)
    texts = (f"{w.category.__name__}: {w.message}".partition("\n")[0] for w in caught)
    result["warnings"] = list(dict.fromkeys(texts))[:MAX_WARNINGS]
    return cast("PatchAnswer", result)


def _model(
    background: str, data: str, config: dict[str, Any], seconds: dict[str, float]
) -> tuple[Any, Any]:
    """Return the model of a patch and its observations."""
    clock = time.perf_counter()
    operations = json.loads(unpack(data))
    # Parsing the text again is faster than copying the parsed background.
    specification = json.loads(background)
    seconds["unpack"] = time.perf_counter() - clock

    clock = time.perf_counter()
    found = pyhf_model(apply(operations, specification), config)
    seconds["build"] = time.perf_counter() - clock
    return found


def pyhf_model(specification: Any, config: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the `pyhf.Model` of a workspace and its observations, auxiliary data included.

    Parameters
    ----------
    specification : dict
        The JSON of the workspace, the patch applied.
    config : mapping
        The fields of `HypotestConfig`.
    """
    import pyhf

    try:
        workspace = pyhf.Workspace(specification, validate=False)
        model = workspace.model(
            measurement_name=config["measurement"],
            validate=False,
            modifier_settings=modifier_settings(config),
        )
        return model, workspace.data(model)
    except pyhf.exceptions.InvalidModel:
        raise
    except Exception:
        # Without validation a malformed patch fails anywhere; the schema says it in plain words.
        pyhf.Workspace(specification, validate=True)
        raise


def modifier_settings(config: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return the interpolation codes of a configuration as `pyhf.Model` takes them."""
    return {
        "normsys": {"interpcode": config["normsys_interpcode"]},
        "histosys": {"interpcode": config["histosys_interpcode"]},
    }


def hypotest(model: Any, observations: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Run `pyhf.infer.hypotest`.

    Parameters
    ----------
    model : pyhf.Model
        With a parameter of interest.
    observations : tensor, shape (n_data,)
        Data, auxiliary data included.
    config : dict
        The fields of `HypotestConfig`.

    Returns
    -------
    dict
        ``CLs_obs``, ``CLs_exp`` (at -2, -1, 0, 1, 2 standard deviations) and ``mu_hat``; under
        ``twice_nll`` twice the negative log-likelihood of the five fits, and under
        ``twice_nll_nearby`` the lowest with one parameter changed; ``twice_nll_asimov_truth``, the
        known minimum of the free fit to the Asimov data; and ``twice_nll_off_minimum``, at a point
        that depends on the model alone. Numbers that JSON lacks are given as words.
    """
    import pyhf

    cls_obs, cls_exp, calculator = pyhf.infer.hypotest(
        config["test_poi"],
        observations,
        model,
        test_stat=config["test_stat"],
        return_expected_set=True,
        return_calculator=True,
    )
    tensorlib, _ = pyhf.get_backend()
    fitted = calculator.fitted_pars
    observations = tensorlib.astensor(observations)
    asimov = model.expected_data(fitted.asimov_pars)
    # (parameters, data, whether the POI was free)
    fits = {
        "free_fit_to_data": (fitted.free_fit_to_data, observations, True),
        "fixed_poi_fit_to_data": (fitted.fixed_poi_fit_to_data, observations, False),
        "background_fit_to_data": (fitted.asimov_pars, observations, False),
        "free_fit_to_asimov": (fitted.free_fit_to_asimov, asimov, True),
        "fixed_poi_fit_to_asimov": (fitted.fixed_poi_fit_to_asimov, asimov, False),
    }

    def twice_nll(parameters: Any, data: Any) -> float | str:
        return number(-2 * model.logpdf(parameters, data))

    return {
        "CLs_obs": number(cls_obs),
        "CLs_exp": [number(value) for value in cls_exp],
        "mu_hat": number(fitted.free_fit_to_data[model.config.poi_index]),
        "asimov_poi": number(fitted.asimov_pars[model.config.poi_index]),
        "twice_nll": {name: twice_nll(*fit[:2]) for name, fit in fits.items()},
        "twice_nll_nearby": {name: _lowest_nearby(model, *fit) for name, fit in fits.items()},
        # The Asimov data were built from these parameters: a fit that ends above them failed.
        "twice_nll_asimov_truth": twice_nll(fitted.asimov_pars, asimov),
        # Not fitted, so that it differs only if the model does.
        "twice_nll_off_minimum": _off_minimum(model, observations),
    }


def number(tensor: Any) -> float | str:
    """Return a tensor of one element as JSON can hold it; float() reads the words back."""
    import pyhf

    values = pyhf.get_backend()[0].tolist(tensor)
    while isinstance(values, list):
        (values,) = values
    value = float(values)
    return value if abs(value) < float("inf") else str(value)


def _lowest_nearby(model: Any, parameters: Any, data: Any, poi_is_free: bool) -> float | str:
    """Return the lowest twice the NLL that moving one unconstrained parameter leads to.

    An optimizer that stopped where it started has left those farthest from their minimum, because
    only the data draws them there.
    """
    import pyhf

    tensorlib, _ = pyhf.get_backend()
    config = model.config
    here = tensorlib.tolist(parameters)
    fixed = config.suggested_fixed()
    bounds = config.suggested_bounds()

    def twice_nll(index: int, value: float) -> float:
        lower, upper = bounds[index]
        there = [*here[:index], min(max(value, lower), upper), *here[index + 1 :]]
        return float(number(-2 * model.logpdf(tensorlib.astensor(there), data)))

    start = lowest = twice_nll(0, here[0])
    for name in config.par_order:
        if config.param_set(name).constrained:
            continue
        for index in range(config.npars)[config.par_slice(name)]:
            if fixed[index] or (index == config.poi_index and not poi_is_free):
                continue
            step = 1e-3 * max(1.0, abs(here[index]))
            above, below = (twice_nll(index, here[index] + side) for side in (step, -step))
            bend = (above - 2 * start + below) / step**2
            if bend > 0:
                minimum = here[index] - (above - below) / (2 * step) / bend
                lowest = min(lowest, twice_nll(index, minimum))
    return lowest if abs(lowest) < float("inf") else str(lowest)


def _off_minimum(model: Any, observations: Any) -> float | str:
    """Return twice the negative log-likelihood at a point that depends on the model alone.

    Parameters lie up to 0.9 of their standard deviations (0.2 where they have none) away from their
    initial values, by a checksum of their names; nearer where the likelihood is not defined there.
    Within one standard deviation codes 4 and 4p depend on both variations, and on the code.
    """
    import pyhf

    tensorlib, _ = pyhf.get_backend()
    config = model.config
    widths: dict[int, float] = {}
    for name in config.par_order:
        places = range(config.npars)[config.par_slice(name)]
        parameters = config.param_set(name)
        own = parameters.width() if parameters.constrained else [0.22] * len(places)
        widths.update(zip(places, own, strict=True))
    value: float | str = "nan"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of logarithms that are not defined
        for scale in (0.9, 0.45, 0.225, 0.0):
            point = []
            for index, (name, initial, (lower, upper)) in enumerate(
                zip(
                    config.par_names,
                    config.suggested_init(),
                    config.suggested_bounds(),
                    strict=True,
                )
            ):
                share = 2 * zlib.crc32(name.encode()) / 2**32 - 1
                moved = initial + scale * share * widths[index]
                point.append(min(max(moved, lower), upper))
            value = number(-2 * model.logpdf(tensorlib.astensor(point), observations))
            if isinstance(value, float):
                break
    return value


def apply(operations: Any, specification: Any, first: int = 1) -> Any:
    """Apply a JSON patch in place, and return the result.

    Parameters
    ----------
    operations : list of dict
        The JSON patch.
    specification : JSON
        What it is applied to.
    first : int
        The number of the first operation in the whole patch, for the message.

    Raises
    ------
    ValueError
        If it does not apply; it says which operation.
    """
    import jsonpatch

    if not isinstance(operations, list):
        operations = [operations]  # jsonpatch says what is wrong
    for number, operation in enumerate(operations, first):
        try:
            specification = jsonpatch.JsonPatch([operation]).apply(specification, in_place=True)
        except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
            which = f"operation {number}"
            if isinstance(operation, dict):
                which += f" ({operation.get('op')} {operation.get('path')})"
            # Without listing everything that is there instead.
            cause = re.split(r" in [{\[]", str(error), maxsplit=1)[0]
            raise ValueError(
                f"the patch does not apply to the background: {which}: {cause}"
            ) from error
    return specification


def set_backend(config: Mapping[str, Any]) -> None:
    """Let pyhf use the backend and optimizer of a configuration, in double precision."""
    import pyhf

    wanted = (config["backend"], config["optimizer"])
    tensorlib, optimizer = pyhf.get_backend()
    if (tensorlib.name, optimizer.name) != wanted or tensorlib.precision != "64b":
        pyhf.set_backend(wanted[0], wanted[1], precision="64b")


def _background(packed: Background) -> str:
    """The background as JSON text, from memory if this worker has seen it."""
    digest = packed["digest"]
    if digest not in _backgrounds:
        while len(_backgrounds) >= MAX_BACKGROUNDS:
            del _backgrounds[next(iter(_backgrounds))]
        _backgrounds[digest] = unpack(packed["data"])
    return _backgrounds[digest]


def unpack(data: str) -> str:
    """Return the text that was compressed by zlib or xz and is in base64."""
    packed = base64.b64decode(data)
    decompress = lzma.decompress if packed.startswith(b"\xfd7zXZ") else zlib.decompress
    return decompress(packed).decode()


def _failure(error: BaseException) -> Failure:
    kind = type(error)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    try:
        message = str(error)
    except Exception as broken:
        message = f"(its message cannot be read: {broken!r})"
    lines = "".join(traceback.format_exception(kind, error, error.__traceback__))
    if len(message) > _REPEATED_CHARACTERS:
        lines = lines.replace(message, f"{message[:_REPEATED_CHARACTERS]}...")
    return {
        "type": f"{module}{kind.__qualname__}",
        "message": message[:MAX_ERROR_CHARACTERS],
        "traceback": lines[-MAX_ERROR_CHARACTERS:],
    }


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
