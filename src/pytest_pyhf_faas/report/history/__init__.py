"""Many runs in the order of time: what each pallet gave, how long it took, and what changed."""
