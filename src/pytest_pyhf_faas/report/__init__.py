"""The report of a run: page, plots, tables and comparisons."""
