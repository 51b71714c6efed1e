"""selection.py: pallets, and patches of each, in one run of the suite."""

from __future__ import annotations

import pytest

from pytest_pyhf_faas.errors import ConfigurationError, PalletError
from pytest_pyhf_faas.gate.selection import Selection, selected
from pytest_pyhf_faas.pallets.packing import pack
from pytest_pyhf_faas.pallets.pallet import Packed, Pallet, SignalPatch, select


def pallet(name, count, content=""):
    patches = tuple(
        SignalPatch(name, f"sig_{i}", (i,), Packed(f"{content}{i}", pack([]))) for i in range(count)
    )
    return Pallet(name, "", ("m",), {}, None, False, content, b"", patches, name)


PALLETS = {"A": [pallet("A", 10)], "B": [pallet("B", 7)], "AB": [pallet("C", 3), pallet("D", 5)]}


def words_of(*selections):
    return selected(selections, PALLETS.__getitem__)


def chosen_by(found):
    """What the suite makes of the words."""
    specs = [w.partition("=")[2] for w in found.words if w.startswith("--faas-pallet")]
    patches = [w.partition("=")[2] for w in found.words if w.startswith("--faas-patch")]
    pallets = [each for spec in specs for each in PALLETS[spec]]
    return {each.name: [p.name for p in each.patches] for each in select(pallets, patches)}


def test_all_of_some_pallets():
    found = words_of(Selection(("A", "AB")))
    assert found.words == ("--faas-pallet=A", "--faas-pallet=AB")
    assert found.hypotheses == 18


def test_patches_are_said_as_they_were_typed():
    found = words_of(Selection(("A", "B"), ("sig_[78]", "1")))
    assert found.words[2:] == ("--faas-patch=sig_[78]", "--faas-patch=1")
    assert found.hypotheses == 4


def test_each_pallet_has_a_selection_of_its_own():
    found = words_of(
        Selection(("A",), count=3),
        Selection(("B",), ("sig_5", "6")),
        Selection(("AB",)),
    )
    assert chosen_by(found) == {
        "A": ["sig_1", "sig_5", "sig_8"],
        "B": ["sig_5", "sig_6"],
        "C": ["sig_0", "sig_1", "sig_2"],
        "D": [f"sig_{i}" for i in range(5)],
    }
    assert found.hypotheses == 13


@pytest.mark.parametrize("count", [1, 2, 6, 7, 100])
def test_so_many_and_always_the_same(count):
    found = words_of(Selection(("B",), count=count))
    assert found == words_of(Selection(("B",), count=count))
    assert len(chosen_by(found)["B"]) == found.hypotheses == min(count, 7)


def test_the_digest_is_that_of_the_content():
    before = words_of(Selection(("A",)))
    assert before.digest != words_of(Selection(("A",), ("sig_1",))).digest
    assert before.digest != selected([Selection(("A",))], lambda _: [pallet("A", 10, "x")]).digest


def test_a_pallet_that_is_not_there_may_be_left_out():
    def read(spec):
        if spec not in PALLETS:
            raise PalletError(f"there is no pallet {spec}")
        return PALLETS[spec]

    found = selected([Selection(("A",)), Selection(("Z",), count=3, optional=True)], read)
    assert chosen_by(found) == {"A": [f"sig_{i}" for i in range(10)]}
    assert found.left_out == ("there is no pallet Z",)
    with pytest.raises(PalletError, match="there is no pallet Z"):
        selected([Selection(("A",)), Selection(("Z",))], read)
    with pytest.raises(PalletError, match="no pallet is left to fit: there is no pallet Z"):
        selected([Selection(("Z",), optional=True)], read)


def test_what_is_not_there_is_refused():
    with pytest.raises(ConfigurationError, match="count = 0 of A"):
        Selection(("A",), count=0)
    with pytest.raises(PalletError, match="no patch of the pallet A matches"):
        words_of(Selection(("B",)), Selection(("A",), ("nothing",)))
    with pytest.raises(PalletError, match="two pallets have the name A"):
        selected(
            [Selection(("A",)), Selection(("other",))],
            lambda spec: [pallet("A", 3, spec)],
        )
