"""Each analysis as a whole, with `--faas-items analysis`: whether each CLs is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_pyhf_faas import AnalysisResult, AssertAnalysis


def test_cls(analysis_result: AnalysisResult, assert_analysis: AssertAnalysis) -> None:
    assert_analysis(analysis_result)
