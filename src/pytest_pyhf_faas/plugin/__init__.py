"""The pytest layer: options, hooks, fixtures, and what of a run is taken down."""
