"""Plots of a run report: whatever the document holds, they are drawn, and say what it says."""

import math
import re
import time
from itertools import pairwise, product
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from pytest_pyhf_faas.report.analyses import names_of
from pytest_pyhf_faas.report.axes import Axis
from pytest_pyhf_faas.report.plots import KINDS, draw, plane, style
from pytest_pyhf_faas.report.plots.band import plot_bands
from pytest_pyhf_faas.report.plots.cls_difference import _tolerance, plot_cls_difference
from pytest_pyhf_faas.report.plots.contours import Contours
from pytest_pyhf_faas.report.plots.plane import _reaches, plot_plane
from pytest_pyhf_faas.report.plots.scaling import _ticks
from pytest_pyhf_faas.report.plots.texts import within_width
from pytest_pyhf_faas.report.plots.timeline import plot_timeline
from pytest_pyhf_faas.report.plots.times import (
    _shares,
    plot_fit_times,
    plot_wall_time,
    plot_where_the_time_went,
)
from pytest_pyhf_faas.report.plots.toys import plot_toys
from pytest_pyhf_faas.report.quantity import CLS
from pytest_pyhf_faas.report.scaling import amdahl, scaling_figures
from pytest_pyhf_faas.report.wall_times import wall_time
from tests.helpers.report_documents import (
    analysis,
    broken,
    document,
    hypothesis,
    limited,
    limits,
    scaling,
    timeline,
    trial,
    wrong,
)

PNG = b"\x89PNG\r\n\x1a\n"
HOSTILE = (
    "<script>alert(1)</script> --> ]]> $\\frac{a}{b$ m_N2 ^ 100 % {} 日本語 🎉 \ud800 \x00\nline",
    "W" * 300,
    "",
)
OF_RUN = {
    "wall_time": plot_wall_time,
    "where_the_time_went": plot_where_the_time_went,
    "fit_times": plot_fit_times,
}
OF_ANALYSIS = {
    "timeline": plot_timeline,
    "cls_difference": plot_cls_difference,
    "plane": plot_plane,
    "band": lambda *of: next(iter(plot_bands(*of)), None),
    "toys": plot_toys,
}
LEVEL = math.log10(CLS.exclusion)
WORDS = ["nan", "inf", "-inf", "nan", "inf", "-inf"]


def drawn(*arguments, **changes):
    return {plot.name: plot for plot in draw(document(*arguments, **changes))}


def plot_of(kind, one):
    """Draw a single plot, which takes less time than all of them."""
    with style.styled():
        if kind in OF_ANALYSIS:
            return OF_ANALYSIS[kind](0, one, one["pallet"])
        return OF_RUN[kind]([one], [one["pallet"]])


def texts_of(svg):
    """Return the texts of an SVG, which Matplotlib leaves as comments beside their outlines."""
    return re.findall(r"<!-- (.*?) -->", svg.decode(), re.DOTALL)


def check(found):
    for name, plot in found.items():
        assert re.fullmatch(r"[a-z0-9_-]{1,80}", name)
        assert plot.png.startswith(PNG)
        assert len(plot.svg) < 500_000
        root = ET.fromstring(plot.svg)
        assert root.tag.endswith("}svg")
        assert not [one for one in root.iter() if one.tag.endswith(("}script", "}foreignObject"))]
        assert plot.title
        assert len(plot.alt) < 5000


def grid(make=hypothesis, count=3, **changes):
    places = product(range(200, 200 + 200 * count, 200), range(0, 100 * count, 100))
    return [make(f"wino_{m1}_{m2}", (m1, m2), **changes) for m1, m2 in places]


