"""Tables of published limits are read in each of their forms, with the digits that were printed."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pyhf_faas.errors import PublishedTableError
from pytest_pyhf_faas.published.tables import (
    Figure,
    PublishedLimit,
    cross_section_at,
    read_cross_sections,
    read_limits,
)

CSV = """\
# made by hand
mst,mn2,observed_fb,expected_fb
120,1,195.48,204
140,40,124.70,
"""
ROWS = """\
{"analysis": "X", "rows": [
  {"masses_GeV": [120.0, 1.0], "observed_UL_pb": 0.19548, "expected_UL_pb": 0.204},
  {"masses_GeV": [140.0, 40.0], "observed_UL_pb": 0.12470, "expected_UL_pb": null}
]}
"""
HEPDATA_YAML = """\
dependent_variables:
- header: {name: Expected upper limit on the cross section, units: FB}
  values: [{value: 204}, {value: '-'}]
- header: {name: Observed upper limit on the cross section, units: fb}
  qualifiers: [{name: SQRT(S), units: GEV, value: 13000.0}]
  values: [{value: 195.48}, {value: 124.70}]
independent_variables:
- header: {name: M(STAU), units: GEV}
  values: [{value: 120}, {value: 140}]
- header: {name: M(NEUTRALINO), units: GEV}
  values: [{value: 1}, {value: 40}]
