"""What runs on a worker: it needs pyhf, `histfactory` and this folder, nothing else of ours."""
