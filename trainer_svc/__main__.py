"""`python -m trainer_svc`: settings from the environment, then serve until a signal."""

from selm.server import run
from trainer_svc.app import build
from trainer_svc.settings import TrainerSettings


def main() -> None:
    """Runs the trainer service."""
    run("trainer_svc", TrainerSettings, build)


if __name__ == "__main__":
    main()
