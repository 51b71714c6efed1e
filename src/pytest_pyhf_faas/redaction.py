"""Secrets stay out of messages, reports and pages."""

from __future__ import annotations

import os
import re

#: Environment variables with the secret of the identity that a CI uses, under its names in the SDK
#: of Globus Compute and in that of `funcx` 2.4.
SECRETS = ("GLOBUS_COMPUTE_CLIENT_SECRET", "FUNCX_SDK_CLIENT_SECRET")
_PASSWORD = re.compile(r"//[^/\s]+@")


def redacted(text: str) -> str:
    """Return a message without the secrets that it might show."""
    for name in SECRETS:
        secret = os.environ.get(name)
        if secret:
            text = text.replace(secret, "***")
    return _PASSWORD.sub("//***@", text)