"""
HEPDATA_JSON = """\
{"name": "Table 7", "headers": [
  {"name": "M(STAU) [GEV]"}, {"name": "M(NEUTRALINO) [GEV]"},
  {"name": "Observed upper limit [fb]"}, {"name": "Expected upper limit [fb]"}
], "values": [
  {"x": [{"value": "120"}, {"value": "1"}], "y": [{"value": "195.48"}, {"value": "204"}]},
  {"x": [{"value": "140"}, {"value": "40"}], "y": [{"value": "124.70"}, {"value": "-"}]}
]}
"""
FORMS = {
    "own.csv": CSV,
    "rows.json": ROWS,
    "hepdata.yaml": HEPDATA_YAML,
    "hepdata.json": HEPDATA_JSON,
}


def close(figure, value, half_unit):
    assert figure.value == pytest.approx(value)
    assert figure.half_unit == pytest.approx(half_unit)


@pytest.mark.parametrize("name", FORMS)
def test_each_form_gives_the_same_table(tmp_path, name):
    path = tmp_path / name
    path.write_text(FORMS[name], encoding="utf-8")
    first, second = read_limits(path)
    assert (first.values, second.values) == ((120.0, 1.0), (140.0, 40.0))
    close(first.observed, 0.19548, 5e-6)
    close(first.expected, 0.204, 5e-4)
    close(second.observed, 0.1247, 5e-6)  # a zero at the end is a digit
    assert second.expected is None


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value="1e-9", max_value="1e9"))
def test_a_figure_is_what_rounds_to_it(number):
    figure = Figure.read(str(number))
    exponent = number.as_tuple().exponent
    assert figure.value == float(number)
    assert figure.half_unit == pytest.approx(0.5 * 10.0**exponent)


@pytest.mark.parametrize(
    ("texts", "half_units"),
    [
        # four decimals, as 1Lbb has them: 0.0050 and 0.0125
        (["2.1021", "0.005", "0.0125"], [5e-5, 5e-5, 5e-5]),
        # five significant digits, as stau_combined has them: 0.026680
        (["24.443", "0.02668", "0.0072006"], [5e-4, 5e-7, 5e-8]),
        (["120", "4.5"], [0.5, 0.05]),
        (["100"], [0.5]),
    ],
)
def test_zeros_that_were_lost_are_digits(tmp_path, texts, half_units):
    path = tmp_path / "rows.json"
    rows = ", ".join(
        f'{{"masses_GeV": [{mass}], "observed_UL_pb": {text}}}' for mass, text in enumerate(texts)
    )
    path.write_text(f'{{"rows": [{rows}]}}', encoding="utf-8")
    found = [limit.observed.half_unit for limit in read_limits(path)]
    assert found == pytest.approx(half_units)


@given(
    st.lists(st.integers(1, 10**6), min_size=2, max_size=20),
    st.integers(0, 6),
)
def test_a_column_of_fixed_decimals_is_rounded_in_its_last_one(tmp_path_factory, numbers, decimals):
    path = tmp_path_factory.mktemp("column") / "x.csv"
    numbers.append(1234567)  # ends in no zero
    rows = [f"{row},{number / 10**decimals:g}" for row, number in enumerate(numbers)]
    rows[-1] = f"{len(numbers) - 1},{numbers[-1] / 10**decimals:.{decimals}f}"
    path.write_text("\n".join(["mass,observed_pb", *rows]), encoding="utf-8")
    assert all(
        limit.observed.half_unit == pytest.approx(0.5 * 10.0**-decimals)
        for limit in read_limits(path)
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "m1,m2\n1,2\n", "no column observed_pb or observed_fb"),
        ("a.csv", "m1,observed_pb\n1,x\n", "'x' is not a number"),
        ("a.csv", "m1,observed_pb\n1,-2\n", "'-2' is not a positive number"),
        ("a.csv", "m1,observed_pb\n1,nan\n", "'nan' is not finite"),
        ("a.json", "{", "cannot be read"),
        ("a.json", "{}", "neither rows, nor what a table of HEPData has"),
        ("a.json", '{"rows": [{"observed_UL_pb": 1}]}', "masses_GeV"),
        ("a.yaml", HEPDATA_YAML.replace("FB", "").replace("fb", ""), "neither pb nor fb"),
        (
            "a.yaml",
            HEPDATA_YAML.replace("Expected", "E").replace("Observed", "O"),
            "no column of it is called observed or expected: E upper limit",
        ),
        ("a.yaml", "!!python/object/apply:os.system ['true']", "not a table"),
    ],
)
def test_what_is_no_table_says_why(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PublishedTableError, match=message) as caught:
        read_limits(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(PublishedTableError, match=r"none\.csv cannot be read"):
        read_limits(tmp_path / "none.csv")


def test_cross_sections(tmp_path):
    own, other = tmp_path / "own.csv", tmp_path / "other.json"
    own.write_text("mass,cross_section_fb\n100,365.7\n120,192.8\n", encoding="utf-8")
    values = {"100": 0.3657, "120": 0.1928}
    other.write_text(json.dumps({"cross_section_by_mass_GeV": values}), encoding="utf-8")
    for path in (own, other):
        assert read_cross_sections(path) == pytest.approx({100.0: 0.3657, 120.0: 0.1928})


@pytest.mark.parametrize("text", ["{}", '{"cross_section_by_mass_GeV": {"100": -1}}', "[]", "3"])
def test_what_are_no_cross_sections(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PublishedTableError, match=r"x\.json"):
        read_cross_sections(path)


@given(st.floats(100, 300))
def test_a_cross_section_falls_between_those_of_the_table(mass):
    table = {100.0: 0.4, 200.0: 0.03, 300.0: 0.006}
    found = cross_section_at(table, mass)
    below = max(at for at in table if at <= mass)
    above = min(at for at in table if at >= mass)
    assert table[above] * (1 - 1e-12) <= found <= table[below] * (1 + 1e-12)
    assert cross_section_at(table, below) == table[below]


@given(st.floats(-9, -1), st.floats(100, 400))
def test_between_two_masses_it_is_a_power_of_the_mass(power, mass):
    table = {at: at**power for at in (100.0, 125.0, 400.0)}
    assert cross_section_at(table, mass) == pytest.approx(mass**power)


def test_outside_of_the_table_there_is_no_cross_section():
    assert cross_section_at({100.0: 1.0, 200.0: 1e-2}, 99.0) is None
    assert cross_section_at({100.0: 1.0, 200.0: 1e-2}, 201.0) is None
    assert cross_section_at({}, 99.0) is None


def test_a_limit_is_a_value():
    one = PublishedLimit((1.0,), Figure(1.0, 0.5))
    assert one == PublishedLimit((1.0,), Figure(1.0, 0.5))
    assert math.isfinite(one.observed.times(1e-3).value)
