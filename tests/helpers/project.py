"""A project in which a user runs the plugin: pallets, references, and a fake engine or a real."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree as ET

import pyhf

from tests.helpers.fakes import FIT_S, PYTHON, VERSIONS, Plan, canned, wait_until
from tests.helpers.paths import REPOSITORY

#: The fits alone: what looks at the endpoint before them has tests of its own.
SUITE = ("--pyargs", "pytest_pyhf_faas.suite.test_analysis")
#: Hypothesis would be imported for a summary that says nothing.
QUICK = ("-p", "no:hypothesispytest")
INSTALL = f"""\
import sys

sys.path.insert(0, {str(REPOSITORY)!r})


def pytest_configure(config):
    from tests.helpers import fakes

    fakes.install(config)
"""
OWN_TEST = """\
def test_cls(hypotest_result, reference_result, assert_cls):
    assert_cls(hypotest_result, reference_result)
"""
#: A file of this package with a line number: what a user must never have to read.
OUR_FRAME = re.compile(r"pytest_pyhf_faas/(?!suite/test_)[\w/]+\.py:\d+")


def workspace():
    """A workspace of two bins."""
    uncertainty = {"name": "bkg_norm", "type": "normsys", "data": {"lo": 0.9, "hi": 1.1}}
    sample = {"name": "bkg", "data": [50.0, 52.0], "modifiers": [uncertainty]}
    return {
        "channels": [{"name": "SR", "samples": [sample]}],
        "observations": [{"name": "SR", "data": [51.0, 48.0]}],
        "measurements": [{"name": "meas", "config": {"poi": "mu_SIG", "parameters": []}}],
        "version": "1.0.0",
    }


def operations(name, m1, m2):
    """A signal that shrinks with m1; its sample carries the patch's name."""
    modifiers = [{"name": "mu_SIG", "type": "normfactor", "data": None}]
    data = [3000.0 / m1, 2000.0 / m1 + m2 / 100]
    value = {"name": f"signal_{name}", "data": data, "modifiers": modifiers}
    return [{"op": "add", "path": "/channels/0/samples/1", "value": value}]