def test_all_plots_in_order():
    found = drawn([analysis(), analysis(pallet="Other pallet")], scaling=[scaling()])
    check(found)
    assert list(found) == [
        "wall_time",
        "where_the_time_went",
        "cls_difference-0-wino",
        "cls_difference-1-other-pallet",
        "plane-0-wino",
        "plane-1-other-pallet",
        "timeline-0-wino",
        "timeline-1-other-pallet",
        "fit_times",
        "scaling-0",
    ]
    assert [plot.analysis for plot in found.values()] == [None] * 2 + [0, 1] * 3 + [None] * 2
    kinds = {next(kind for kind in KINDS if name.startswith(kind)) for name in found}
    beside = {"band", "limit_band", "limit_plane", "toys", "published"}  # a plane is there
    assert kinds == set(KINDS) - beside


def over_one_label(**changes):
    made = [hypothesis(f"h_{m}", (m, 60)) for m in (400, 200, 1000, 600)]
    made.append(broken("h_800", (800, 60)))
    changed = analysis(made, labels=["m_GeV", "other"]) | changes
    del changed["plane"]
    return changed


def test_over_a_single_label_cls_is_drawn_with_its_bands():
    found = drawn([over_one_label()])
    check(found)
    plot = found["band-0-wino"]
    assert {"m [GeV]", "expected ± 1σ", "expected ± 2σ"} <= set(texts_of(plot.svg))
    assert "CLs over m: wino. 4 hypotheses, 3 of them excluded" in plot.alt


def test_no_band_next_to_a_plane_of_two_labels_or_of_words():
    assert plot_of("band", analysis()) is None
    words = [hypothesis(f"h_{word}", (word,)) for word in "abcd"]
    assert plot_of("band", over_one_label(hypotheses=words, labels=["kind"])) is None
    assert plot_of("band", over_one_label(hypotheses=[hypothesis()])) is None
    assert plot_of("band", over_one_label(labels=["index", "other"])) is None


def test_the_same_document_gives_the_same_bytes():
    once, again = (draw(document(scaling=[scaling()])) for _ in range(2))
    assert once == again


def test_the_users_settings_are_neither_used_nor_changed():
    expected = draw(document())
    with mpl.rc_context({"text.usetex": True, "figure.figsize": (1, 1), "font.size": 40}):
        before = dict(mpl.rcParams)
        assert draw(document()) == expected
        assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    "one",
    [
        pytest.param({"hypotheses": [], "wall_time": None, "timeline": None}, id="nothing"),
        pytest.param(
            {
                "hypotheses": [broken(values=())],
                "wall_time": {"test": "", "trials": [trial() | {"wall_s": 0.0, "fit_s": 0.0}]},
                "timeline": {"seconds": 0, "workers": [], "tasks": [[3, 0, 1, 1]]},
            },
            id="nothing measured",
        ),
        pytest.param(
            {
                "hypotheses": [hypothesis(values=(i, i), reference=None) for i in range(2)],
                "wall_time": None,
                "timeline": timeline(tasks=2),
            },
            id="two fits",
        ),
    ],
)
def test_what_shows_nothing_is_left_out(one):
    assert drawn([analysis(**one)]) == {}


def test_no_analyses():
    assert drawn([]) == {}


def test_hostile_names_and_numbers():
    def analysis_called(name):
        hypotheses = grid()
        hypotheses[0]["CLs"] = WORDS
        hypotheses[1]["CLs"] = None
        hypotheses[2]["reference"] = None
        hypotheses[3]["reference"] = {"CLs": WORDS, "error": None}
        hypotheses[4]["CLs"] = [0] * 6
        hypotheses[5]["CLs"] = [1e308, -1e308, 1e-300, 0, -5, 5.0]
        hypotheses[6]["reference"] = {"CLs": [0, -1, 1e308, 0, 1, 2], "error": None}
        hypotheses[7]["values"] = ["x", 1]
        hypotheses[8]["values"] = []
        times = timeline()
        times["workers"][0]["worker"] = name
        return analysis(
            [*hypotheses, hypothesis(name, error={"type": name, "message": "x" * 1_000_000})],
            pallet=name,
            endpoint=name,
            labels=[name, "m2"],
            plane=[name, "m2"],
            timeline=times,
        )

    entries = [scaling(pallet=name, endpoint=name) for name in HOSTILE]
    found = drawn([analysis_called(name) for name in HOSTILE], scaling=entries)
    check(found)
    assert len(found) == 3 + 4 * len(HOSTILE)  # one timeline, difference, plane, scaling each


