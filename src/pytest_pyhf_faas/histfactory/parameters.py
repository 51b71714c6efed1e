"""The parameters of a workspace: their order, initial values, bounds and constraint terms.

All of it is as in pyhf, so that points and fits can be compared: `pyhf.parameters` and the
``required_parset`` functions of `pyhf.modifiers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pytest_pyhf_faas.histfactory.defects import MODIFIER_TYPES
from pytest_pyhf_faas.histfactory.errors import InvalidModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from pytest_pyhf_faas.histfactory.workspace import Channel

    Vector = NDArray[np.float64]

#: The types that share parameters of a name.
_INTERPOLATED = frozenset({"normsys", "histosys"})
#: Types whose parameters are those of their first modifier, regardless of the others.
_SHARED_FREELY = frozenset({"normsys", "histosys", "lumi", "normfactor", "staterror"})
#: Where a parameter that is 0 makes a rate 0, pyhf bounds it by this.
_ALMOST_ZERO = 1e-10


@dataclass(frozen=True, slots=True, eq=False)
class ParameterSet:
    """The parameters of one name.

    Attributes
    ----------
    name : str
        Of the modifiers.
    kind : str
        What multiplies or shifts the rates: "interpolated" or "linear".
    indexed : bool
        Whether there is one for each bin, so that names have an index.
    initial, lower, upper : array, shape (n,)
        Initial values and bounds.
    fixed : array of bool, shape (n,)
        Which ones do not float.
    constraint : str
        "none", "normal" or "poisson".
    auxiliary : array, shape (n,)
        The auxiliary data; zeros without a constraint.
    width : array, shape (n,)
        Standard deviation of the normal constraint.
    factor : array, shape (n,)
        Rate of the Poisson constraint for a parameter of 1.
    """

    name: str
    kind: Literal["interpolated", "linear"]
    indexed: bool
    initial: Vector
    lower: Vector
    upper: Vector
    fixed: NDArray[np.bool_]
    constraint: Literal["none", "normal", "poisson"]
    auxiliary: Vector
    width: Vector
    factor: Vector

    def __len__(self) -> int:
        return len(self.initial)

    @property
    def names(self) -> list[str]:
        """The name of each parameter."""
        if not self.indexed:
            return [self.name]
        return [f"{self.name}[{index}]" for index in range(len(self))]


def parameter_sets(
    channels: Sequence[Channel], configured: Sequence[Mapping[str, Any]]
) -> list[ParameterSet]:
    """Return the parameters of some channels in the order of pyhf.

    Parameters
    ----------
    channels : sequence of Channel
        Sorted by name.
    configured : sequence of mapping
        The ``parameters`` of the measurement.

    Raises
    ------
    InvalidModel
        If modifiers of one name need different parameters, or a configuration does not fit.
    """
    settings: dict[str, Mapping[str, Any]] = {}
    for setting in configured:
        if setting["name"] in settings:
            raise InvalidModel(f"the measurement configures the parameter {setting['name']} twice")
        settings[setting["name"]] = setting
    found: dict[str, dict[str, ParameterSet]] = {kind: {} for kind in MODIFIER_TYPES}
    for name, kind, what in _defaults(channels):
        found[kind].setdefault(name, what)
    sets: dict[str, ParameterSet] = {}
    owner: dict[str, str] = {}
    for kind in MODIFIER_TYPES:
        for name, what in found[kind].items():
            if name not in sets:
                sets[name], owner[name] = what, kind
            elif not _INTERPOLATED.issuperset((kind, owner[name])):
                raise InvalidModel(
                    f"the name {name} belongs to a {owner[name]} and to a {kind}, whose "
                    "parameters differ: rename one of them"
                )
    if not sets:
        raise InvalidModel("the workspace has no parameters")
    return [_configured(what, settings.get(what.name, {})) for what in sets.values()]


def _defaults(channels: Sequence[Channel]) -> Iterator[tuple[str, str, ParameterSet]]:
    """Yield the parameters that each modifier needs, in the order in which pyhf meets them.

    It goes through the samples of all channels in one order, and lists staterrors at the end.
    """
    seen: set[tuple[str, str]] = set()
    bins_of: dict[str, tuple[int, str]] = {}
    for channel in channels:
        for sample in channel.samples:
            uncertainties = {(name, kind): data for kind, name, data in sample.linear}
            for name, kind in sample.modifiers:
                first = (name, kind) not in seen
                if not first and kind in _SHARED_FREELY:
                    continue
                seen.add((name, kind))
                if kind == "shapefactor":
                    bins, where = bins_of.setdefault(name, (channel.bins, channel.name))
                    if channel.bins > bins:
                        raise InvalidModel(
                            f"the shapefactor {name} has {bins} bins in the channel {where}, and "
                            f"{channel.bins} in {channel.name}: pyhf has no parameters for the rest"
                        )
                elif kind == "shapesys" and not first:
                    raise InvalidModel(
                        f"the shapesys {name} of the sample {sample.name} of the channel "
                        f"{channel.name} has the name of another one: rename it, for a shapesys "
                        "cannot be shared"
                    )
                if first and kind != "staterror":
                    yield name, kind, _default(name, kind, sample.nominal, uncertainties)
    for name in sorted(name for name, kind in seen if kind == "staterror"):
        yield name, "staterror", _staterror(name, channels)


def _default(
    name: str,
    kind: str,
    nominal: Vector,
    uncertainties: Mapping[tuple[str, str], Vector | None],
) -> ParameterSet:
    if kind in _INTERPOLATED:
        return _make(name, 1, kind="interpolated", initial=0.0, lower=-5.0, upper=5.0)
    if kind == "lumi":  # all but the width must come from the measurement
        return _make(name, 1, initial=np.nan, lower=np.nan, upper=np.nan, auxiliary=np.nan)
    if kind == "normfactor":
        return _make(name, 1, constraint="none")
    if kind == "shapefactor":
        return _make(name, len(nominal), indexed=True, constraint="none")
    uncertainty = uncertainties[name, kind]
    assert uncertainty is not None  # a shapesys has data
    valid = (nominal > 0) & (uncertainty > 0)
    factor = np.where(valid, (nominal / np.where(valid, uncertainty, 1.0)) ** 2, 1.0)
    return _make(
        name,
        len(nominal),
        indexed=True,
        lower=_ALMOST_ZERO,
        fixed=~valid,
        constraint="poisson",
        auxiliary=factor,
        factor=factor,
    )


def _staterror(name: str, channels: Sequence[Channel]) -> ParameterSet:
    """Return one parameter for each bin of the channels that have it.

    Its width is the relative uncertainty of all samples that have it, added in quadrature.
    """
    widths = []
    pattern: dict[str, set[str]] = {}
    for channel in channels:
        nominal, variance, there = np.zeros(channel.bins), np.zeros(channel.bins), False
        for sample in channel.samples:
            for kind, own, uncertainty in sample.linear:
                if kind == "staterror" and own == name and uncertainty is not None:
                    nominal, variance = nominal + sample.nominal, variance + uncertainty**2
                    there = True
                    pattern.setdefault(sample.name, set()).add(channel.name)
        if there:
            some = nominal > 0
            widths.append(np.where(some, np.sqrt(variance) / np.where(some, nominal, 1.0), 0.0))
    (first, *others) = pattern
    for other in others:
        if pattern[other] != pattern[first]:
            raise InvalidModel(
                f"the staterror {name} is in the channels {', '.join(sorted(pattern[first]))} for "
                f"the sample {first}, and in {', '.join(sorted(pattern[other]))} for {other}: it "
                "must be in the same channels"
            )
    width = np.concatenate(widths)
    fixed = width == 0
    return _make(
        name,
        len(width),
        indexed=True,
        lower=_ALMOST_ZERO,
        fixed=fixed,
        auxiliary=1.0,
        width=np.where(fixed, 1.0, width),
    )


def _make(
    name: str,
    count: int,
    *,
    kind: Literal["interpolated", "linear"] = "linear",
    indexed: bool = False,
    initial: float = 1.0,
    lower: float = 0.0,
    upper: float = 10.0,
    fixed: bool | NDArray[np.bool_] = False,
    constraint: Literal["none", "normal", "poisson"] = "normal",
    auxiliary: float | Vector = 0.0,
    width: float | Vector = 1.0,
    factor: float | Vector = 1.0,
) -> ParameterSet:
    def each(value: float | Vector) -> Vector:
        return value if isinstance(value, np.ndarray) else _constant(value, count)

    return ParameterSet(
        name,
        kind,
        indexed,
        each(initial),
        each(lower),
        each(upper),
        fixed if isinstance(fixed, np.ndarray) else _constant(fixed, count).astype(bool),
        constraint,
        each(auxiliary),
        each(width),
        each(factor),
    )


@lru_cache(maxsize=256)
def _constant(value: float, count: int) -> Vector:
    constant = np.full(count, value, dtype=float)
    constant.setflags(write=False)  # many share it
    return constant


def _configured(default: ParameterSet, setting: Mapping[str, Any]) -> ParameterSet:
    """Return a set with the settings of the measurement."""
    name, count = default.name, len(default)
    if not setting and not np.isnan(default.auxiliary[0]):
        return default

    def values(key: str, otherwise: Vector) -> Vector:
        if key not in setting:
            return otherwise
        if len(setting[key]) != count:
            raise InvalidModel(
                f"the measurement gives {len(setting[key])} {key} for the parameter {name}, which "
                f"has {count}"
            )
        return np.array(setting[key], dtype=float)

    constraint, is_lumi = default.constraint, np.isnan(default.auxiliary).any()
    for key, has_it in (
        ("auxdata", constraint != "none"),
        ("sigmas", constraint == "normal" and (default.indexed or is_lumi)),
        ("factors", constraint == "poisson"),
    ):
        if key in setting and not has_it:
            raise InvalidModel(f"the measurement gives {key} for {name}, which has none")
    if any(len(pair) != 2 for pair in setting.get("bounds", ())):  # noqa: PLR2004
        raise InvalidModel(f"the measurement gives bounds for {name} that are not pairs")
    bounds = values("bounds", np.column_stack((default.lower, default.upper)))
    made = ParameterSet(
        name,
        default.kind,
        default.indexed,
        values("inits", default.initial),
        bounds[:, 0],
        bounds[:, 1],
        np.full(count, bool(setting["fixed"])) if "fixed" in setting else default.fixed,
        constraint,
        values("auxdata", default.auxiliary),
        values("sigmas", default.width),
        values("factors", default.factor),
    )
    _check(made, setting)
    return made


def _check(what: ParameterSet, setting: Mapping[str, Any]) -> None:
    if np.isnan([what.initial, what.lower, what.auxiliary]).any():
        lack = [key for key in ("inits", "bounds", "auxdata") if key not in setting]
        raise InvalidModel(
            f"the measurement gives no {', '.join(lack)} for the luminosity {what.name}: add them "
            "to its parameters"
        )
    if what.constraint == "normal" and not (what.width > 0).all():
        raise InvalidModel(
            f"the parameter {what.name} has a constraint of the width {what.width.min():g}: it "
            "must be positive"
        )
    if what.constraint == "poisson" and not (
        (what.auxiliary >= 0).all() and (what.factor > 0).all()
    ):
        raise InvalidModel(
            f"the measurement gives negative auxdata, or factors that are not positive, for "
            f"{what.name}, whose constraint is Poisson's"
        )
    for index, name in enumerate(what.names):
        if not what.lower[index] <= what.initial[index] <= what.upper[index]:
            raise InvalidModel(
                f"the initial value {what.initial[index]:g} of the parameter {name} lies outside "
                f"of its bounds, {what.lower[index]:g} and {what.upper[index]:g}"
            )
