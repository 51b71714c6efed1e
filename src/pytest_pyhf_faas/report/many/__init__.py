"""Many runs, each in an environment of its own: what moved together with what."""