def grid(count):
    """Return the first points of a grid: sig_100_0, sig_100_50, sig_200_0, ..."""
    points = [(100 * (1 + index // 2), 50 * (index % 2)) for index in range(count)]
    return {f"sig_{m1}_{m2}": (m1, m2) for m1, m2 in points}


class Project:
    """What a user has, and what happened there."""

    def __init__(self, pytester):
        self.pytester = pytester
        self.path = pytester.path
        self._subprocess = False
        self.plan()
        pytester.makeconftest(INSTALL)

    # What a user has

    def plan(self, **fields):
        """Say what the fake engine does from now on."""
        Plan(**fields).write(self.path)

    def real_engines(self):
        """Let fits be done by pyhf."""
        (self.path / "conftest.py").unlink()
        self._subprocess = True  # what is sent to workers must not be imported twice

    def pallet(self, count=4, name="tiny", *, references=True):
        """Write a pallet, and the references of what the fake engine answers."""
        background = workspace()
        points = grid(count)
        patchset = {
            "metadata": {
                "description": "a patchset for tests",
                "digests": {"sha256": pyhf.utils.digest(background)},
                "labels": ["m1", "m2"],
                "references": {"hepdata": "ins1234567"},
            },
            "patches": [
                {
                    "metadata": {"name": patch, "values": list(values)},
                    "patch": operations(patch, *values),
                }
                for patch, values in points.items()
            ],
            "version": "1.0.0",
        }
        directory = self.path / name
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "BkgOnly.json").write_text(json.dumps(background))
        (directory / "patchset.json").write_text(json.dumps(patchset))
        if references:
            self.references(name)
        return list(points)

    def same_content(self, patch, other, name="tiny"):
        """Give a patch the content of another, under its own name and values."""
        file = self.path / name / "patchset.json"
        patchset = json.loads(file.read_text())
        by_name = {each["metadata"]["name"]: each for each in patchset["patches"]}
        by_name[patch]["patch"] = by_name[other]["patch"]
        file.write_text(json.dumps(patchset))

    def references(self, name="tiny", **changes):
        """Write the reference file of a pallet; ``changes`` replace fields of the whole file."""
        patchset = json.loads((self.path / name / "patchset.json").read_text())
        data = {
            "schema_version": 3,
            "pallet": name,
            "background_sha256": patchset["metadata"]["digests"]["sha256"],
            "hypotest": {
                "test_poi": 1.0,
                "test_stat": "qtilde",
                "measurement": None,
                "normsys_interpcode": "code4",
                "histosys_interpcode": "code4p",
            },
            "provenance": [
                {
                    "method": "certified",
                    "date": "2026-01-01",
                    "backend": "jax",
                    "optimizer": "certified",
                    "versions": {**VERSIONS, "scipy": "1.15.3", "python": PYTHON},
                }
            ],
            "patches": {
                patch["metadata"]["name"]: self._reference(patch) for patch in patchset["patches"]
            },
            **changes,
        }
        self.write_reference(data, name)
        return data

    @staticmethod
    def _reference(patch):
        answer = canned(patch["metadata"]["name"])
        del answer["twice_nll_asimov_truth"], answer["twice_nll_nearby"]
        digest = pyhf.utils.digest(patch["patch"])[:16]
        values = patch["metadata"]["values"]
        return {"values": values, "digest": digest, "provenance": 0, "fit_s": FIT_S, **answer}

    def reference(self, name="tiny"):
        return json.loads(self.reference_file(name).read_text())

    def reference_file(self, name="tiny"):
        return self.path / "reference_results" / f"{name}.json"

    def write_reference(self, data, name="tiny"):
        self.reference_file(name).parent.mkdir(exist_ok=True)
        self.reference_file(name).write_text(json.dumps(data))

    def change_reference(self, patch, name="tiny", **fields):
        """Change fields of the reference of one patch; a field that becomes ``None`` goes."""
        data = self.reference(name)
        entry = {**data["patches"][patch], **fields}
        data["patches"][patch] = {key: value for key, value in entry.items() if value is not None}
        self.write_reference(data, name)

    def expect_error(self, patch, kind="pyhf.exceptions.InvalidModel"):
        """Make an exception the right answer of a patch."""
        values = ("CLs_obs", "CLs_exp", "mu_hat", "twice_nll", "twice_nll_off_minimum", "fit_s")
        self.change_reference(patch, error=kind, **dict.fromkeys(values))

    def forget_reference(self, patch):
        data = self.reference()
        del data["patches"][patch]
        self.write_reference(data)

    def own_test(self, source=OWN_TEST):
        self.pytester.makepyfile(test_own=source)

    # What a user does

    def run(self, *args, suite=True, pallet="tiny", subprocess=False):
        """Run the suite, or the tests in this directory, with the fits counted from zero."""
        for name in ("fits.log", "starts.log", "stopped.log"):
            (self.path / name).unlink(missing_ok=True)
        words = [*QUICK, *(SUITE if suite else ()), *args]
        if pallet:
            words += ["--faas-pallet", pallet]
        # The name of a journal tells runs apart by the process.
        if subprocess or self._subprocess or "-n2" in args:
            return self.pytester.runpytest_subprocess(*words, timeout=180)
        return self.pytester.runpytest_inprocess(*words)

    # What happened

    def fits(self):
        """Return the patches that were fitted, sorted, once for each fit."""
        return sorted(name for _, name, _ in self._fits())

    def fits_at(self, endpoint):
        return sorted(name for where, name, _ in self._fits() if where == endpoint)

    def how_fitted(self):
        """Return the configuration of each fit, with the time limit."""
        return [json.loads(how) for *_, how in self._fits()]

    def _fits(self):
        return [line.split(maxsplit=2) for line in self._lines("fits.log")]

    def starts(self):
        """Return the endpoints whose workers were started."""
        return self._lines("starts.log")

    def stopped(self):
        """Return the patches whose fits ended with the engine, when they have."""
        wait_until(lambda: self._lines("stopped.log"))
        return self._lines("stopped.log")

    def _lines(self, name):
        path = self.path / name
        return path.read_text().splitlines() if path.exists() else []

    def journaled(self):
        """Return the patches whose results the journals hold."""
        return sorted(
            event["result"]["patch"]
            for path in self.path.glob(".pytest_cache/d/pyhf-faas/*.jsonl")
            for event in map(json.loads, filter(None, path.read_text().splitlines()))
            if "result" in event
        )

    def outcomes(self):
        """Return passed, failed, error or skipped for each patch, as junit.xml has it."""
        return {
            name.removeprefix("test_cls[tiny-").removesuffix("]"): _outcome(case)
            for name, case in self.junit().items()
            if name.startswith("test_cls[")
        }

    def junit(self):
        """Return, for each test case of junit.xml, its element."""
        root = ET.parse(self.path / "junit.xml").getroot()
        return {case.get("name"): case for case in root.iter("testcase")}

    @staticmethod
    def text(result):
        return f"{result.stdout.str()}\n{result.stderr.str()}"

    def assert_told(self, result, *words, code):
        """Hold a run to have ended with a message that is meant for the user, and nothing else."""
        shown = self.text(result)
        assert result.ret == code, shown
        for word in words:
            assert word in shown, f"{word!r} is not in:\n{shown}"
        self.assert_no_internals(result)

    def assert_no_internals(self, result):
        shown = self.text(result)
        assert "Traceback" not in shown, shown
        assert "INTERNALERROR" not in shown, shown
        assert not OUR_FRAME.search(shown), shown


def _outcome(case):
    found = {child.tag for child in case} & {"failure", "error", "skipped"}
    kind = "+".join(sorted(found)) or "passed"
    return "failed" if kind == "failure" else kind
