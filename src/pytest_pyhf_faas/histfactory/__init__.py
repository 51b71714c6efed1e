"""A HistFactory likelihood of our own, and hypothesis tests by it: NumPy and SciPy, nothing else.

What pyhf gives is checked with this, so that nothing of pyhf is in it. `workspace` reads the JSON,
`parameters` and `likelihood` are the model, `newton` descends, `search` looks for minima, and
`asymptotics` makes CLs of five fits; `hypotest` is all of it.
"""