def test_names_are_no_mathematics():
    svg = plot_of("plane", analysis(pallet="$m_1$ <b>")).svg
    assert "CLs = 0.05 in the plane: $m_1$ &lt;b&gt;" in texts_of(svg)


def test_long_names_are_shortened():
    with mpl.rc_context():
        mpl.rcdefaults()
        for name in ("W" * 300, "i" * 300):
            short = within_width(name, 150)
            assert 8 < len(short) < 80
            assert "…" in short
    assert within_width("1Lbb, local", 150) == "1Lbb, local"


def test_analyses_of_one_pallet_are_distinguished():
    others = [{"endpoint": "parsl:c.py"}, {"fit_setup": "jax+scipy"}]
    assert names_of([analysis(), *(analysis(**other) for other in others)]) == [
        "wino, local:2, numpy+scipy",
        "wino, parsl:c.py, numpy+scipy",
        "wino, local:2, jax+scipy",
    ]
    assert names_of([analysis(), analysis(pallet="bino")]) == ["wino", "bino"]


def test_of_many_analyses_the_first_are_shown(monkeypatch):
    monkeypatch.setattr(style, "_ROWS", 5)
    found = drawn([analysis(grid(reference=None), timeline=None, plane=[]) for _ in range(7)])
    assert list(found) == ["wall_time", "where_the_time_went", "fit_times"]
    check(found)
    for plot in found.values():
        assert "the first 5 of 7 analyses" in texts_of(plot.svg)


# --- wall times


def test_wall_times_next_to_the_published_ones():
    trials = [trial(fits=125), trial(fits=125, wall_s=44.0)]
    measured = {"test": "", "trials": trials}
    others = [analysis(pallet=name, wall_time=measured) for name in ("wino", "bino")]
    plain = drawn(others)["wall_time"]
    published = plot_of("wall_time", analysis(pallet="1Lbb", wall_time=measured))
    assert not [text for text in texts_of(plain.svg) if "published" in text]
    assert [text for text in texts_of(published.svg) if "published (2021)" in text]
    assert "1Lbb: 42 ± 2.8 s on 2 workers" in published.alt
    assert "156.2 ± 9.5 s" in published.alt
    assert "3842 s" in published.alt


def test_a_single_trial_has_no_deviation():
    one = analysis(wall_time={"test": "", "trials": [trial(fits=125, wall_s=40.0)]}, pallet="1Lbb")
    assert "1Lbb: 40 s on 2 workers" in plot_of("wall_time", one).alt


def test_shares_add_up_to_the_whole():
    trials = [trial(), trial(wall_s=44.0, idle_s=5.0)]
    shares = _shares(wall_time(trials))
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["idle_s"] == pytest.approx(4 / 84)  # mean of 3 and 5, of 2 workers for 42 s
    alt = plot_of("where_the_time_went", analysis()).alt
    assert "fit 81.9%" in alt
    assert "idle 4.8%" in alt


def test_a_timeline_says_how_well_its_positions_are_known():
    times = timeline()
    times["workers"][1]["clock_uncertainty_s"] = 0.25
    plot = plot_of("timeline", analysis(timeline=times))
    assert [text for text in texts_of(plot.svg) if "positions known to ± 0.25 s" in text]
    assert "25 tasks on 2 workers within 40 s" in plot.alt


# --- CLs values


