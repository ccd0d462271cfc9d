"""`python -m inference_svc`: settings, then serve until a signal."""

from inference_svc.app import build
from inference_svc.settings import InferenceSettings
from selm.server import run


def main() -> None:
    """Runs the inference service."""
    run("inference_svc", InferenceSettings, build)


if __name__ == "__main__":
    main()
