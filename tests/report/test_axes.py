"""What the values of hypotheses mean, and what is made of two of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pyhf_faas.report.axes import Axis, with_unit


@pytest.mark.parametrize(
    ("label", "parts"),
    [
        ("m1_GeV", ("m1", "GeV")),
        ("m_gluino_TeV", ("m_gluino", "TeV")),
        ("lifetime__ns ", ("lifetime", "ns")),
        ("m_s", ("m_s", "")),
        ("m1GeV", ("m1GeV", "")),
        ("mass", ("mass", "")),
        ("_GeV", ("_GeV", "")),
        ("GeV", ("GeV", "")),
        ("", ("", "")),
    ],
)
def test_a_unit_is_what_the_label_has(label, parts):
    assert with_unit(label) == parts


@pytest.mark.parametrize(
    ("text", "labels", "title", "value"),
    [
        ("m1", ["m1", "m2"], "m1", 6.0),
        ("m2", ["m1_GeV", "m2_GeV"], "m2 [GeV]", 4.0),
        ("m1-m2", ["m1", "m2"], "m1 − m2", 2.0),
        (" m2 - m1 ", ["m1", "m2"], "m2 − m1", -2.0),
        ("m1/m2", ["m1", "m2"], "m1 / m2", 1.5),
        ("m1-m2", ["m1_GeV", "m2_GeV"], "m1 − m2 [GeV]", 2.0),
        ("m1-m2", ["m1_GeV", "m2"], "m1 − m2", 2.0),
        ("m1/m2", ["m1_GeV", "m2_GeV"], "m1 / m2", 1.5),
        ("m/t", ["m_GeV", "t_ns"], "m / t [GeV/ns]", 1.5),
        ("m1_GeV-m2", ["m1_GeV", "m2_GeV"], "m1 − m2 [GeV]", 2.0),
        ("a-b", ["a-b", "a"], "a-b", 6.0),
        ("a/b", ["a", "a/b", "b"], "a/b", 4.0),
        ("a-b-c", ["a-b", "c"], "a-b − c", 2.0),
        ("a-b-c", ["a", "b-c"], "a − b-c", 2.0),
    ],
)
def test_an_axis_is_a_label_a_difference_or_a_ratio(text, labels, title, value):
    found = Axis.find(text, labels)
    assert found is not None
    assert (found.title, found.value([6, 4, 1])) == (title, value)


@pytest.mark.parametrize(
    "text", ["m3", "m1-m3", "m1+m2", "m1-m2-m1", "-m1", "m1/", "2*m1", "", "-"]
)
def test_other_words_are_no_axis(text):
    assert Axis.find(text, ["m1", "m2"]) is None


@pytest.mark.parametrize("values", [["a", 1], [1, "nan"], [1], [], [1, 0], [1e200, 1]], ids=str)
def test_without_two_numbers_there_is_no_place(values):
    found = Axis.find("m1/m2", ["m1", "m2"])
    assert found is not None
    assert found.value(values) is None


@given(labels=st.lists(st.text("ab-/ _", max_size=6), min_size=1, max_size=4), data=st.data())
def test_a_label_that_is_there_is_always_that_label(labels, data):
    place = data.draw(st.integers(0, len(labels) - 1))
    found = Axis.find(labels[place], labels)
    assert found is not None
    assert found.value(range(len(labels))) == labels.index(labels[place])