def test_values_outside_the_tolerance_are_counted():
    hypotheses = [*grid(), wrong("off", (900, 400)), broken(), hypothesis(reference=None)]
    plot = plot_of("cls_difference", analysis(hypotheses))
    assert "60 values of 10 hypotheses, 6 of them outside the tolerance" in plot.alt
    texts = texts_of(plot.svg)
    assert "outside: 6" in texts
    assert "2 hypotheses without CLs or reference left out" in texts


def test_each_point_is_judged_by_its_own_tolerance():
    # Off by 2 %, which its own tolerance allows, and so does no other.
    mild = wrong("mild", (300, 100), rtol=0.1, within=[True] * 6)
    plot = plot_of("cls_difference", analysis([hypothesis(), mild]))
    assert "0 of them outside" in plot.alt


def test_the_band_is_the_tolerance_of_most():
    usual, other, none = (
        {"rtol": 0.1, "atol": 1e-8},
        {"rtol": 0.5, "atol": 1e-3},
        dict.fromkeys(("rtol", "atol")),
    )
    references = np.array([1e-6, 1.0])
    widths = _tolerance([other, usual, usual, none], references)
    assert widths == pytest.approx([1e-8 + 1e-7, 0.1 + 1e-8])
    assert _tolerance([none], references) == pytest.approx([0, 0])


def test_values_that_are_no_numbers_are_left_out():
    partly = hypothesis(CLs=["nan", 0.1, 0.2, 0.3, "inf", 0.5])
    plot = plot_of("cls_difference", analysis([partly]))
    assert "4 values of 1 hypothesis" in plot.alt
    assert "2 values left out that are no numbers" in texts_of(plot.svg)


@pytest.mark.parametrize("tolerance", [0.0, None, 1e300])
def test_any_tolerance(tolerance):
    exact = hypothesis()
    exact |= {"CLs": exact["reference"]["CLs"], "rtol": tolerance, "atol": tolerance}
    plot = plot_of("cls_difference", analysis([exact]))
    assert "the largest difference is 0" in plot.alt


# --- plane


def test_of_more_labels_a_slice_is_drawn_and_said():
    made = [
        hypothesis(f"h_{a}_{b}_{c}", (a, b, c))
        for a in (200, 300, 400)
        for b in (50, 100)
        for c in (5, 6)
    ]
    made.append(hypothesis("h_500_50_6", (500, 50, 6)))
    three = analysis(made, labels=["m1", "m2", "m3"], plane=["m1", "m2"])
    plot = plot_of("plane", three)
    assert "a slice: the 7 hypotheses of 13 with m3 = 6" in plot.alt
    assert "right: 7" in texts_of(plot.svg)
    # A third label that the place decides needs no slice.
    one_to_one = [each | {"values": [*each["values"][:2], 60]} for each in made[::2]]
    plot = plot_of("plane", analysis(one_to_one, labels=["m1", "m2", "m3"], plane=["m1", "m2"]))
    assert "slice" not in plot.alt


def test_units_are_those_of_the_labels():
    bare = plot_of("plane", analysis())
    assert "CLs = 0.05 in the plane: wino" in texts_of(bare.svg)
    assert {"m1", "m2"} <= set(texts_of(bare.svg))
    assert "exclusion up to m1 = 645.2." in bare.alt
    labels = ["m1_GeV", "lifetime_ns"]
    units = plot_of("plane", analysis(labels=labels, plane=["m1", "lifetime"]))
    assert {"m1 [GeV]", "lifetime [ns]"} <= set(texts_of(units.svg))
    assert "exclusion up to m1 = 645.2 GeV." in units.alt


def test_differences_and_ratios_are_drawn():
    plot = plot_of("plane", analysis(plane=["m1", "m1-m2"]))
    assert {"m1", "m1 − m2"} <= set(texts_of(plot.svg))
    assert "in the plane of m1 and m1 − m2: wino. 25 hypotheses" in plot.alt
    plot = plot_of("plane", analysis(plane=["m1", "m1/m2"]))
    assert "5 hypotheses left out: no place in the plane" in plot.alt  # m2 = 0


