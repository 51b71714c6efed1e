"""Run the steps of a composite action as they stand, as GitHub's runner does.

A step of `run` is run by bash; one of `uses` is recorded, with what it was given.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.helpers.paths import REPOSITORY

_TEMPLATE = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_TOKEN = re.compile(r"\s*('(?:[^']|'')*'|\|\||&&|[!=]=|[!()]|[\w.-]+)")
_STATUS = re.compile(r"\b(?:always|success|failure|cancelled)\(\)")


@dataclass
class Step:
    """What became of a step."""

    name: str
    uses: str = ""
    given: dict = field(default_factory=dict)  # what stands under `with` or `env`
    outcome: str = "skipped"
    outputs: dict = field(default_factory=dict)
    log: str = ""


@dataclass
class Job:
    """What became of a job whose only step is the action."""

    steps: list[Step]
    outputs: dict
    summary: str

    @property
    def failed(self):
        return any(step.outcome == "failure" for step in self.steps)

    @property
    def log(self):
        return "".join(step.log for step in self.steps)

    def __getitem__(self, name):
        return next(step for step in self.steps if step.name == name)

    def outcomes(self):
        return {step.name: step.outcome for step in self.steps}


class Runner:
    """A machine that runs an action again and again, with a home and a workspace."""

    timeout_s = 300

    def __init__(self, directory, workspace, env, action=REPOSITORY):
        self.action = Path(action)
        self.definition = yaml.safe_load((self.action / "action.yml").read_text())
        self.workspace, self.env = workspace, env
        self.files = directory
        self.has_all_cached = False
        self._cancel_when = None

    def run(self, *, cancel_when=None, **given):
        """Run the action; the names of inputs have ``_`` for ``-``.

        With ``cancel_when``, the job is cancelled as soon as this is true in a step of bash: its
        shell gets the signal, and nothing that it has started does.
        """
        self._cancel_when = cancel_when
        given = {name.replace("_", "-"): value for name, value in given.items()}
        declared = self.definition["inputs"]
        assert given.keys() <= declared.keys()
        inputs = {name: each.get("default", "") for name, each in declared.items()} | given
        (self.files / "summary.md").write_text("")
        steps, by_id = [], {}
        contexts = {
            "inputs": inputs,
            "github": {"action_path": str(self.action)},
            "steps": by_id,
        }
        for definition in self.definition["runs"]["steps"]:
            step = Step(definition["name"], definition.get("uses", "").partition("@")[0])
            expressions = Expressions(
                contexts,
                failed=any(each.outcome == "failure" for each in steps),
                cancelled=any(each.outcome == "cancelled" for each in steps),
            )
            if expressions.allows(definition.get("if", "")):
                self._run(step, definition, expressions)
            steps.append(step)
            if "id" in definition:
                by_id[definition["id"]] = {"outputs": step.outputs, "outcome": step.outcome}
        expressions = Expressions(contexts)
        outputs = {
            name: expressions.filled(each["value"])
            for name, each in self.definition["outputs"].items()
        }
        return Job(steps, outputs, (self.files / "summary.md").read_text())

    def _run(self, step, definition, expressions):
        given = definition.get("with" if step.uses else "env", {})
        step.given = {name: expressions.filled(value) for name, value in given.items()}
        step.outcome = "success"
        if step.uses:
            self._use(step)
        else:
            script = self.files / "script.sh"
            script.write_text(definition["run"])
            output = self.files / "output"
            output.write_text("")
            where = expressions.filled(definition.get("working-directory", "."))
            files = {"GITHUB_OUTPUT": output, "GITHUB_STEP_SUMMARY": self.files / "summary.md"}
            self._bash(step, script, self.workspace / where, files)
            step.outputs = dict(
                line.split("=", 1) for line in output.read_text().splitlines() if "=" in line
            )

    def _bash(self, step, script, where, files):
        with subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", script],
            cwd=where,
            env={
                "PATH": os.environ["PATH"],
                "GITHUB_ACTIONS": "true",
                "RUNNER_TEMP": str(self.files),
                **{name: str(path) for name, path in files.items()},
                **self.env,
                **step.given,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as shell:
            if self._cancelled(shell):
                step.outcome = "cancelled"
            step.log, _ = shell.communicate(timeout=self.timeout_s)
        if step.outcome != "cancelled":
            step.outcome = "failure" if shell.returncode else "success"

    def _cancelled(self, shell):
        while self._cancel_when and shell.poll() is None:
            if self._cancel_when():
                shell.send_signal(signal.SIGINT)
                self._cancel_when = None
                return True
            time.sleep(0.02)
        return False

    def _use(self, step):
        if step.uses == "actions/cache/restore":
            step.outputs = {"cache-hit": str(self.has_all_cached).lower()}


class Expressions:
    """The expressions of GitHub that the action has; any other is an error."""

    def __init__(self, contexts, *, failed=False, cancelled=False):
        self._contexts = contexts
        self._functions = {
            "always": lambda: True,
            "success": lambda: not failed and not cancelled,
            "failure": lambda: failed,
            "cancelled": lambda: cancelled,
            "toJSON": lambda value: json.dumps(value, indent=2),
        }

    def filled(self, text):
        """Return a text with its expressions replaced by their values."""
        return _TEMPLATE.sub(lambda found: str(self.value(found[1])), str(text))

    def allows(self, condition):
        """Whether a step with this ``if`` runs."""
        text = str(condition)
        value = self.value(text) if text else True
        return bool(value) and (bool(_STATUS.search(text)) or self._functions["success"]())

    def value(self, text):
        tokens = _TOKEN.findall(text)
        assert "".join(tokens) == "".join(_outside_strings(text)), text
        value = self._either(tokens)
        assert not tokens, f"not understood: {text}"
        return value

    def _either(self, tokens):
        value = self._both(tokens)
        while tokens[:1] == ["||"]:
            tokens.pop(0)
            other = self._both(tokens)
            value = value or other
        return value

    def _both(self, tokens):
        value = self._compared(tokens)
        while tokens[:1] == ["&&"]:
            tokens.pop(0)
            other = self._compared(tokens)
            value = value and other
        return value

    def _compared(self, tokens):
        value = self._one(tokens)
        if tokens[:1] in (["=="], ["!="]):
            equal = tokens.pop(0) == "=="
            other = self._one(tokens)
            value = (str(value).casefold() == str(other).casefold()) is equal
        return value

    def _one(self, tokens):
        token = tokens.pop(0)
        if token == "!":
            return not self._one(tokens)
        if token == "(":
            value = self._either(tokens)
            assert tokens.pop(0) == ")"
            return value
        if token.startswith("'"):
            return token[1:-1].replace("''", "'")
        if tokens[:1] == ["("]:
            tokens.pop(0)
            words = [] if tokens[0] == ")" else [self._either(tokens)]
            assert tokens.pop(0) == ")"
            return self._functions[token](*words)
        return self._context(token)

    def _context(self, path):
        first, *names = path.split(".")
        value = self._contexts[first]
        for place, name in enumerate(names):
            # What a step has not set is empty; a step, an input or a context must be there.
            last_of_step = first == "steps" and place == len(names) - 1
            value = value.get(name, "") if last_of_step else value[name]
        return value


def _outside_strings(text):
    """Return a text in pieces, without the spaces that are not in a string."""
    return [
        piece if piece.startswith("'") else re.sub(r"\s", "", piece)
        for piece in re.split(r"('(?:[^']|'')*')", text)
    ]


def fake_pip(directory, log):
    """Write a pip that installs nothing: it writes its words to a log.

    What tests need is installed already, and they do without a network.
    """
    _write_package(
        directory / "pip",
        "import os, pathlib, sys\n"
        f"pathlib.Path({str(log)!r}).write_text('\\n'.join(sys.argv[1:]))\n"
        "sys.exit(int(os.environ.get('PIP_STATUS', 0)))\n",
    )


def fake_gate(directory, answer, status):
    """Write a package whose gate makes no environments: it writes what came of them."""
    _write_package(
        directory / "pytest_pyhf_faas",
        "import json, pathlib, sys\n"
        "command, *words = sys.argv[1:]\n"
        "assert command == 'gate'\n"
        "(where,) = [word for word in words if word.startswith('--directory=')]\n"
        "where = pathlib.Path(where.partition('=')[2])\n"
        "where.mkdir()\n"
        f"(where / 'comparison.json').write_text(json.dumps({{'answer': {answer!r}}}))\n"
        f"sys.exit({status})\n",
    )


def _write_package(directory, main):
    """Write a package that is run with ``python -m``, and goes before one that is installed."""
    directory.mkdir(parents=True)
    (directory / "__init__.py").write_text("")
    (directory / "__main__.py").write_text(main)
