"""Whatever is wrong, one message says what and what to do, without a traceback."""

from __future__ import annotations

import json
from importlib import metadata

import pytest

from tests.helpers.fakes import canned

XDIST = pytest.mark.parametrize("xdist", [[], ["-n2"]], ids=["alone", "n2"])


@pytest.fixture(params=["0.6.3", None])
def old_pyhf(request, monkeypatch):
    """A client whose pyhf is too old, or that has none."""
    version_of = metadata.version

    def version(name):
        if name != "pyhf":
            return version_of(name)
        if request.param is None:
            raise metadata.PackageNotFoundError(name)
        return request.param

    monkeypatch.setattr(metadata, "version", version)
    return "there is no pyhf" if request.param is None else "pyhf 0.6.3 is too old"


@pytest.mark.parametrize(
    "arguments", [[], ["--funcx-endpoint", "local:1"], ["-k", "test_endpoint"]]
)
def test_old_pyhf_in_the_client_is_a_usage_error(project, old_pyhf, arguments):
    result = project.run(*arguments, pallet=None)
    project.assert_told(result, old_pyhf, "python -m pip install --upgrade 'pyhf>=0.7'", code=4)
    assert project.starts() == []


def test_old_pyhf_is_of_no_concern_to_tests_without_fits(project, old_pyhf):
    del old_pyhf
    project.own_test("def test_cls():\n    pass")
    project.run(suite=False, pallet=None).assert_outcomes(passed=1)


# --- options ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--funcx-endpoint", "local:0"], ["'local:0'", "from 1 to"]),
        (["--funcx-endpoint", "local:x"], ["'local:x'", "from 1 to"]),
        (["--funcx-endpoint", "local:-1"], ["'local:-1'"]),
        (["--funcx-endpoint", "local:"], ["'local:'"]),
        (["--funcx-endpoint", "local:99999"], ["'local:99999'"]),
        (["--funcx-endpoint", "foo"], ["'foo' is not known", "use local, local:N"]),
        (["--faas-endpoint", ""], ["endpoint ''"]),
        (
            ["--faas-endpoint-config", '{"user_endpoint_config": 1}'],
            ["--faas-endpoint-config must be an object"],
        ),
        (["--faas-endpoint-config", "..."], ["put the JSON back in its place"]),
        (["--faas-endpoint-config", "x.json"], ["neither JSON nor a file", "x.json"]),
        (["--funcx-endpoint", "parsl:x.py"], ["parsl:x.py"]),
        (["--faas-trials", "0"], ["--faas-trials is '0'", "a whole number, 1 or more"]),
        (["--faas-trials", "1.5"], ["--faas-trials is '1.5'"]),
        (["--faas-timeout", "soon"], ["--faas-timeout is 'soon'", "a number, 0 or more"]),
        (["--faas-timeout", "-1"], ["--faas-timeout is '-1'"]),
        (["--faas-timeout", "nan"], ["--faas-timeout is 'nan'"]),
        (["--faas-timeout", "inf"], ["--faas-timeout is 'inf'"]),
        (["--faas-retries", "-1"], ["--faas-retries is '-1'"]),
        (["--faas-rtol", "small"], ["--faas-rtol is 'small'"]),
        (["--faas-atol", "-1e-3"], ["--faas-atol"]),
        (["--faas-backend", "nympy"], ["backend is 'nympy'", "do you mean numpy?"]),
        (["--faas-backend", "JAX"], ["backend is 'JAX'", "do you mean jax?"]),
        (["--faas-backend", "jax[cpu]"], ["backend is 'jax[cpu]'", "a name, such as numpy"]),
        (["--faas-optimizer", "iminuit"], ["optimizer is 'iminuit'", "do you mean minuit?"]),
        (["--faas-method", "guess"], ["--faas-method", "'guess'", "hypotest", "certified"]),
        (["--faas-nll-tolerance", "much"], ["--faas-nll-tolerance is 'much'"]),
        (["--faas-nll-tolerance", "-1"], ["--faas-nll-tolerance is '-1'"]),
        (["--faas-update", "everything"], ["--faas-update", "everything"]),
        (["-o", "faas_endpoints=farm"], ["faas_endpoints has the line 'farm'", "`name = spec`"]),
        (["-o", "faas_trials=many"], ["'many'"]),
        (["-o", "faas_method=guess"], ["--faas-method is 'guess'", "hypotest, certified"]),
    ],
    ids=lambda value: "=".join(value) if isinstance(value, list) else "",
)
def test_nonsense_option(project, arguments, words):
    project.pallet(1)
    result = project.run(*arguments)
    project.assert_told(result, *words, code=4)
    assert project.starts() == []


