"""Many runs, each in its own environment: which results moved with which factor."""
