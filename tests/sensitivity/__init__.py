"""Whether planted faults are found."""
