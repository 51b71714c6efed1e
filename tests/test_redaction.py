"""Secrets are shown nowhere, and all else as it is."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pytest_pyhf_faas.engines.globus_client import CLIENT_SECRET, LEGACY_CLIENT_SECRET
from pytest_pyhf_faas.redaction import SECRETS, redacted

relaxed = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200
)
secrets = st.text("abcXYZ019+/=-_.~ ", min_size=1, max_size=40).filter(str.strip)


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
