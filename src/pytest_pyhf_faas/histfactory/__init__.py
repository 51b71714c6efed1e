"""A HistFactory likelihood of our own, and hypothesis tests by it: NumPy and SciPy, nothing else.

It checks the results of pyhf, so it uses nothing of pyhf. `workspace` reads the JSON,
`parameters` and `likelihood` are the model, `newton` descends, `search` looks for minima, and
`asymptotics` makes CLs of five fits; `hypotest` is the whole test.
"""
