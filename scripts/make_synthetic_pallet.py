"""Write the synthetic pallet that ships with the package.

The pallet is a background-only HistFactory workspace and a patch set with 43 signal hypotheses, as
published likelihoods have them, except that nothing in it was measured: every yield, uncertainty
and observation is invented here. It is there so that the validation runs on a machine that has
nothing but this package, and so that it covers what the published likelihoods happen not to use.

The imagined search looks for a pair of particles of mass ``m1`` that decay to invisible ones of
mass ``m2``. It has six channels with 15 bins:

``CR_top`` (3 bins), ``CR_W`` (2)
    control regions that determine the normfactors ``mu_top`` and ``mu_W``, which scale the two
    main backgrounds in every channel;
``CR_fake`` (3), ``SR_low`` (3)
    share the shapefactor ``fake_shape``. The control region determines it, the signal region for
    small mass splittings uses it, except in its last bin, where no fakes are expected;
``VR_top`` (1)
    a validation region. The patches of compressed hypotheses (``m1 - m2`` of 100) remove it and a
    parameter with it, so that the models of one pallet differ;
``SR_high`` (3)
    the signal region for large mass splittings. No simulated top event reached its last bin, where
    nothing was observed either.

All seven types of modifiers occur: ``lumi`` (with auxiliary data, width, bounds and a start value),
``normfactor`` (one, ``k_diboson``, is fixed to a value other than one), ``normsys`` and
``histosys`` (shared between channels, and ``JES`` between both types; symmetric, asymmetric, and
one-sided in either sense: both variations of ``W_scale`` go up, the lower one of ``recoil`` is the
nominal), ``shapefactor``, ``shapesys`` (with an empty bin) and ``staterror`` (shared by the
backgrounds and the signal of ``SR_high``, with an empty bin of one of them).

The signal falls with ``m1`` and with a shrinking mass splitting, and CLs goes from clearly
excluded to no sensitivity. One patch, ``synthetic_900_890``, removes a channel and adds no signal,
as one of the patches that were published for the ATLAS search for bottom squarks (RegionB) does.
The parameter of interest is then missing, and pyhf must refuse the model.

Three signals have a nuisance parameter of their own, ``signal_ISR``, both of whose variations take
events away. The data have less than background and signal together, so that twice the negative
log-likelihood of the fits with the signal has a minimum on either side of 0: the one that a descent
from there ends in, and a lower one. They differ in the fits to the observed and to the Asimov data
(``synthetic_250_0``, excluded at both, and ``synthetic_250_50``, excluded at the first and not at
the lower one), or in the fit to the Asimov data alone (``synthetic_300_50``).

The models are small and the pulls moderate, so that all 42 fits take about ten seconds on two
cores, and minimizers agree as well as they define their own convergence.

The numbers are reproducible: they come from uniform variates and elementary functions, and have
five significant digits, which hides the last digits of a platform's libm. The seed was chosen among
those that give the last bin of ``SR_high`` no event and no channel a large fluctuation.

The schema of patch sets demands a HEPData record and allows no other reference. There is none for
this pallet, so it has the number zero, which no record has, and says so in its metadata.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from pathlib import Path

import numpy as np

SEED = 20212422
FOLDER = Path(__file__).parent.parent / "src" / "pytest_pyhf_faas" / "data" / "synthetic"
LINE_LENGTH = 100

#: Expected background events in each bin. The position of a channel is what the patches refer to.
YIELDS = {
    "synthetic_CR_top": {
        "ttbar": [120.0, 70.0, 35.0],
        "Wjets": [14.0, 9.0, 6.0],
        "diboson": [5.0, 3.0, 2.0],
    },
    "synthetic_VR_top": {
        "ttbar": [24.0],
        "Wjets": [8.0],
        "diboson": [2.5],
    },
    "synthetic_CR_W": {
        "ttbar": [16.0, 8.0],
        "Wjets": [90.0, 50.0],
        "diboson": [7.0, 4.0],
    },
    "synthetic_CR_fake": {
        "ttbar": [6.0, 4.0, 3.0],
        "Wjets": [4.0, 3.0, 2.0],
        "fakes": [80.0, 50.0, 30.0],
    },
    "synthetic_SR_low": {
        "ttbar": [14.0, 8.0, 4.0],
        "Wjets": [9.0, 5.0, 3.0],
        "diboson": [2.0, 1.4, 0.8],
        "fakes": [6.0, 4.0, 0.0],
    },
    "synthetic_SR_high": {
        "ttbar": [11.0, 3.5, 0.0],
        "Wjets": [8.0, 3.5, 0.5],
        "diboson": [3.0, 1.6, 0.3],
    },
}
CHANNELS = list(YIELDS)
#: A simulated event is worth this many expected ones.
WEIGHTS = {"ttbar": 0.2, "Wjets": 0.3, "diboson": 0.05}

K_DIBOSON = 1.15
GRID = [(m1, m2) for m1 in range(100, 1000, 100) for m2 in range(0, min(m1, 600), 100)]
NO_SIGNAL = (900, 890)
#: Relative shifts by ``signal_ISR`` in the bins of a channel, down and up, at the masses that have
#: it. Down takes much away from one channel, and is where descents from 0 go; up takes away from
#: both, which fits better farther on.
TWO_MINIMA = {
    (250, 0): {"synthetic_SR_low": (-0.75, -0.3), "synthetic_SR_high": (-0.1, -0.25)},
    (250, 50): {"synthetic_SR_low": (-0.8, -0.35), "synthetic_SR_high": (-0.05, -0.45)},
    (300, 50): {"synthetic_SR_low": (0.0, -0.35), "synthetic_SR_high": (-0.8, -0.35)},
}


def rounded(values):
    """Five significant digits, and nothing where next to nothing is expected."""
    return [float(f"{value:.5g}") if value >= 1e-4 else 0.0 for value in values]


def poisson(uniform, mean):
    """Invert the Poisson distribution: numpy's own variates may change between its versions."""
    count, probability = 0, math.exp(-mean)
    cumulative = probability
    while cumulative < uniform:
        count += 1
        probability *= mean / count
        cumulative += probability
    return count