def test_nonsense_option_under_xdist(project):
    project.pallet(1)
    result = project.run("-n2", "--faas-trials", "0")
    project.assert_told(result, "--faas-trials is '0'", code=4)


@pytest.mark.parametrize("word", ["tiny", "tiny/patchset.json", "synthetic"])
def test_a_pallet_without_its_option_does_not_validate_another(project, word):
    project.pallet(1)
    result = project.run(word, pallet=None)
    told = f"there are no tests in {word}: if it is a pallet, write --faas-pallet={word}"
    project.assert_told(result, told, code=4)
    assert project.fits() == []


def test_tests_next_to_the_suite_are_run(project):
    (project.path / "more").mkdir()
    (project.path / "more" / "test_more.py").write_text("def test_more():\n    pass\n")
    words = ("more", "more/test_more.py::test_more", "-k", "test_more")
    project.run(*words, pallet=None).assert_outcomes(passed=1)


# --- pallets ------------------------------------------------------------------------------------


def damaged(project, name, change):
    """Change the text of a file of the pallet."""
    project.pallet(2)
    file = project.path / "tiny" / name
    file.write_text(change(file.read_text()))


def renamed(project, **names):
    project.pallet(2)
    for old, new in names.items():
        (project.path / "tiny" / f"{old}.json").rename(project.path / "tiny" / f"{new}.json")


def test_unknown_pallet_names_the_nearest(project):
    project.own_test()
    result = project.run(suite=False, pallet="synthetc")
    project.assert_told(result, "no pallet 'synthetc'", "did you mean: synthetic", code=4)


@pytest.mark.parametrize("name", ["", " ", "no/such/directory", "x" * 5000, "a\nb"])
def test_senseless_name_of_a_pallet(project, name):
    project.own_test()
    result = project.run(f"--faas-pallet={name}", suite=False, pallet=None)
    project.assert_told(result, code=4)
    assert len(project.text(result)) < 20_000


@XDIST
def test_unknown_pallet_is_reported_once(project, xdist):
    project.own_test(
        """\
def test_one(hypotest_result):
    pass

def test_two(pallet):
    pass
"""
    )
    result = project.run(*xdist, suite=False, pallet="no_such_pallet")
    shown = project.text(result)
    assert result.ret != 0
    assert "no pallet 'no_such_pallet'" in shown
    project.assert_no_internals(result)
    if not xdist:
        assert result.ret == 4
        assert shown.count("no pallet 'no_such_pallet'") == 1


def test_digest_mismatch(project):
    damaged(project, "BkgOnly.json", lambda text: text.replace("50.0", "51.0"))
    result = project.run()
    project.assert_told(
        result,
        "sha256 digest of the background-only workspace is not the published one",
        "if the workspace is your own and you edited it, put the digest that was found",
        "fetch both from the same archive",
        code=4,
    )


@pytest.mark.parametrize("name", ["BkgOnly.json", "patchset.json"])
def test_truncated_file(project, name):
    damaged(project, name, lambda text: text[:-10])
    result = project.run()
    project.assert_told(result, name, "the file looks truncated: fetch it again", code=4)


@pytest.mark.parametrize("content", ["{}", "[]", "null", '"text"', '{"channels": 3}'])
def test_no_workspace(project, content):
    damaged(project, "BkgOnly.json", lambda _text: content)
    result = project.run()
    project.assert_told(result, "BkgOnly.json: not a HistFactory workspace", code=4)


def test_binary_file(project):
    project.pallet(1)
    (project.path / "tiny" / "BkgOnly.json").write_bytes(b"\x80\x81\x82")
    project.assert_told(project.run(), "BkgOnly.json: not valid UTF-8", code=4)


def test_empty_directory(project):
    (project.path / "empty").mkdir()
    project.assert_told(project.run(pallet="empty"), "holds no pallet", "BkgOnly.json", code=4)


def test_file_that_is_no_archive(project):
    (project.path / "pallet.tar.gz").write_text("<html>404</html>")
    result = project.run(pallet="pallet.tar.gz")
    project.assert_told(result, "it looks like a web page: download the archive itself", code=4)


