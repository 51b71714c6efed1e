"""The synthetic pallet that ships with the package is what it claims to be."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyhf
import pytest

import pytest_pyhf_faas
from pytest_pyhf_faas.histfactory.likelihood import Likelihood
from pytest_pyhf_faas.histfactory.search import THOROUGH, Search
from pytest_pyhf_faas.histfactory.workspace import Workspace
from tests.helpers.paths import REPOSITORY

PALLET = Path(pytest_pyhf_faas.__file__).parent / "data" / "synthetic"
SCRIPT = REPOSITORY / "scripts" / "make_synthetic_pallet.py"
INTERPOLATION = {"normsys": {"interpcode": "code4"}, "histosys": {"interpcode": "code4p"}}
NO_SIGNAL = "synthetic_900_890"
#: Hypotheses with a second minimum, and the fits that have it. Of one the exclusion flips.
BOTH = {"fixed_poi_fit_to_data", "fixed_poi_fit_to_asimov"}
TWO_MINIMA = {
    "synthetic_250_0": BOTH,
    "synthetic_250_50": BOTH,
    "synthetic_300_50": {"fixed_poi_fit_to_asimov"},
}
FLIPS = "synthetic_250_50"
MODIFIER_TYPES = {
    "histosys",
    "lumi",
    "normfactor",
    "normsys",
    "shapefactor",
    "shapesys",
    "staterror",
}

pytestmark = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver:DeprecationWarning")


@pytest.fixture(scope="module")
def background():
    return json.loads((PALLET / "BkgOnly.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def patchset():
    return json.loads((PALLET / "patchset.json").read_text(encoding="utf-8"))


@pytest.fixture
def numpy_scipy():
    before = pyhf.get_backend()
    pyhf.set_backend("numpy", "scipy", precision="64b")
    yield
    pyhf.set_backend(*before)


def modifiers_of(background):
    """Yield (channel, sample, modifier)."""
    for channel in background["channels"]:
        for sample in channel["samples"]:
            for modifier in sample["modifiers"]:
                yield channel, sample, modifier


def patched(background, patchset, name):
    return pyhf.PatchSet(patchset).apply(background, name)


def build(workspace):
    return workspace.model(measurement_name=None, modifier_settings=INTERPOLATION)


def test_files_are_what_the_script_writes():
    check = [sys.executable, str(SCRIPT), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_script_notices_other_files(tmp_path):
    run = [sys.executable, str(SCRIPT), "--folder", str(tmp_path)]
    subprocess.run(run, check=True)
    for name in ("BkgOnly.json", "patchset.json"):
        assert (tmp_path / name).read_bytes() == (PALLET / name).read_bytes()
    (tmp_path / "BkgOnly.json").write_text("{}", encoding="utf-8")
    done = subprocess.run([*run, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "BkgOnly.json" in done.stderr
    assert "patchset.json" not in done.stderr


def test_schema_and_digest(background, patchset):
    workspace = pyhf.Workspace(background)  # checks the schema
    patches = pyhf.PatchSet(patchset)
    patches.verify(workspace)
    patches.verify(background)


def test_labelled_synthetic(background, patchset):
    metadata = patchset["metadata"]
    assert metadata["description"].startswith("Synthetic")
    assert metadata["synthetic"] is True
    # The schema demands a reference; this one is nobody's.
    assert metadata["references"] == {"hepdata": "ins0000000"}
    assert "no HEPData record" in metadata["note"]
    names = [
        *(measurement["name"] for measurement in background["measurements"]),
        *(channel["name"] for channel in background["channels"]),
        *(patch["metadata"]["name"] for patch in patchset["patches"]),
    ]
    assert [name for name in names if not name.startswith("synthetic_")] == []


def test_small():
    assert sum(path.stat().st_size for path in PALLET.iterdir()) < 400_000


def test_hypotheses(patchset):
    metadata = [patch["metadata"] for patch in patchset["patches"]]
    assert len(metadata) == 43
    assert len({tuple(patch["values"]) for patch in metadata}) == 43
    for patch in metadata:
        m1, m2 = patch["values"]
        assert patch["name"] == f"synthetic_{m1}_{m2}"
        assert 0 <= m2 < m1
        if patch["name"] != NO_SIGNAL:
            assert m1 % 50 == m2 % 50 == 0


def test_operations(background, patchset):
    without_signal, with_removal = [], []
    for patch in patchset["patches"]:
        name = patch["metadata"]["name"]
        operations = {operation["op"] for operation in patch["patch"]}
        assert operations <= {"add", "remove"}
        if "add" not in operations:
            without_signal.append(name)
        if "remove" in operations:
            with_removal.append(name)
            channels = patched(background, patchset, name)["channels"]
            assert len(channels) == len(background["channels"]) - 1
    assert without_signal == [NO_SIGNAL]
    assert NO_SIGNAL in with_removal
    assert 1 < len(with_removal) < 43


def test_modifier_types(background, patchset):
    assert {modifier["type"] for _, _, modifier in modifiers_of(background)} == MODIFIER_TYPES
    model = build(patched(background, patchset, "synthetic_500_100"))
    assert {kind for _, kind in model.config.modifiers} == MODIFIER_TYPES
    # One that a patch removes a channel from has them too, but a parameter less.
    smaller = build(patched(background, patchset, "synthetic_500_400"))
    assert {kind for _, kind in smaller.config.modifiers} == MODIFIER_TYPES
    assert set(model.config.par_order) - set(smaller.config.par_order) == {"VR_extrapolation"}


def test_correlated_channels(background):
    channels = {}
    for channel, _, modifier in modifiers_of(background):
        channels.setdefault((modifier["type"], modifier["name"]), set()).add(channel["name"])
    shared = {kind for (kind, _), names in channels.items() if len(names) > 1}
    assert shared >= {"normsys", "histosys", "normfactor", "shapefactor", "lumi"}
    bins = {len(observation["data"]) for observation in background["observations"]}
    assert len(bins) > 1


def test_asymmetric_and_one_sided(background):
    lo_hi = [
        (modifier["data"]["lo"], modifier["data"]["hi"])
        for _, _, modifier in modifiers_of(background)
        if modifier["type"] == "normsys"
    ]
    assert any(lo < 1 < hi and abs(lo * hi - 1) > 0.01 for lo, hi in lo_hi)
    assert any(lo > 1 and hi > 1 for lo, hi in lo_hi)
    shapes = [
        (sample["data"], modifier["data"])
        for _, sample, modifier in modifiers_of(background)
        if modifier["type"] == "histosys"
    ]
    assert any(shape["lo_data"] == data != shape["hi_data"] for data, shape in shapes)
    assert any(data not in (shape["lo_data"], shape["hi_data"]) for data, shape in shapes)


def test_empty_bins(background):
    assert any(0.0 in sample["data"] for c in background["channels"] for sample in c["samples"])
    assert any(0.0 in observation["data"] for observation in background["observations"])
    assert any(
        modifier["type"] == "shapesys" and 0.0 in modifier["data"]
        for _, _, modifier in modifiers_of(background)
    )
    for channel in background["channels"]:
        totals = map(sum, zip(*(sample["data"] for sample in channel["samples"]), strict=True))
        assert min(totals) > 0.5


def test_parameter_configuration(background, patchset):
    (measurement,) = background["measurements"]
    parameters = {one["name"]: one for one in measurement["config"]["parameters"]}
    assert set(parameters["lumi"]) == {"name", "auxdata", "sigmas", "bounds", "inits"}
    (fixed,) = [name for name, one in parameters.items() if one.get("fixed")]
    model = build(patched(background, patchset, "synthetic_500_100"))
    index = model.config.par_slice(fixed).start
    assert model.config.suggested_fixed()[index] is True
    assert model.config.suggested_init()[index] == 1.15


def test_without_signal_pyhf_refuses(background, patchset):
    workspace = patched(background, patchset, NO_SIGNAL)
    with pytest.raises(pyhf.exceptions.InvalidModel, match="parameter of interest"):
        build(workspace)


@pytest.mark.usefixtures("numpy_scipy")
def test_fit(background, patchset):
    workspace = patched(background, patchset, "synthetic_400_300")
    model = build(workspace)
    observed, expected, calculator = pyhf.infer.hypotest(
        1.0,
        workspace.data(model),
        model,
        test_stat="qtilde",
        return_expected_set=True,
        return_calculator=True,
    )
    values = [float(observed), *map(float, expected)]
    assert all(math.isfinite(value) and 0 < value < 1 for value in values)
    assert values[1:] == sorted(set(values[1:]))
    # The fit to Asimov data finds the parameters that these are made from.
    fitted = calculator.fitted_pars
    asimov = model.expected_data(fitted.asimov_pars)
    truth, found = (
        float(-2 * model.logpdf(pars, asimov)[0])
        for pars in (fitted.asimov_pars, fitted.free_fit_to_asimov)
    )
    assert found == pytest.approx(truth, abs=1e-4)


def searched(background, patchset, name):
    workspace = Workspace.from_json(patched(background, patchset, name))
    return Search(Likelihood(workspace), effort=THOROUGH)


def test_three_hypotheses_have_a_second_minimum(background, patchset):
    """They are ambiguous, and of one the exclusion flips; all others have one minimum."""
    names = [patch["metadata"]["name"] for patch in patchset["patches"]]
    ambiguous, flips = {}, []
    for name in names:
        if name == NO_SIGNAL:
            continue
        search = searched(background, patchset, name)
        nominal, lowest = search.nominal, search.lowest
        gaps = {fit: nominal.twice_nll[fit] - lowest.twice_nll[fit] for fit in search.fits}
        assert min(gaps.values()) > -1e-9
        if name not in TWO_MINIMA:
            assert all(len(fit.found) == 1 for fit in search.fits.values())
            assert nominal.cls == lowest.cls
        else:
            ambiguous[name] = {fit for fit, gap in gaps.items() if gap > 1e-6}
        if (nominal.cls[0] < 0.05) != (lowest.cls[0] < 0.05):
            flips.append(name)
    assert ambiguous == TWO_MINIMA
    assert flips == [FLIPS]


@pytest.mark.parametrize("name", TWO_MINIMA)
def test_second_minimum_is_clear(background, patchset, name):
    search = searched(background, patchset, name)
    nominal, lowest = search.nominal, search.lowest
    own = search.likelihood.names.index("signal_ISR")
    for fit in TWO_MINIMA[name]:
        low, high = (which.minima[fit].parameters[own] for which in (lowest, nominal))
        assert high < -0.8
        assert low > 1.3
        assert 0.1 < nominal.twice_nll[fit] - lowest.twice_nll[fit] < 3
        # Half of the draws at random find it.
        there = search.fits[fit].where(lowest.minima[fit]).hits["random"]
        assert there >= 0.4 * search.fits[fit].starts["random"]
    # Signals at the lowest minima fit better.
    assert lowest.cls[0] > 1.02 * nominal.cls[0]


@pytest.mark.usefixtures("numpy_scipy")
@pytest.mark.parametrize("name", TWO_MINIMA)
def test_minimizers_end_in_the_nominal_minima(background, patchset, name):
    workspace = patched(background, patchset, name)
    model = build(workspace)
    data = workspace.data(model)
    observed, expected, calculator = pyhf.infer.hypotest(
        1.0, data, model, return_expected_set=True, return_calculator=True
    )
    nominal = searched(background, patchset, name).nominal
    assert [float(observed), *map(float, expected)] == pytest.approx(nominal.cls, rel=1e-3)
    fitted = calculator.fitted_pars
    asimov = model.expected_data(fitted.asimov_pars)
    twice_nll = {
        "free_fit_to_data": (fitted.free_fit_to_data, data),
        "fixed_poi_fit_to_data": (fitted.fixed_poi_fit_to_data, data),
        "background_fit_to_data": (fitted.asimov_pars, data),
        "free_fit_to_asimov": (fitted.free_fit_to_asimov, asimov),
        "fixed_poi_fit_to_asimov": (fitted.fixed_poi_fit_to_asimov, asimov),
    }
    assert {
        fit: float(np.ravel(-2 * model.logpdf(*there))[0]) for fit, there in twice_nll.items()
    } == pytest.approx(nominal.twice_nll, abs=1e-3)
