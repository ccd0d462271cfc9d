"""`python -m memory_svc`: settings from the environment, then serve until a signal."""

from memory_svc.app import build
from memory_svc.settings import MemorySettings
from selm.server import run


def main() -> None:
    """Runs the memory service."""
    run("memory_svc", MemorySettings, build)


if __name__ == "__main__":
    main()