@pytest.mark.parametrize("gone", ["BkgOnly", "patchset"])
def test_half_a_pallet(project, gone):
    project.pallet(2)
    (project.path / "tiny" / f"{gone}.json").rename(project.path / "tiny" / "notes.txt")
    project.assert_told(project.run(), f"add {gone}.json", "tiny", code=4)


def test_two_backgrounds_in_one_directory(project):
    project.pallet(1)
    text = (project.path / "tiny" / "BkgOnly.json").read_text()
    (project.path / "tiny" / "background.json").write_text(text)
    project.assert_told(project.run(), "several files for one pallet", "keep one of them", code=4)


def test_two_pallets_in_one_directory_are_both_done(project):
    renamed(project, BkgOnly="RegionA_BkgOnly", patchset="RegionA_patchset")
    project.pallet(1, references=False)
    renamed(project, BkgOnly="RegionB_BkgOnly", patchset="RegionB_patchset")
    result = project.run("--collect-only", "-q")
    ids = {line.partition("::")[2] for line in result.outlines if "test_walltime" in line}
    assert ids == {"test_walltime[tiny_RegionA]", "test_walltime[tiny_RegionB]"}


@pytest.mark.parametrize("want", ["no_such_patch", "1,2", "100", "100,0,0", ",", ""])
def test_patch_that_is_not_there(project, want):
    project.pallet(2)
    result = project.run(f"--faas-patch={want}")
    if want:
        project.assert_told(
            result,
            f"no patch of the pallet tiny matches {want!r}",
            "sig_100_0 (100,0), sig_100_50 (100,50)",
            code=4,
        )
    else:
        project.assert_no_internals(result)


def test_misspelt_patch_names_the_nearest(project):
    project.pallet(2)
    project.assert_told(
        project.run("--faas-patch=sig_100_5"), "did you mean: sig_100_50, sig_100_0", code=4
    )


def test_a_patch_must_be_in_one_of_the_pallets(project):
    project.pallet(2)
    project.pallet(4, name="wide")
    project.own_test()
    words = ("--faas-pallet=tiny", "--faas-pallet=wide")
    result = project.run(*words, "--faas-patch=200,0", suite=False, pallet=None)
    result.assert_outcomes(passed=1)
    assert project.fits() == ["sig_200_0"]
    project.assert_told(
        project.run(*words, "--faas-patch=200,0", "--faas-patch=7,7", suite=False, pallet=None),
        "no patch of any of the pallets tiny, wide matches '7,7'",
        "values of m1,m2; the first of 6 patches: sig_100_0 (100,0)",
        code=4,
    )


@pytest.mark.parametrize("value", ["-1,2", "-1e-3"])
def test_a_value_that_looks_like_an_option_needs_an_equals_sign(project, value):
    project.pallet(1)
    told = f"--faas-patch and {value} are two words, and the second looks like an option"
    project.assert_told(project.run("--faas-patch", value), told, f"--faas-patch={value}", code=4)


def test_a_pallet_has_the_name_of_the_directory_that_it_really_is(project, monkeypatch):
    project.pallet(1)
    (project.path / "tiny" / "below").mkdir()
    monkeypatch.chdir(project.path / "tiny" / "below")
    result = project.run("--collect-only", "-q", "--faas-pallet=..", pallet=None)
    assert any("test_walltime[tiny]" in line for line in result.outlines)


# --- markers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        ("hypotest(test_pio=2.0)", ["hypotest does not take the keyword 'test_pio'", "test_poi"]),
        ("hypotest(2.0)", ["hypotest does not take positional arguments"]),
        ("hypotest(test_poi='two')", ["test_poi is 'two': it must be a number"]),
        ("hypotest(test_stat='t')", ["test_stat is 't'", "q, qtilde, q0"]),
        ("hypotest(backend='nympy')", ["backend is 'nympy'"]),
        ("hypotest(rtol='small')", ["'small'", "a number, 0 or more"]),
        ("hypotest(nll_tolerance=-1)", ["'-1'", "a number, 0 or more"]),
        ("hypotest(method='guess')", ["method is 'guess'", "hypotest, certified"]),
        (
            "pallet('tiny', patches='x')",
            ["pallet does not take the keyword 'patches'", "patch=..."],
        ),
        ("pallet(3)", ["the marker pallet takes strings and paths"]),
        ("pallet('tiny', patch=3)", ["the marker pallet takes strings and paths"]),
        ("pallet('no_such_pallet')", ["there is no pallet 'no_such_pallet'"]),
        ("pallet('tiny', patch='nothing')", ["no patch of the pallet tiny matches 'nothing'"]),
    ],
)
def test_wrong_marker(project, marker, words):
    project.pallet(1)
    project.own_test(
        f"""\
import pytest

@pytest.mark.{marker}
def test_cls(hypotest_result):
    pass
"""
    )
    result = project.run(suite=False)
    project.assert_told(result, *words, code=4)
    assert project.text(result).count(words[0]) == 1
    assert project.fits() == []