def normsys(name, lo, hi):
    return {"name": name, "type": "normsys", "data": {"lo": lo, "hi": hi}}


def histosys(name, nominal, lo, hi):
    """Vary a shape by relative shifts ``lo`` and ``hi`` of its bins."""
    lo_data, hi_data = (
        rounded(value * (1 + shift) for value, shift in zip(nominal, shifts, strict=True))
        for shifts in (lo, hi)
    )
    return {"name": name, "type": "histosys", "data": {"lo_data": lo_data, "hi_data": hi_data}}


def factor(kind, name):
    return {"name": name, "type": kind, "data": None}


def staterror(channel, nominal, weight):
    uncertainty = rounded(math.sqrt(value * weight) for value in nominal)
    return {"name": f"staterror_{channel}", "type": "staterror", "data": uncertainty}


def tilt(n_bins, size):
    """Relative shifts that grow from ``-size`` in the first bin to ``size`` in the last."""
    return [size * (2 * (i + 0.5) / n_bins - 1) for i in range(n_bins)]


def background_modifiers(channel, sample, nominal):
    n_bins = len(nominal)
    if sample == "fakes":
        modifiers = [factor("shapefactor", "fake_shape")]
        if channel == "synthetic_SR_low":
            # An uncertainty of its own for each bin; the empty one has none.
            uncertainty = rounded(0.2 * value for value in nominal)
            modifiers.append({"name": "fake_closure", "type": "shapesys", "data": uncertainty})
        return modifiers

    modifiers = [normsys("JES", 0.96, 1.05)]
    if sample == "ttbar":
        modifiers.append(factor("normfactor", "mu_top"))
        # Larger where it extrapolates from the control region; asymmetric.
        if channel != "synthetic_CR_top":
            modifiers.append(normsys("top_generator", 0.93, 1.12))
        if channel == "synthetic_VR_top":
            # Goes with the channel when a patch removes it.
            modifiers.append(normsys("VR_extrapolation", 0.92, 1.08))
        modifiers.append(
            histosys("JES", nominal, lo=tilt(n_bins, -0.03), hi=tilt(n_bins, 0.05)),
        )
    elif sample == "Wjets":
        modifiers.append(factor("normfactor", "mu_W"))
        # Both variations on the same side.
        if channel != "synthetic_CR_W":
            modifiers.append(normsys("W_scale", 1.02, 1.1))
        # One variation is the nominal.
        modifiers.append(
            histosys("recoil", nominal, lo=[0.0] * n_bins, hi=tilt(n_bins, 0.08)),
        )
    elif sample == "diboson":
        modifiers += [
            factor("lumi", "lumi"),
            factor("normfactor", "k_diboson"),
            normsys("diboson_xsec", 1 / 1.06, 1.06),
        ]
    # The other channels have simulated events enough.
    if channel == "synthetic_SR_high":
        modifiers.append(staterror(channel, nominal, WEIGHTS[sample]))
    return modifiers


