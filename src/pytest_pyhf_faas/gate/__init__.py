"""The suite in many environments: made, run, and compared."""