def test_wrong_marker_under_xdist(project):
    project.pallet(1)
    project.own_test(
        "import pytest\n\n@pytest.mark.hypotest(test_pio=2.0)\ndef test_cls(hypotest_result):\n"
        "    pass\n"
    )
    result = project.run("-n2", suite=False)
    assert result.ret != 0
    assert "hypotest does not take the keyword 'test_pio'" in project.text(result)
    assert "1 passed" not in project.text(result)
    project.assert_no_internals(result)


# --- references ---------------------------------------------------------------------------------

DAMAGE = {
    "truncated": (lambda data: json.dumps(data)[:-20], "it is not valid JSON"),
    "empty": (lambda _data: "", "it is not valid JSON"),
    "a list": (lambda _data: "[]", "at the top level"),
    "of another kind": (lambda _data: '{"patches": {}}', "required"),
    "newer": (lambda data: json.dumps({**data, "schema_version": 99}), "schema version 99"),
    "without provenance": (
        lambda data: json.dumps({**data, "provenance": data["provenance"] * 0}),
        "provenance",
    ),
    "with a lost provenance": (
        lambda data: json.dumps(data).replace('"provenance": 0', '"provenance": 7'),
        "provenance that the file does not list",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_reference_file(project, damage):
    project.pallet(1)
    change, reason = DAMAGE[damage]
    project.reference_file().write_text(change(project.reference()))
    result = project.run()
    remedy = "Upgrade pytest-pyhf-faas" if damage == "newer" else "Restore it"
    told = f"the reference file {project.reference_file()} cannot be used"
    project.assert_told(result, told, reason, remedy, code=4)
    assert project.fits() == []


def test_reference_file_of_bytes(project):
    project.pallet(1)
    project.reference_file().write_bytes(b"\x80\x81")
    project.assert_told(project.run(), "it is not UTF-8 text", "Restore it", code=4)


def test_damaged_reference_file_under_xdist(project):
    project.pallet(2)
    project.own_test()
    project.reference_file().write_text("{")
    result = project.run("-n2", suite=False)
    assert result.ret != 0
    assert "it is not valid JSON" in project.text(result)
    assert result.parseoutcomes().get("passed", 0) == 0
    project.assert_no_internals(result)


def test_damaged_reference_file_can_be_made_again(project):
    """What the message promises."""
    project.pallet(1)
    project.own_test()
    project.reference_file().write_text("{")
    result = project.run(suite=False)
    remedy = "remove it and make it again with --faas-update=new"
    project.assert_told(result, remedy, code=4)
    project.reference_file().unlink()
    project.run("--faas-update=new", suite=False).assert_outcomes(skipped=1)
    project.run(suite=False).assert_outcomes(passed=1)


def test_reference_directory_that_is_not_there(project):
    project.pallet(1)
    result = project.run("--faas-reference-dir", "nowhere")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines([f"*there is no tiny.json in {project.path}/nowhere"])
    assert not (project.path / "nowhere").exists()


# --- disks --------------------------------------------------------------------------------------


def test_full_disk_is_reported_and_stops_nothing(project):
    project.pallet(3)
    project.plan(journal_full=True)
    result = project.run()
    result.assert_outcomes(passed=4)
    project.assert_told(
        result,
        "cannot be written (No space left on device): this run's results are complete",
        "Free some space, or choose another directory with -o cache_dir=DIR",
        code=0,
    )


@XDIST
def test_where_pytest_has_no_cache_the_journal_lies_in_the_users(project, xdist):
    """As in a checkout that is mounted read-only."""
    project.pallet(1)
    project.own_test()
    (project.path / "file").write_text("not a directory")
    result = project.run("-o", "cache_dir=file/cache", *xdist, suite=False, subprocess=True)
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] == 1
    project.assert_no_internals(result)
    assert list(project.path.glob(".cache/pytest-pyhf-faas/journal/*.jsonl"))


def test_without_a_cache_and_a_home_there_is_no_journal_and_the_run_says_so(project, monkeypatch):
    """As a user that passwd does not know, in a container, on a read-only checkout."""

    def no_home(*_words):
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr("platformdirs.user_cache_path", no_home)
    (project.path / "passing").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(project.path / "passing"))
    project.pallet(1)
    project.own_test()
    result = project.run("-p", "no:cacheprovider", suite=False)
    result.assert_outcomes(passed=1)
    told = "this run keeps no journal, so --faas-resume will not find it"
    project.assert_told(result, told, "Set HOME, or give -o cache_dir=DIR", code=0)
    assert len(list(project.path.glob("passing/pytest-pyhf-faas-*/*.jsonl"))) == 1


