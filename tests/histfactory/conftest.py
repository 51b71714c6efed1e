"""All of these tests compare with pyhf as it is with NumPy."""

import pyhf
import pytest


@pytest.fixture(autouse=True, scope="module")
def pyhf_with_numpy():
    pyhf.set_backend("numpy", "scipy")
