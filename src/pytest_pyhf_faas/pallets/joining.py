"""Join workspaces of disjoint channels, as `pyhf.Workspace.combine` does (``outer``).

Modifiers of one name share one parameter, in all workspaces. What pyhf would
refuse later, or ignore, is reported here, all at once.
"""

from __future__ import annotations

from collections import defaultdict
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_pyhf_faas.errors import PalletError
from pytest_pyhf_faas.wording import brief, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    Workspace = Mapping[str, Any]
    Operations = list[dict[str, Any]]

#: How many clashes a message has.
_SHOWN = 8
#: The types that share a parameter.
_INTERPOLATED = frozenset({"normsys", "histosys"})
#: The types whose parameters are those of the bins of a channel.
_OF_BINS = frozenset({"shapesys", "staterror"})
#: The type whose parameter has one name in any workspace.
LUMI = "lumi"


class Clash(NamedTuple):
    """A reason why workspaces cannot be joined, and what to do."""

    text: str
    remedy: str


_RENAME = (
    "rename the modifier in one pallet, or do not correlate it, in a combination file "
    "(docs/how-to/combinations.md)"
)


def join(workspaces: Mapping[str, Workspace]) -> dict[str, Any]:
    """Return several workspaces as one, which shares their objects.

    Parameters
    ----------
    workspaces : mapping
        Each by the name of its pallet.

    Raises
    ------
    PalletError
        If they clash: with all causes, and what to do.
    """
    clashes = [
        *_versions(workspaces),
        *_channels(workspaces),
        *_modifiers(workspaces),
    ]
    observations: list[Any] = []
    measurements: list[Any] = []
    clashes += _joined_observations(workspaces, observations)
    clashes += _joined_measurements(workspaces, measurements)
    if clashes:
        lines = [f"- {clash.text}" for clash in clashes[:_SHOWN]]
        lines += [f"- and {len(clashes) - _SHOWN} more"] if len(clashes) > _SHOWN else []
        remedies = dict.fromkeys(clash.remedy for clash in clashes[:_SHOWN])
        raise PalletError(
            "\n".join([f"{' and '.join(workspaces)} cannot be combined:", *lines, *remedies])
        )
    return {
        "channels": [each for part in workspaces.values() for each in part["channels"]],
        "observations": observations,
        "measurements": measurements,
        "version": next(iter(workspaces.values()))["version"],
    }


def modifiers_of(workspace: Workspace) -> Iterator[Mapping[str, Any]]:
    """Yield all modifiers of a workspace."""
    for channel in workspace["channels"]:
        for sample in channel["samples"]:
            yield from sample["modifiers"]


def one_sided(workspaces: Mapping[str, Workspace]) -> list[str]:
    """List the settings of one measurement that apply to parameters of another without any."""
    names = {owner: {each["name"] for each in modifiers_of(w)} for owner, w in workspaces.items()}
    settings = {
        owner: {each["name"]: each for each in w["measurements"][0]["config"]["parameters"]}
        for owner, w in workspaces.items()
    }
    found = []
    for owner, configured in settings.items():
        for other in workspaces:
            taken = [
                f"{name} ({', '.join(sorted(setting.keys() - {'name'}))})"
                for name, setting in configured.items()
                if name in names[other] and name not in settings[other] and len(setting) > 1
            ]
            if taken and other != owner:
                found.append(f"{other} takes settings from {owner}: {listed(taken)}")
    return found


# --- clashes -------------------------------------------------------------------------------


def _versions(workspaces: Mapping[str, Workspace]) -> Iterator[Clash]:
    versions = {owner: workspace["version"] for owner, workspace in workspaces.items()}
    if len(set(versions.values())) > 1:
        yield Clash(
            f"their schemas have the versions {_each(versions)}",
            "convert one of them to the other's version",
        )


