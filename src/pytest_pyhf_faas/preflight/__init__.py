"""Whether an endpoint is ready."""