def test_values_over_decades_are_drawn_on_logarithmic_axes():
    taus = (0.01, 0.1, 1, 10, 100)
    hypotheses = [
        hypothesis(f"p_{m}_{tau}", (m, tau), CLs=[10 ** (math.log10(tau) - 1.5)] * 6)
        for m, tau in product((100, 200, 300), taus)
    ]
    labels = ["lifetime_ns", "m_GeV"]
    for one in hypotheses:
        one["values"].reverse()
    plot = plot_of("plane", analysis(hypotheses, labels=labels, plane=labels))
    assert {"0.01", "1", "100", "150"} <= set(texts_of(plot.svg))
    reached = re.search(r"Observed exclusion up to lifetime = ([\d.]+) ns", plot.alt)
    assert float(reached[1]) == pytest.approx(10 ** (1.5 + math.log10(0.05)), rel=0.05)


def test_the_excluded_side_is_marked():
    assert "excluded (observed)" in texts_of(plot_of("plane", analysis()).svg)
    places = list(product((0, 500, 1000), (0, 100)))
    contours, surfaces = contours_of(places, [[10 ** (m1 / 500 - 3)] * 6 for m1, _ in places])
    axes = Figure().subplots()
    plane._hatch_excluded(axes, contours, surfaces[0], LEVEL)
    (region,) = axes.collections
    path = region.get_paths()[0]
    assert path.contains_point((100, 50))
    assert not path.contains_point((950, 50))


def contours_of(places, values):
    contours = Contours(np.array(places, dtype=float))
    return contours, contours.surfaces(values, CLS.drawn)


def test_the_contour_is_where_log_cls_is_linear():
    places = list(product((0, 500, 1000), (0, 100)))
    values = [[10 ** (m1 / 500 - 3)] * 6 for m1, _ in places]
    contours, surfaces = contours_of(places, values)
    assert set(surfaces) == {0, 2, 3, 4}
    for surface in surfaces.values():
        assert surface.shape == (len(contours.y), len(contours.x))
        assert np.asarray(surface[0]) == pytest.approx(contours.x / 500 - 3)
    reached = _reaches(contours, surfaces, Axis.find("m1", ["m1"]), LEVEL)
    assert reached[0].startswith("Observed exclusion up to m1 = 84")  # 500 * log10(50) = 849.5


def test_cls_of_zero_is_drawn_as_a_small_one():
    _, surfaces = contours_of(list(product((0, 1), (0, 1))), [[0.0] * 6] * 4)
    assert surfaces[0].min() == surfaces[0].max() == pytest.approx(-6)


@pytest.mark.parametrize(
    ("places", "why"),
    [
        ([(0, 0), (1, 0), (0, 1)], "three"),
        ([(i, 3 * i + 1) for i in range(7)], "on a line"),
        ([(5, i) for i in range(7)], "of one mass"),
        ([(1, 2)] * 9, "at one place"),
    ],
)
def test_without_a_plane_there_are_markers_alone(places, why):
    hypotheses = [hypothesis(f"p{i}", place) for i, place in enumerate(places)]
    plot = plot_of("plane", analysis(hypotheses))
    assert "no contours" in plot.alt, why
    assert f"right: {len(places)}" in texts_of(plot.svg)


def test_of_hypotheses_at_one_place_the_first_is_taken():
    places = list(product((0, 1), (0, 1)))
    _, surfaces = contours_of([*places, (0, 0)], [[0.1] * 6] * 4 + [[1e-5] * 6])
    assert surfaces[0].min() == pytest.approx(-1)


def test_places_may_be_anywhere():
    random = np.random.default_rng(1)
    count = 0
    for size in range(4, 60):
        for places in (random.integers(0, 6, (size, 2)), random.lognormal(0, 8, (size, 2))):
            _, surfaces = contours_of(places, [[0.01] * 6] * size)
            count += surfaces is not None
    assert count > 50