def _channels(workspaces: Mapping[str, Workspace]) -> Iterator[Clash]:
    owners: dict[str, tuple[str, Any]] = {}
    for owner, workspace in workspaces.items():
        for channel in workspace["channels"]:
            first, same = owners.setdefault(channel["name"], (owner, channel))
            if first != owner:
                alike = ", with the same content" if same == channel else ""
                yield Clash(
                    f"both {first} and {owner} have the channel {channel['name']}{alike}",
                    "the same events must not count twice: remove the channel from one pallet, or "
                    "rename it there if its events are others",
                )


def _modifiers(workspaces: Mapping[str, Workspace]) -> Iterator[Clash]:
    kinds: dict[str, dict[str, set[str]]] = defaultdict(dict)
    for owner, workspace in workspaces.items():
        for modifier in modifiers_of(workspace):
            kinds[modifier["name"]].setdefault(owner, set()).add(modifier["type"])
    for name, of in kinds.items():
        if len(of) < 2:  # noqa: PLR2004 - in one of them alone
            continue
        each = {owner: " and ".join(sorted(types)) for owner, types in of.items()}
        together = set().union(*of.values())
        if len(together) > 1 and not together <= _INTERPOLATED:
            yield Clash(f"the modifier {name} is of another type: {_each(each)}", _RENAME)
        elif together & _OF_BINS:
            yield Clash(
                f"the {next(iter(together))} {name} is in both {' and '.join(of)}, and its "
                "parameters belong to bins that they do not share",
                _RENAME,
            )


def _joined_observations(workspaces: Mapping[str, Workspace], joined: list[Any]) -> Iterator[Clash]:
    known: dict[str, tuple[str, Any]] = {}
    for owner, workspace in workspaces.items():
        for entry in workspace["observations"]:
            first, other = known.setdefault(entry["name"], (owner, entry))
            if first == owner:
                joined.append(entry)
            elif other != entry:
                yield Clash(
                    f"{first} and {owner} have other observations of {entry['name']}",
                    "remove the observation from the one that does not have the channel",
                )


def _joined_measurements(workspaces: Mapping[str, Workspace], joined: list[Any]) -> Iterator[Clash]:
    """Join the measurements of one name, or those that are the only ones."""
    configs: dict[str, dict[str, Any]] = {owner: {} for owner in workspaces}
    for owner, workspace in workspaces.items():
        for each in workspace["measurements"]:
            configs[owner].setdefault(each["name"], each["config"])  # the first of a name counts
    first = next(iter(workspaces.values()))["measurements"]
    shared = [
        each["name"] for each in first if all(each["name"] in known for known in configs.values())
    ]
    if not shared and all(len(known) == 1 for known in configs.values()):
        shared = [first[0]["name"]]
        configs = {
            owner: {shared[0]: config}
            for owner, known in configs.items()
            for config in known.values()
        }
    if not shared:
        names = {owner: listed(list(known)) for owner, known in configs.items()}
        yield Clash(
            f"no measurement is in all of them: {_each(names)}",
            "give the measurements that belong together one name",
        )
    for name in dict.fromkeys(shared):
        config: dict[str, Any] = {}
        yield from _joined_config({owner: of[name] for owner, of in configs.items()}, config)
        joined.append({"name": name, "config": config})


def _joined_config(
    configs: Mapping[str, Mapping[str, Any]], joined: dict[str, Any]
) -> Iterator[Clash]:
    pois = {owner: config["poi"] for owner, config in configs.items()}
    joined["poi"] = next(iter(pois.values()))
    if len(set(pois.values())) > 1:
        yield Clash(
            f"the parameter of interest is another one: {_each(pois)}",
            "give the parameter of interest one name: rename it in a combination file "
            "(docs/how-to/combinations.md)",
        )
    known: dict[str, tuple[str, Any]] = {}
    joined["parameters"] = []
    for owner, config in configs.items():
        for setting in config["parameters"]:
            name = setting["name"]
            first, other = known.setdefault(name, (owner, setting))
            if first == owner:
                joined["parameters"].append(setting)
            for key in sorted(setting.keys() | other.keys()):
                if setting.get(key) != other.get(key):
                    values = {first: other.get(key, "not set"), owner: setting.get(key, "not set")}
                    yield Clash(
                        f"the measurements give the parameter {name} other {key}: {_each(values)}",
                        "give both the same values: the luminosity is one parameter in pyhf"
                        if name == LUMI
                        else f"give both the same values, or {_RENAME}",
                    )


