"""The validation suite that ships in the wheel: ``pytest --pyargs pytest_pyhf_faas.suite``."""
