"""The pytest layer: options, hooks, fixtures, and the record of a run."""
