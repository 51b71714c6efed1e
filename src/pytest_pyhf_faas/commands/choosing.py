"""What commands about pallets have in common: which pallets and patches, and their references."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.errors import FaasError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping

    from pytest_pyhf_faas.pallets.pallet import Pallet
    from pytest_pyhf_faas.plugin.option import Option
    from pytest_pyhf_faas.references.store import ReferenceStore


CERTIFIED = "certified"
#: The default comes first.
FIT_SETUPS = ("numpy+scipy", "numpy+minuit", "jax+scipy", "jax+minuit", CERTIFIED)


def add_pallets(parser: argparse.ArgumentParser) -> None:
    """Declare the pallets that a command is about."""
    parser.add_argument(
        "pallet", nargs="+", metavar="PALLET", help="name, directory, archive, DOI, or A+B"
    )


def add_options(parser: argparse.ArgumentParser, table: Iterable[Option]) -> None:
    """Declare options of the plugin that mean the same here."""
    for option in table:
        parser.add_argument(*option.flags, **option.argument())


def values_of(options: argparse.Namespace, table: Iterable[Option]) -> dict[str, Any]:
    """Return the values of such options, by their names."""
    return {option.name: option.value(getattr(options, option.dest)) for option in table}


def chosen_pallets(options: argparse.Namespace, values: Mapping[str, Any]) -> list[Pallet]:
    """Return the pallets that are named, with the patches that are wanted.

    Raises
    ------
    PalletError
        If one of them cannot be read, or a patch is in none of them.
    """
    pallets, problems = readable_pallets(options, values)
    if problems:
        raise problems[0]
    return pallets


def readable_pallets(
    options: argparse.Namespace, values: Mapping[str, Any]
) -> tuple[list[Pallet], list[FaasError]]:
    """Return the pallets that can be read, and what is wrong with the others."""
    from pytest_pyhf_faas.pallets import catalogue
    from pytest_pyhf_faas.pallets.pallet import each_once, select

    search_path = catalogue.search_path_from_environment()
    found: list[Pallet] = []
    problems: list[FaasError] = []
    for name in options.pallet:
        try:
            found = each_once([*found, *catalogue.resolve(name, search_path=search_path)])
        except FaasError as error:
            problems.append(error)
    try:
        return select(found, values["patch"]) if found else [], problems
    except FaasError as error:
        return [], [*problems, error]


def reference_store(values: Mapping[str, Any]) -> ReferenceStore:
    """Return the references of this directory, or of the one given, and those of the package."""
    from pytest_pyhf_faas.references.store import DIRECTORY, store_in

    return store_in(Path.cwd() / (values["reference_dir"] or DIRECTORY))
