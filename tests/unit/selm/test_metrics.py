"""The metrics port."""

import urllib.request

import pytest

from selm.metrics import BUILD_INFO, serve_metrics
from selm.testing import free_port


def test_metrics_are_served_while_the_block_runs() -> None:
    """A scrape finds our names; afterwards the port is free again."""
    BUILD_INFO.labels("test_svc", "1", "").set(1)
    port = free_port()
    for _ in range(2):
        with serve_metrics(port) as bound:
            text = urllib.request.urlopen(f"http://127.0.0.1:{bound}/metrics").read().decode()

    assert 'selm_build_info{commit="",service="test_svc",version="1"} 1.0' in text


def test_a_taken_port_is_an_error() -> None:
    """Two processes never share a metrics port."""
    with serve_metrics(0) as port, pytest.raises(OSError, match="in use"), serve_metrics(port):
        raise AssertionError("unreachable")