def test_hypotheses_are_counted_by_how_they_ended():
    hypotheses = [
        *grid(),
        wrong("off", (900, 400)),
        broken("lost", (800, 400)),
        hypothesis("new", (700, 400), verdict="no reference", reference=None, within=None),
        hypothesis("nan", (600, 400), CLs=WORDS),
        hypothesis("unnamed", ("heavy", 1)),
        hypothesis("no place") | {"values": [math.inf, 1]},
    ]
    plot = plot_of("plane", analysis(hypotheses))
    texts = texts_of(plot.svg)
    assert {"right: 9", "not right: 1", "not compared: 1", "without values: 2"} <= set(texts)
    assert "2 hypotheses left out: no place in the plane" in plot.alt


@pytest.mark.parametrize(("value", "where"), [(0.9, "above"), (1e-4, "below")])
def test_cls_that_does_not_cross_is_said(value, where):
    plot = plot_of("plane", analysis(grid(CLs=[value] * 6)))
    assert f"observed CLs does not cross 0.05: it is {where} everywhere" in plot.alt


@pytest.mark.parametrize("axes", [[], ["m1", "m3"], ["m1", "m1-m3"]])
def test_without_two_known_labels_there_is_no_plane(axes):
    assert plot_of("plane", analysis(plane=axes)) is None


# --- times of the fits


def test_medians_of_the_fits():
    seconds = (1.0, 1.1, 1.2, 1.3, 2.0, 3.0, 4.0, 5.0, 9.0)
    hypotheses = [hypothesis(str(s), seconds={"fit": s}) for s in seconds]
    assert (
        "wino: 9 fits of 1 s to 9 s, median 2 s" in plot_of("fit_times", analysis(hypotheses)).alt
    )


@pytest.mark.parametrize("kind", ["fit_times", "wall_time", "where_the_time_went"])
@pytest.mark.parametrize("failed", [broken(), broken(status="error", verdict="error")])
def test_a_run_with_a_fit_that_failed_has_no_times(kind, failed):
    assert plot_of(kind, analysis([hypothesis("1"), failed])) is None


def test_times_of_some_of_the_fits_are_not_drawn():
    unfitted = broken(status=None, verdict="not run")
    assert plot_of("fit_times", analysis([hypothesis("1"), unfitted])) is None


@pytest.mark.parametrize("count", [1, 4, 5])
def test_fits_of_one_duration(count):
    hypotheses = grid(seconds={"fit": 2.0}, reference=None)
    found = drawn([analysis(hypotheses, wall_time=None, timeline=None, plane=[])] * count)
    assert list(found) == ["fit_times"]
    assert "9 fits of 2 s to 2 s, median 2 s" in found["fit_times"].alt
    check(found)


# --- scaling


def points(walls, startup_s=0.0, workers=1):
    return [
        {
            "count": count,
            "trials": [
                trial(workers=count * workers, wall_s=wall, startup_s=startup_s * count * workers)
                for wall in of_count
            ],
        }
        for count, of_count in walls.items()
    ]


def without_time(count):
    return {"count": count, "trials": [trial() | {"wall_s": 0.0, "startup_s": 0.0}]}


def test_scaling_figures():
    figures = scaling_figures(scaling(points=points({4: [30.0], 1: [90.0, 110.0], 2: [55.0]}, 5.0)))
    assert figures.counts == (1, 2, 4)
    assert figures.wall_s == (100, 55, 30)
    assert figures.stdev_s == (pytest.approx(math.sqrt(200)), None, None)
    assert figures.speed_up == pytest.approx((1, 100 / 55, 100 / 30))
    assert figures.efficiency == pytest.approx((1, 100 / 110, 100 / 120))
    assert figures.explained_fraction == pytest.approx(0.05)
    # e = (1 / S - 1 / n) / (1 - 1 / n): 0.1 for 2 and (0.3 - 0.25) / 0.75 for 4
    assert figures.measured_fraction == pytest.approx((0.1 + 0.05 / 0.75) / 2)