def make_background(rng):
    channels, observations = [], []
    for channel, yields in YIELDS.items():
        samples = []
        for sample, means in yields.items():
            # The simulation does not know the expectation better than by 2 %.
            nominal = rounded(
                mean * (1 + 0.04 * (uniform - 0.5))
                for mean, uniform in zip(means, rng.random(len(means)), strict=True)
            )
            modifiers = background_modifiers(channel, sample, nominal)
            for modifier in modifiers:
                if modifier["type"] == "normsys":
                    data = modifier["data"]
                    data["lo"], data["hi"] = rounded([data["lo"], data["hi"]])
            samples.append({"name": sample, "data": nominal, "modifiers": modifiers})
        channels.append({"name": channel, "samples": samples})
        # What the model expects, since ``k_diboson`` is not one.
        scaled = [
            [K_DIBOSON * mean for mean in means] if sample == "diboson" else means
            for sample, means in yields.items()
        ]
        totals = [sum(bins) for bins in zip(*scaled, strict=True)]
        data = [
            float(poisson(uniform, total))
            for uniform, total in zip(rng.random(len(totals)), totals, strict=True)
        ]
        observations.append({"name": channel, "data": data})

    parameters = [
        {
            "name": "lumi",
            "auxdata": [1.0],
            "sigmas": [0.04],
            "bounds": [[0.8, 1.2]],
            "inits": [1.0],
        },
        {"name": "mu_SIG", "inits": [1.0], "bounds": [[0.0, 10.0]]},
        {"name": "mu_top", "inits": [1.0], "bounds": [[0.0, 5.0]]},
        {"name": "mu_W", "inits": [1.0], "bounds": [[0.0, 5.0]]},
        {"name": "k_diboson", "inits": [K_DIBOSON], "bounds": [[0.0, 5.0]], "fixed": True},
    ]
    measurement = {
        "name": "synthetic_measurement",
        "config": {"poi": "mu_SIG", "parameters": parameters},
    }
    return {
        "channels": channels,
        "observations": observations,
        "measurements": [measurement],
        "version": "1.0.0",
    }


def signal_yields(m1, m2):
    """Expected signal events in each bin of the channels that the signal reaches."""
    splitting = m1 - m2
    produced = 300.0 * 10 ** (-(m1 - 100) / 280)
    selected = produced * (1 - math.exp(-((splitting / 350) ** 1.3)))
    hard = splitting**2 / (splitting**2 + 250.0**2)

    def spread(total, n_bins, peak, width):
        heights = [math.exp(-0.5 * ((i - peak) / width) ** 2) for i in range(n_bins)]
        return [total * height / sum(heights) for height in heights]

    yields = {
        "synthetic_SR_low": spread(selected * (1 - hard), 3, splitting / 200, 1.2),
        "synthetic_SR_high": spread(selected * hard, 3, splitting / 450, 0.7),
    }
    # Light and compressed signals also reach a control region.
    contamination = 0.02 * selected * (1 - hard)
    if contamination > 0.01:
        yields["synthetic_CR_top"] = spread(contamination, 3, 0.0, 1.2)
    return yields


