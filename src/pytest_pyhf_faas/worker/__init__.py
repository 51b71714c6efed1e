"""Code that runs on a worker: it needs pyhf, `histfactory` and this folder only."""