@pytest.mark.parametrize("first", [1, 3])
@pytest.mark.parametrize("fraction", [0.0, 0.04, 1.0])
def test_what_follows_amdahls_law_is_found(first, fraction):
    walls = {first * n: [50 * (fraction + (1 - fraction) / n)] for n in (1, 2, 4, 8)}
    figures = scaling_figures(scaling(points=points(walls, 50 * fraction, workers=6)))
    assert figures.measured_fraction == pytest.approx(fraction, abs=1e-12)
    assert figures.explained_fraction == pytest.approx(fraction)
    expected = [first * amdahl(fraction, n) for n in (1, 2, 4, 8)]
    assert figures.speed_up == pytest.approx(expected)


def test_amdahls_law():
    assert amdahl(0, 8) == 8
    assert amdahl(1, 8) == 1
    assert amdahl(0.25, 1e12) == pytest.approx(4)
    assert math.isnan(amdahl(-1, 2))


def test_a_single_count_has_no_measured_fraction():
    figures = scaling_figures(scaling(points=points({1: [10.0]})))
    assert figures.measured_fraction is None
    assert figures.efficiency == (1,)


def test_a_point_and_a_single_wall_time_are_no_plots():
    one = scaling(points=points({1: [10.0]}))
    assert list(drawn([analysis(timeline=None, plane=[])], scaling=[one])) == [
        "where_the_time_went",
        "cls_difference-0-wino",
        "fit_times",
    ]


@pytest.mark.parametrize("timeless", [[1, 2], []])
def test_no_wall_time_has_no_fractions(timeless):
    entry = scaling(points=[without_time(count) for count in timeless])
    figures = scaling_figures(entry)
    assert figures.explained_fraction is None
    assert figures.measured_fraction is None
    assert drawn([], scaling=[entry]) == {}


def test_wall_time_of_trials():
    one, other = trial(wall_s=2.0), trial(wall_s=4.0)
    assert wall_time([one]).stdev_s is None
    assert wall_time([one]).mean_s == 2
    assert wall_time([one, other]).mean_s == 3
    assert wall_time([one, other]).stdev_s == pytest.approx(math.sqrt(2))


def test_scaling_is_drawn_and_told():
    entries = [
        scaling(),
        scaling(points=scaling()["points"][:1]),  # of which no law can be drawn
        scaling(unit="blocks", points=points({n: [100 / n + 1, 100 / n] for n in range(2, 40)})),
        scaling(points=[*points({1: [10.0], 2: [1.0]}), without_time(1024)]),  # faster than ideal
    ]
    found = drawn([], scaling=entries)
    check(found)
    assert list(found) == [f"scaling-{i}" for i in (0, 2, 3)]
    assert "4 workers: 21 s, speed-up 3.57, efficiency 89%" in found["scaling-0"].alt
    assert "1 worker: 75 s" in found["scaling-0"].alt
    assert "speed-up (2 with 2 blocks)" in texts_of(found["scaling-2"].svg)


def test_ticks_do_not_run_into_each_other():
    ticks = _ticks(range(1, 129))
    assert ticks[0] == 1
    assert all(later / earlier > 1.5 for earlier, later in pairwise(ticks))
    assert _ticks([1, 2, 4]) == [1, 2, 4]
    assert _ticks([7]) == [7]


# --- upper limits


