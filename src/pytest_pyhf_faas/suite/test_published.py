"""Each analysis: whether each published upper limit is reproduced: by ``--faas-quantity limit``.

There is a test for each hypothesis whose published limit is found; see ``--faas-published``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_pyhf_faas import AssertPublished, Missing, PatchReference, PublishedResult


def test_published(
    published_result: PublishedResult,
    reference_result: PatchReference | Missing,
    assert_published: AssertPublished,
) -> None:
    assert_published(published_result, reference_result)