def test_a_temporary_directory_that_is_too_long_for_sockets_is_reported_once(project, monkeypatch):
    project.pallet(2)
    project.real_engines()
    directory = project.path / ("x" * 80)
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    result = project.run("--funcx-endpoint", "local:1", "-k", "test_cls")
    project.assert_told(result, "the local workers cannot start", "Set TMPDIR to a shorter", code=4)


# --- for real -----------------------------------------------------------------------------------


def test_patch_that_does_not_apply_is_an_error_of_its_item(project):
    project.pallet(2, references=False)
    project.real_engines()
    file = project.path / "tiny" / "patchset.json"
    file.write_text(file.read_text().replace("/channels/0/samples/1", "/channels/7/samples/1", 1))
    project.own_test("def test_cls(hypotest_result):\n    pass")
    result = project.run("--funcx-endpoint", "local:1", suite=False)
    result.assert_outcomes(passed=1, errors=1)
    project.assert_told(
        result,
        "tiny / sig_100_0: the fit broke",
        "ValueError: the patch does not apply to the background: operation 1 (add",
        "/channels/7/samples/1)",
        "what to do: correct the workspace or this patch",
        "rerun:",
        code=1,
    )


@pytest.mark.parametrize("option", ["backend", "optimizer"])
def test_what_the_pyhf_of_the_workers_does_not_have_is_reported_once(project, option):
    project.pallet(3)
    project.real_engines()
    project.own_test()
    words = ("--funcx-endpoint", "local:1", f"--faas-{option}", "abacus")
    result = project.run(*words, suite=False)
    result.assert_outcomes(errors=1, skipped=2)
    project.assert_told(
        result,
        f"pyhf.exceptions.Invalid{option.title()}",
        f"cause: pyhf {metadata.version('pyhf')} has no such {option}",
        f"what to do: choose one that it has with --faas-{option}: ",
        code=1,
    )
    assert str(canned("sig_100_0")["CLs_obs"]) not in project.text(result)


@pytest.mark.parametrize(
    "flag", ["--faas-pallet", "--faas-reference-dir", "--faas-endpoint-config", "--faas-report"]
)
def test_path_outside_that_stands_apart_from_its_option(project, tmp_path_factory, flag):
    outside = tmp_path_factory.mktemp("elsewhere")
    result = project.run(flag, str(outside), pallet=None)
    project.assert_told(result, f"write {flag}={outside}", code=4)


@pytest.mark.parametrize("config", ['"token": "hunter2"', '{"token": "hunter2"', '["hunter2"]'])
def test_json_with_a_typing_error_is_not_shown(project, config):
    project.pallet(1)
    result = project.run(f"--faas-endpoint-config={config}")
    project.assert_told(result, "--faas-endpoint-config", code=4)
    assert "hunter2" not in project.text(result)


def test_options_that_no_test_uses_lead_to_the_suite(project):
    result = project.run("--faas-trials=2", suite=False)
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(
        [
            "no test here uses --faas-pallet, --faas-trials: the validation suite is run by",
            "  pyhf-faas validate *options*",
        ]
    )
    plain = project.run(suite=False, pallet=None)
    assert plain.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    plain.stdout.no_fnmatch_line("*validation suite*")
    # Where tests were left out by choice, nothing is to be said.
    project.pallet(1)
    project.own_test()
    chosen = project.run("-k", "none_of_them", suite=False)
    assert chosen.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    chosen.stdout.no_fnmatch_line("*validation suite*")