def make_patch(rng, m1, m2):
    operations = []
    compressed = m1 - m2 <= 100
    if (m1, m2) != NO_SIGNAL:
        theory = 0.06 + 0.00012 * m1
        yields = signal_yields(m1, m2)
        total = sum(map(sum, yields.values()))
        for channel in sorted(yields, key=CHANNELS.index):
            nominal = rounded(
                mean * (1 + 0.04 * (uniform - 0.5))
                for mean, uniform in zip(
                    yields[channel], rng.random(len(yields[channel])), strict=True
                )
            )
            modifiers = [
                factor("normfactor", "mu_SIG"),
                factor("lumi", "lumi"),
                normsys("JES", 0.97, 1.02),
                normsys("signal_theory", *rounded([1 - theory, 1 + 1.2 * theory])),
            ]
            if channel == "synthetic_SR_high":
                modifiers.append(staterror(channel, nominal, total / 4000))
                shifts = tilt(len(nominal), 0.04)
                modifiers.append(
                    histosys("JES", nominal, lo=[-0.8 * shift for shift in shifts], hi=shifts)
                )
            if channel in TWO_MINIMA.get((m1, m2), {}):
                lo, hi = ([shift] * len(nominal) for shift in TWO_MINIMA[m1, m2][channel])
                modifiers.append(histosys("signal_ISR", nominal, lo=lo, hi=hi))
            index = CHANNELS.index(channel)
            position = 0 if channel == "synthetic_CR_top" else len(YIELDS[channel])
            sample = {"name": f"synthetic_{m1}_{m2}", "data": nominal, "modifiers": modifiers}
            operations.append(
                {"op": "add", "path": f"/channels/{index}/samples/{position}", "value": sample}
            )
    if compressed:
        index = CHANNELS.index("synthetic_VR_top")
        operations.append({"op": "remove", "path": f"/channels/{index}"})
    return {
        "metadata": {"name": f"synthetic_{m1}_{m2}", "values": [m1, m2]},
        "patch": operations,
    }


def make_patchset(rng, background):
    # As pyhf.utils.digest does.
    text = json.dumps(background, sort_keys=True, ensure_ascii=False)
    return {
        "metadata": {
            "description": (
                "Synthetic signal patchset of pytest-pyhf-faas: an imagined search, nothing in it"
                " was measured"
            ),
            "digests": {"sha256": hashlib.sha256(text.encode()).hexdigest()},
            "labels": ["m1", "m2"],
            "references": {"hepdata": "ins0000000"},
            "synthetic": True,
            "note": (
                "There is no HEPData record: the schema of patch sets demands one, and the number"
                " zero stands for none. Written by scripts/make_synthetic_pallet.py."
            ),
        },
        "patches": [make_patch(rng, m1, m2) for m1, m2 in [*GRID, NO_SIGNAL, *TWO_MINIMA]],
        "version": "1.0.0",
    }


def layout(value, indent=0):
    """JSON with a line for whatever fits into one."""
    text = json.dumps(value)
    if len(text) + indent <= LINE_LENGTH or not isinstance(value, (dict, list)):
        return text
    pad = "\n" + " " * (indent + 1)
    if isinstance(value, dict):
        items = [f"{json.dumps(key)}: {layout(item, indent + 1)}" for key, item in value.items()]
        return "{" + pad + ("," + pad).join(items) + "\n" + " " * indent + "}"
    items = [layout(item, indent + 1) for item in value]
    return "[" + pad + ("," + pad).join(items) + "\n" + " " * indent + "]"


def make_files():
    rng = np.random.default_rng(SEED)
    background = make_background(rng)
    patchset = make_patchset(rng, background)
    return {
        "BkgOnly.json": layout(background) + "\n",
        "patchset.json": layout(patchset) + "\n",
    }


def main():
    parser = argparse.ArgumentParser(description="Write the synthetic pallet.")
    parser.add_argument(
        "--check", action="store_true", help="only compare with the files that are there"
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help="instead of the package's own")
    arguments = parser.parse_args()

    stale = []
    for name, text in make_files().items():
        path = arguments.folder / name
        if not arguments.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
        elif not path.is_file() or path.read_bytes() != text.encode():
            stale.append(str(path))
    if stale:
        sys.exit(
            f"not what this script writes: {', '.join(stale)};"
            " run it without --check to write them anew"
        )


if __name__ == "__main__":
    main()