def _each(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{brief(str(value), 60)} in {owner}" for owner, value in values.items())


# --- from one workspace to another --------------------------------------------------------------


def changes(before: Workspace, after: Workspace) -> Operations:
    """Return the JSON patch that turns one workspace into another.

    It adds, removes and replaces samples and channels as a whole.
    """
    operations = _list_changes("/channels", before["channels"], after["channels"], _channel_changes)
    for key in ("observations", "measurements", "version"):
        operations += _replaced(f"/{key}", before[key], after[key])
    return operations


def _channel_changes(path: str, before: Any, after: Any) -> Operations:
    if any(before.get(key) != after.get(key) for key in {*before, *after} - {"samples"}):
        return _replaced(path, before, after)
    return _list_changes(f"{path}/samples", before["samples"], after["samples"], _replaced)


def _replaced(path: str, before: Any, after: Any) -> Operations:
    return [] if before == after else [{"op": "replace", "path": path, "value": after}]


def _list_changes(
    path: str,
    before: Sequence[Mapping[str, Any]],
    after: Sequence[Mapping[str, Any]],
    of_one: Callable[[str, Any, Any], Operations],
) -> Operations:
    """Return the operations that turn one list of named objects into another, from its end."""
    operations: Operations = []
    old_names, new_names = ([each["name"] for each in some] for some in (before, after))
    matcher = SequenceMatcher(None, old_names, new_names, autojunk=False)
    for tag, start, end, first, last in reversed(matcher.get_opcodes()):
        if tag == "equal":
            pairs = zip(range(start, end), range(first, last), strict=True)
            for old, new in reversed(list(pairs)):
                operations += of_one(f"{path}/{old}", before[old], after[new])
            continue
        operations += [
            {"op": "remove", "path": f"{path}/{index}"} for index in range(end - 1, start - 1, -1)
        ]
        operations += [
            {"op": "add", "path": f"{path}/{start}", "value": after[index]}
            for index in range(last - 1, first - 1, -1)
        ]
    return operations


# --- renaming --------------------------------------------------------------------------------


class Renaming:
    """Gives the modifiers of workspaces other names.

    Objects shared with the background are renamed once, so that the results share them, too.

    Parameters
    ----------
    new_name : callable
        Returns the new name of each.
    background : mapping
        The workspace with which others share objects.
    """

    def __init__(self, new_name: Callable[[str], str], background: Workspace) -> None:
        self._new_name = new_name
        samples = [each for channel in background["channels"] for each in channel["samples"]]
        self._shared = {id(sample): (sample, self.sample(sample)) for sample in samples}

    def __call__(self, workspace: Workspace) -> dict[str, Any]:
        """Return a workspace with the new names."""
        return {
            **workspace,
            "channels": [
                {**channel, "samples": [self._known(each) for each in channel["samples"]]}
                for channel in workspace["channels"]
            ],
            "measurements": [
                {**each, "config": self._config(each["config"])}
                for each in workspace["measurements"]
            ],
        }

    def _known(self, sample: Any) -> Any:
        shared = self._shared.get(id(sample))
        return shared[1] if shared else self.sample(sample)

    def sample(self, sample: Any) -> Any:
        """Return a sample with the new names."""
        return {**sample, "modifiers": self._named(sample["modifiers"])}

    def _config(self, config: Any) -> Any:
        poi, parameters = self._new_name(config["poi"]), self._named(config["parameters"])
        return {**config, "poi": poi, "parameters": parameters}

    def _named(self, objects: Iterable[Any]) -> list[Any]:
        return [{**each, "name": self._new_name(each["name"])} for each in objects]
