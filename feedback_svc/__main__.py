"""`python -m feedback_svc`: settings from the environment, then serve until a signal."""

from feedback_svc.app import build
from feedback_svc.settings import FeedbackSettings
from selm.server import run


def main() -> None:
    """Runs the feedback service."""
    run("feedback_svc", FeedbackSettings, build)


if __name__ == "__main__":
    main()
