"""Secrets are shown nowhere, and all else as it is."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pytest_pyhf_faas.engines.globus_client import CLIENT_SECRET, LEGACY_CLIENT_SECRET
from pytest_pyhf_faas.redaction import SECRETS, hide_values, redacted, without_json

relaxed = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200
)
secrets = st.text("abcXYZ019+/=-_.~ ", min_size=1, max_size=40).filter(str.strip)


@pytest.fixture(autouse=True)
def no_config():
    yield
    hide_values({})


def test_the_secrets_are_those_of_the_client():
    assert SECRETS == (CLIENT_SECRET, LEGACY_CLIENT_SECRET)


@relaxed
@given(secret=secrets, pieces=st.lists(st.text(max_size=20), min_size=2, max_size=4))
@example(secret="//", pieces=["//", "@"])
@example(secret="abcabc", pieces=["abc", "abc"])
@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_shown_nowhere(monkeypatch, name, secret, pieces):
    monkeypatch.setenv(name, secret)
    shown = redacted(secret.join(pieces))
    if "*" not in secret:
        assert secret not in shown.replace("***", "\0")


@relaxed
@given(
    before=st.text(" abc:/", max_size=8),
    user=st.text("abcXYZ0.%", min_size=1, max_size=8),
    password=st.text("abcXYZ0.%:@", min_size=1, max_size=8),
    after=st.text(" abc:/", max_size=8),
)
def test_a_password_in_an_address_is_not_shown(before, user, password, after):
    shown = redacted(f"{before} amqps://{user}:{password}@broker:5671/{after} refused")
    assert shown == f"{before} amqps://***@broker:5671/{after} refused"


@relaxed
@given(text=st.text(st.characters(exclude_characters="@")))
def test_what_is_no_secret_is_shown_as_it_is(monkeypatch, text):
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    assert redacted(text) == text


def test_an_empty_secret_hides_nothing(monkeypatch):
    monkeypatch.setenv(SECRETS[0], "")
    assert redacted("abc") == "abc"


# What is asked of an endpoint


@relaxed
@given(
    secret=st.text(min_size=4, max_size=40).map(str.strip).filter(lambda text: len(text) > 3),
    name=st.sampled_from(["token", "API_KEY", "password", "auth", "client_secret"]),
    before=st.text(max_size=8),
)
@example(secret="a\nbcd", name="token", before="")
@example(secret="swordfish", name="password", before="")
def test_a_value_with_the_name_of_a_secret_is_shown_nowhere(secret, name, before):
    hide_values({"user_endpoint_config": {"env": [{name: secret}]}})
    for shown in (secret, json.dumps(secret), repr(secret)):
        text = redacted(f"{before} {shown}")
        if "*" not in secret:
            assert secret not in text.replace("***", "\0")


@pytest.mark.parametrize(
    ("config", "message", "shown"),
    [
        ({"a": "hunter2"}, "no such hunter2", "no such ***"),
        ({"a": ["x", {"b": "hunter2"}]}, "'hunter2'", "'***'"),
        ({"workers": 123456, "pin_token": 654321}, "123456 654321", "123456 ***"),
        ({"pw": "swordfish"}, "is swordfish", "is ***"),
        ({"PGPW": "swordfish", "dbPin": 123456}, "swordfish 123456", "*** ***"),
        ({"worker_init": "export DB_PIN=swordfish"}, "is swordfish", "is ***"),
        ({"path": "/a", "mapping": "compact", "PINNED": "here"}, "compact here", "compact here"),
        ({"ssh_keys": True}, "True", "True"),
        ({"worker_init": "module load x/1\nexport T=a1b2c3"}, "T: a1b2c3", "T: ***"),
        ({"worker_init": "export TOKEN=swordfish; ls"}, "is swordfish", "is ***"),
        ({"worker_init": "one/two three\nfour five"}, "sh: four five: no", "sh: ***: no"),
        ({"partition": "debug", "workers": 16}, "debug has no 16", "debug has no 16"),
        ({"password": "abc"}, "abc", "abc"),
        ({"a": ""}, "a", "a"),
    ],
)
def test_what_messages_show_of_values(config, message, shown):
    hide_values(config)
    assert redacted(message) == shown


def test_values_of_another_configuration_are_forgotten():
    hide_values({"token": "hunter2"})
    hide_values({"token": "hunter3"})
    assert redacted("hunter2 hunter3") == "hunter2 ***"


@pytest.mark.parametrize("text", ['{"a": 1}', ' {"a": 1}', '["a"]', '"a": 1', "{}", "a\nb"])
def test_json_is_not_shown_even_where_it_is_none(text):
    assert without_json(text) == "..."


def test_a_path_is_shown():
    assert without_json("below/my config.json") == "below/my config.json"