def test_limits_are_drawn_along_the_lines_with_most_hypotheses_and_in_the_plane():
    made = [limited(f"w_{m1}_{m2}", (m1, m2)) for m1, m2 in product(range(200, 1200, 200), (0, 50))]
    made += [limited(f"w_{m1}_100", (m1, 100)) for m1 in (200, 400, 600)]
    made += [limited(f"w_{m1}_150", (m1, 150)) for m1 in (200, 400, 600, 800)]
    made.append(limited("w_200_200", (200, 200)))
    found = drawn([limits(made, labels=["m1_GeV", "m2_GeV"])])
    check(found)
    assert list(found) == [
        "limit_plane-0-wino",
        *("limit_band-0-wino", "limit_band-0-wino-2", "limit_band-0-wino-3"),
        "fit_times",
    ]
    assert [found[f"limit_band-0-wino{n}"].title for n in ("", "-2", "-3")] == [
        "Upper limit over m1 at m2 = 0 GeV: wino",
        "Upper limit over m1 at m2 = 50 GeV: wino",
        "Upper limit over m1 at m2 = 150 GeV: wino",
    ]
    band, plane = found["limit_band-0-wino"], found["limit_plane-0-wino"]
    told = {"m1 [GeV]", "upper limit on μ at 95 % CL", "upper limit = 1: below is excluded"}
    assert told <= set(texts_of(band.svg))
    assert "5 hypotheses, 3 of them excluded at 95 % CL (upper limit below 1)" in band.alt
    assert plane.title == "Upper limit = 1 in the plane: wino"
    assert {"right: 18", "excluded (observed)"} <= set(texts_of(plane.svg))
    assert "Observed exclusion up to m1 = 6" in plane.alt


def test_the_contour_of_limits_lies_where_they_are_one():
    made = [
        limited(f"w_{x}_{y}", (x, y), limits={"values": [10 ** (x - 0.5)] * 6})
        for x, y in product((0, 1), (0, 1))
    ]
    plot = plot_of("plane", limits(made))
    assert "Observed exclusion up to m1 = 0.49" in plot.alt


def test_no_limit_is_none_of_the_numbers_that_are_drawn():
    none = {"values": ["inf", 0.5, 0.7, 0.9, 1.2, "inf"], "reference": None}
    made = grid(limited, count=4)
    made[5] = limited("wino_400_100", (400, 100), limits=none)
    found = drawn([limits(made)])
    check(found)
    assert "1 hypothesis without a limit, drawn at 1000" in found["limit_plane-0-wino"].alt
    assert "right: 16" in texts_of(found["limit_plane-0-wino"].svg)
    notes = [texts_of(plot.svg) for name, plot in found.items() if "band" in name]
    assert sum("1 hypothesis without upper limit left out" in texts for texts in notes) == 1
    everywhere = [limited(f"w_{m}", (m, 0), limits=none) for m in range(9)]
    assert "limit_band-0-wino" not in drawn([limits(everywhere)])


def test_limits_of_a_wide_range_and_none_have_an_axis_that_shows_them():
    def ticks(*values):
        made = [limited(f"w_{m}", (m, 0), limits={"values": [v] * 6}) for m, v in enumerate(values)]
        return set(texts_of(plot_of("band", limits(made)).svg))

    assert {"0.1", "1", "10", "100"} <= ticks(0.1, 1.0, 100.0)
    assert "0.900" in ticks(0.8, 0.9, 1.0)
    assert "10⁻⁶" in ticks(0.0, 0.5, 1.0)


# --- numbers and size


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.05, "0.05"),
        (-0.001, "−0.001"),
        (1e-6, "10⁻⁶"),
        (-1e-12, "−10⁻¹²"),
        (2e6, "2×10⁶"),
        (1e5, "10⁵"),
    ],
)
def test_powers_of_ten(value, text):
    assert style.power(value) == text


def test_large_reports_give_small_plots_soon():
    hypotheses = [
        (wrong if m1 % 7 == 0 else hypothesis)(f"p_{m1}_{m2}", (200 + 10 * m1, 5 * m2))
        for m1, m2 in product(range(100), range(100))
    ]
    large = analysis(hypotheses, timeline=timeline(tasks=10_000, workers=64, wall_s=500.0))
    began = time.process_time()
    found = drawn([large])
    assert time.process_time() - began < 30  # some 6 s without other load
    assert len(found) == 5
    check(found)
