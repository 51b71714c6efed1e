"""What the steps of action.yml do: read its inputs, then install, validate and compare.

The first of them run before anything is installed: what they need is in the standard library.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
USAGE, NOTHING_DONE = 2, 5

#: What is kept from job to job.
CACHE = Path.home() / ".cache" / "pyhf-faas-action"
PALLETS, WHEELS = CACHE / "pallets", CACHE / "wheels"
CACHES = {
    "PYTEST_PYHF_FAAS_CACHE": PALLETS,
    "PIP_CACHE_DIR": WHEELS / "pip",
    "UV_CACHE_DIR": WHEELS / "uv",
}

SYNTHETIC = "synthetic"
#: As `pyhf-faas gate` takes them: 0.7.0..0.7.6,main
SEVERAL_VERSIONS = re.compile(r"[\w.]+(?:(?:\.\.|,)[\w.]+)+")
SERIES = re.compile(r"\d+(?:\.\d+)?")
VERSION = re.compile(r"\d[\w.+!-]*")
REQUIREMENT = re.compile(r"pyhf\s*(?:[\[@;=<>!~].*)?")
LOCAL = re.compile(r"local(?::\d+)?")
#: What each command writes when it has validated something.
WRITTEN = {"validate": "report.json", "gate": "comparison.json"}


class InputError(Exception):
    """An input of the action that cannot be used."""


@dataclass(frozen=True)
class Plan:
    """What the inputs ask for."""

    requirements: list[str]
    #: The words after `pyhf-faas`.
    command: list[str]
    report: str
    compare_with: str
    #: The pallets that may have to be downloaded.
    downloads: list[str]
    #: What is asked for of pyhf, and of the environments of a gate.
    versions: list[str]

    @property
    def written(self) -> Path:
        """What is there when something was validated."""
        return Path(self.report) / WRITTEN[self.command[0]]

    @property
    def wheels(self) -> list[str]:
        """What decides which wheels are needed."""
        project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        return [platform.python_version(), project, *self.requirements, *self.versions]


def plan_of(inputs: dict[str, str]) -> Plan:
    """Return what the inputs ask for."""
    text = {name: value.strip() for name, value in inputs.items()}
    lines = {
        name: [line.strip() for line in value.splitlines() if line.strip()]
        for name, value in text.items()
    }
    if not lines["pallets"]:
        raise InputError(f"pallets is empty: name a pallet, or leave it out for {SYNTHETIC!r}")
    for name in ("report", "artifact"):
        if not text[name]:
            raise InputError(f"{name} is empty: name it, or leave the input out")
    report = Path(text["report"]).absolute()
    is_gate = bool(text["versions"] or SEVERAL_VERSIONS.fullmatch(text["pyhf"]))
    if is_gate:
        for name in ("compare-with", "endpoint"):
            if text[name]:
                raise InputError(
                    f"{name} is for one environment: several are fitted on the runner, and "
                    "compared with one another"
                )
    patches = [f"--faas-patch={patch}" for patch in lines["patches"]]
    pallets = [f"--faas-pallet={pallet}" for pallet in lines["pallets"]]
    how = [
        *(f"--faas-{name}={text[name]}" for name in ("method", "quantity") if text[name]),
        *words_of(text["options"]),
    ]
    if is_gate:
        # A file of versions may name pallets, too: those of the input go before, its default not.
        chosen = [] if lines["pallets"] == [SYNTHETIC] else pallets
        where = [*versions_of(text), f"--directory={report}"]
        command = ["gate", *where, *chosen, *patches, "--", *how]
    else:
        endpoints = [f"--faas-endpoint={endpoint}" for endpoint in lines["endpoint"]]
        command = ["validate", f"--faas-report={report}", *pallets, *patches, *endpoints, *how]
    return Plan(
        requirements=requirements_of(text, lines, is_gate=is_gate),
        command=command,
        report=str(report),
        compare_with=earlier_report(text["compare-with"], report),
        downloads=sorted(
            each for each in lines["pallets"] if each != SYNTHETIC and not Path(each).exists()
        ),
        versions=[text["pyhf"], text["versions"]],
    )


def words_of(options: str) -> list[str]:
    """Return the words of a text as a shell has them; nothing in them is expanded."""
    try:
        return shlex.split(options)
    except ValueError as error:
        raise InputError(f"options cannot be read: {error}. Quote them as in a shell") from error


def versions_of(text: dict[str, str]) -> list[str]:
    """Return the words that tell the gate which environments to make."""
    options = [f"--pyhf={text['pyhf']}"] if text["pyhf"] else []
    given = text["versions"]
    if not given:
        return options
    file = Path(given)
    if "=" in given:
        # Paths in it begin where those of the other inputs do.
        number, name = tempfile.mkstemp(prefix=".pyhf-faas-", suffix=".toml", dir=Path.cwd())
        os.close(number)
        file = Path(name)
        file.write_text(f"{given}\n", encoding="utf-8")
    elif not file.is_file():
        raise InputError(f"versions: there is no file {given}, and it is not the text of one")
    return [str(file.absolute()), *options]


def requirements_of(
    text: dict[str, str], lines: dict[str, list[str]], *, is_gate: bool
) -> list[str]:
    """Return what pip is to install."""
    extras = {"report"} if is_gate else {"report", "minuit"}
    for endpoint in lines["endpoint"]:
        if endpoint.startswith("parsl:"):
            extras.add("parsl")
        elif not LOCAL.fullmatch(endpoint):
            extras.add("globus-compute")
    for requirement in lines["requirements"]:
        if requirement.startswith("-"):
            raise InputError(
                f"requirements: {requirement!r} is an option of pip. Name packages, one a line; "
                "options can be set by variables of the job, as in PIP_INDEX_URL"
            )
    pyhf = [pyhf_requirement(text["pyhf"])] if text["pyhf"] and not is_gate else []
    makes_environments = ["uv"] if is_gate else []
    project = f"{ROOT}[{','.join(sorted(extras))}]"
    return [project, *pyhf, *makes_environments, *lines["requirements"]]


def pyhf_requirement(given: str) -> str:
    """Return what pip takes for a version, a path or a requirement of pyhf."""
    if SERIES.fullmatch(given):
        return f"pyhf=={given}.*"
    if VERSION.fullmatch(given):
        return f"pyhf=={given}"
    if Path(given).exists():
        return str(Path(given).absolute())
    if REQUIREMENT.fullmatch(given):
        return given
    raise InputError(
        f"pyhf: {given!r} is no version, no file or directory, and no requirement of pyhf, such as "
        "'pyhf @ git+https://github.com/scikit-hep/pyhf'"
    )


def earlier_report(given: str, report: Path) -> str:
    """Return the path of the report to compare with; empty where there is none."""
    if not given:
        return ""
    path = Path(given).absolute()
    file = path / "report.json" if path.is_dir() else path
    if not file.is_file():
        raise InputError(
            f"compare-with: there is no report in {given}. Download the artifact of an earlier run "
            "first, and name the directory that report.json is in"
        )
    if path == report:
        raise InputError(f"compare-with: the report of this run would replace {given}")
    return str(path)


# The steps


def plan() -> int:
    """Read the inputs, and say where the next steps find what they ask for."""
    try:
        made = plan_of(json.loads(os.environ["INPUTS"]))
    except InputError as error:
        say_error(str(error))
        return USAGE
    directory = Path(tempfile.mkdtemp(prefix="pyhf-faas-", dir=os.environ.get("RUNNER_TEMP")))
    file = directory / "plan.json"
    file.write_text(json.dumps(asdict(made)), encoding="utf-8")
    for cache in (PALLETS, WHEELS):
        cache.mkdir(parents=True, exist_ok=True)
    set_outputs(
        {
            "file": file,
            "pallets-path": PALLETS,
            "pallets-key": key_of("pallets", made.downloads) if made.downloads else "",
            "wheels-path": WHEELS,
            "wheels-key": key_of("wheels", made.wheels),
        }
    )
    return 0


def install() -> int:
    """Install what is asked for into this Python."""
    words = ["pip", "install", "--disable-pip-version-check", "--progress-bar=off", "--"]
    status = run_module([*words, *read_plan().requirements])
    if status:
        say_error(
            "pip could not install what is asked for; its own words are above. A Python that the "
            "system manages takes nothing: set python-version, or activate an environment"
        )
    return status


def validate() -> int:
    """Run the suite or the gate, and keep its exit status for the last step."""
    asked = read_plan()
    before = written_at(asked)
    status = run_module(["pytest_pyhf_faas", *asked.command])
    if written_at(asked) == before:
        status = status or NOTHING_DONE
        verdict = f"Nothing was validated (exit status {status}): the log says why."
        add_to_summary(f"## :warning: {verdict}\n")
        set_outputs({"status": status, "report": "", "verdict": verdict})
    else:
        verdict = verdict_of(asked)
        set_outputs({"status": status, "report": asked.report, "verdict": verdict})
    if status:
        say_error(verdict)
    return 0


def compare() -> int:
    """Compare the report with an earlier one, and keep the exit status for the last step."""
    asked = read_plan()
    status = run_module(["pytest_pyhf_faas", "report", asked.compare_with, asked.report])
    set_outputs({"status": status})
    if status:
        say_error("This run is not as good as the earlier one: the summary of the job says where.")
    return 0


STEPS = {each.__name__: each for each in (plan, install, validate, compare)}


def read_plan() -> Plan:
    """Return what an earlier step has found."""
    return Plan(**json.loads(Path(os.environ["PLAN"]).read_text(encoding="utf-8")))


def written_at(asked: Plan) -> int | None:
    """Return when the report was written, if there is one."""
    try:
        return asked.written.stat().st_mtime_ns
    except OSError:
        return None


def verdict_of(asked: Plan) -> str:
    """Return the answer of the report."""
    if asked.command[0] == "gate":
        return str(json.loads(asked.written.read_text(encoding="utf-8"))["answer"])
    from pytest_pyhf_faas.report import answer, document

    return answer.verdict(document.read(Path(asked.report)))


def run_module(words: list[str]) -> int:
    """Run a module with this Python, which gets the signals that this process gets."""
    # What it prints, as the name of a patch, is no command of GitHub's.
    token = secrets.token_hex(16)
    print(f"::stop-commands::{token}", flush=True)
    caches = {name: str(path) for name, path in CACHES.items()}
    child = subprocess.Popen([sys.executable, "-m", *words], env={**os.environ, **caches})
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: child.send_signal(number))
    status = child.wait()
    print(f"::{token}::", flush=True)
    return status if status >= 0 else 128 - status


def key_of(kind: str, parts: list[str]) -> str:
    """Return the key of a cache whose content these decide."""
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return f"pyhf-faas-{kind}-{platform.system()}-{platform.machine()}-{digest}"


def set_outputs(values: dict[str, object]) -> None:
    """Set outputs of this step."""
    with Path(os.environ["GITHUB_OUTPUT"]).open("a", encoding="utf-8") as file:
        file.writelines(
            f"{name}={' '.join(str(value).splitlines())}\n" for name, value in values.items()
        )


def add_to_summary(text: str) -> None:
    """Add to the summary of the job, where there is one."""
    if os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(os.environ["GITHUB_STEP_SUMMARY"]).open("a", encoding="utf-8") as file:
            file.write(text)


def say_error(text: str) -> None:
    """Say what went wrong, so that the page of the job shows it."""
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    print(f"::error title=pytest-pyhf-faas::{escaped}", flush=True)


if __name__ == "__main__":
    sys.exit(STEPS[sys.argv[1]]())
