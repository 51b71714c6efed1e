"""The fits of an endpoint: tasks become results, each once, and none is lost."""
