"""Where things are in the repository."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SERVICES = REPOSITORY / "tests" / "services"
STORED = REPOSITORY / "tests" / "stored"
