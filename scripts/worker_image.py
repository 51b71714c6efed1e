"""Images of the workers' environment, all from `endpoints/container/environment.toml`.

``python scripts/worker_image.py write`` writes the Dockerfile and the definition for Apptainer.
``sudo python scripts/worker_image.py directory IMAGE`` makes a directory image for Charliecloud
(`ch-run`), with debootstrap and pip and without a registry, on Debian or Ubuntu; it takes minutes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

CONTAINER = Path(__file__).resolve().parents[1] / "endpoints" / "container"
VENV = "/opt/worker"

DOCKERFILE = """\
# Workers that fit with pyhf; see docs/how-to/clusters.md. Made of environment.toml.
#
#   docker build --tag registry.example.org/pyhf-worker:{pyhf} .
#   docker build --build-arg PYHF=0.7.5 --tag registry.example.org/pyhf-worker:0.7.5 .

ARG PYTHON={python}
FROM python:${{PYTHON}}-slim

{arguments}

RUN pip install --no-cache-dir \\
{packages} \\
    && useradd --create-home --uid 1000 worker

{environment}

# A number, because Kubernetes cannot tell of a name whether it is root's.
USER 1000
WORKDIR /home/worker
"""

APPTAINER = """\
# Workers that fit with pyhf; see docs/how-to/clusters.md. Made of environment.toml.
#
#   apptainer build pyhf-worker.sif apptainer.def
#   apptainer build --build-arg PYHF=0.7.5 pyhf-worker.sif apptainer.def

Bootstrap: docker
From: python:{{{{ PYTHON }}}}-slim

%arguments
{arguments}

%post
    pip install --no-cache-dir \\
{packages}

%environment
{environment}

%runscript
    # The agent says what to run; Apptainer runs it as the user who called.
    exec "$@"
"""


def definition() -> dict:
    """Read the one definition."""
    return tomllib.loads((CONTAINER / "environment.toml").read_text(encoding="utf-8"))


def requirements(environment: dict, version: str = "{version}") -> list[str]:
    """Tell what pip installs, as ``name[extras]==version``.

    Parameters
    ----------
    environment
        The definition.
    version
        How a version is written: itself, or as a reference to the ``argument`` of a build.
    """
    found = []
    for name, extras in environment["packages"].items():
        values = {"version": environment["versions"][name], "argument": _argument(name)}
        bracketed = f"[{','.join(extras)}]" if extras else ""
        found.append(f"{name}{bracketed}=={version.format(**values)}")
    return found


def files(environment: dict) -> dict[str, str]:
    """Tell the text of each file that follows."""
    versions, variables = environment["versions"], environment["environment"]
    arguments = {_argument(name): value for name, value in versions.items()}

    def packages(version: str) -> str:
        return " \\\n".join(f'        "{it}"' for it in requirements(environment, version))

    docker = DOCKERFILE.format(
        **{name: versions[name] for name in ("pyhf", "python")},
        arguments="\n".join(f"ARG {n}={v}" for n, v in arguments.items() if n != "PYTHON"),
        packages=packages("${{{argument}}}"),
        environment="\n".join(f"ENV {name}={value}" for name, value in variables.items()),
    )
    apptainer = APPTAINER.format(
        arguments="\n".join(f"    {name}={value}" for name, value in arguments.items()),
        packages=packages("{{{{ {argument} }}}}"),
        environment="\n".join(f"    export {name}={value}" for name, value in variables.items()),
    )
    return {"Dockerfile": docker, "apptainer.def": apptainer}


def make_directory(environment: dict, image: Path, constraint: Path | None) -> None:
    """Make a directory image: a small Debian, an environment of pip's, what `ch-run` sets."""
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        sys.exit("a directory image is made by root, with debootstrap (Debian: debootstrap)")
    if image.exists():
        sys.exit(f"{image} is there already: remove it, or choose another place")
    packages = "--include=python3,python3-venv"
    _run("debootstrap", "--variant=minbase", packages, environment["debian"]["suite"], str(image))
    said = _run("chroot", str(image), "python3", "--version", stdout=subprocess.PIPE).split()[1]
    if not said.startswith(f"{environment['versions']['python']}."):
        sys.exit(
            f"Debian {environment['debian']['suite']} has Python {said}: change environment.toml"
        )
    _run("chroot", str(image), "python3", "-m", "venv", VENV)
    # This machine's network, certificates and limits on versions, for pip only.
    lent = {
        "/etc/resolv.conf": "etc/resolv.conf",
        os.environ.get("PIP_CERT"): "tmp/certificates",
        constraint: "tmp/constraint",
    }
    given = {inside: source for source, inside in lent.items() if source}
    for inside, source in given.items():
        shutil.copy(source, image / inside)
    options = [f"--cert=/{it}" for it in given if it == "tmp/certificates"]
    options += [f"--constraint=/{it}" for it in given if it == "tmp/constraint"]
    install = [f"{VENV}/bin/pip", "install", "--no-cache-dir", "--quiet", *options]
    kept = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    _run(
        "chroot",
        str(image),
        *install,
        *requirements(environment),
        env={"PATH": os.environ["PATH"], **kept},
    )
    for inside in given:
        (image / inside).write_bytes(b"") if inside.startswith("etc") else (image / inside).unlink()
    shutil.rmtree(image / "var/lib/apt/lists", ignore_errors=True)
    variables = {"PATH": f"{VENV}/bin:/usr/bin:/bin", **environment["environment"]}
    (image / "ch").mkdir()
    lines = "".join(f"{name}={value}\n" for name, value in variables.items())
    (image / "ch" / "environment").write_text(lines, encoding="utf-8")


def _argument(name: str) -> str:
    return name.upper().replace("-", "_")


def _run(*command: str, **options: object) -> str:
    done = subprocess.run(command, check=False, text=True, **options)
    if done.returncode:
        sys.exit(f"`{' '.join(command)}` ended with {done.returncode}: see above")
    return done.stdout or ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("write", help="write Dockerfile and apptainer.def")
    directory = commands.add_parser("directory", help="make a directory image for ch-run")
    directory.add_argument("image", type=Path)
    directory.add_argument("--constraint", type=Path, help="a file with versions, as of pip freeze")
    options = parser.parse_args()
    if options.command == "write":
        for name, text in files(definition()).items():
            (CONTAINER / name).write_text(text, encoding="utf-8")
    else:
        make_directory(definition(), options.image, options.constraint)


if __name__ == "__main__":
    main()
