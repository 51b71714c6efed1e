"""The validation suite that ships in the wheel: ``pyhf-faas validate``."""
