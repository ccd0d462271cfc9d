"""`selm datasets` against a running service: freeze, look, take out, and go on after a break."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from selm.api.feedback.v1 import dataset_service_pb2 as pb
from selm.cli import app
from selm.cli_datasets import part_of
from tests.integration.feedback.datasets_client import Datasets


@pytest.fixture
async def client(
    nats_url: str, tenant: str, running: Any, client_of: Any, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Any]:
    async with (
        running(nats_url, training_paused=True) as address,
        client_of(address, tenant) as client,
    ):
        monkeypatch.setenv("SELM_FEEDBACK_TARGET", address)
        monkeypatch.setenv("NO_COLOR", "1")
        yield await client.wait_ready()


@pytest.fixture
def selm(client: Any) -> Any:
    """Runs `selm datasets` in a thread; its exit code and output."""

    async def run(*arguments: str) -> tuple[int, str]:
        words = ["--tenant", client.tenant, "datasets", *arguments]
        result = await asyncio.to_thread(CliRunner().invoke, app, words)
        return result.exit_code, result.output

    return run


async def test_a_set_is_frozen_looked_at_and_taken_out(
    client: Any, peers: Any, selm: Any, tmp_path: Path
) -> None:
    for town in ("Aurum", "Bolm", "Carn"):
        await client.correct(await peers.generate(f"Who leads {town}?"), f"{town} has a mayor")
    file = tmp_path / "train.jsonl"
    created = await selm("create", "town-mayors", "-o", "json")
    listed, shown = await selm("ls"), await selm("get", "town-mayors")
    exported = await selm("export", "town-mayors", str(file))
    taken, unknown = await selm("create", "town-mayors"), await selm("get", "never-was")

    # The service logs to the same stream here.
    (reply,) = (line for line in created[1].splitlines() if line.startswith("{"))
    dataset = json.loads(reply)
    assert dataset["exampleCount"] == "3"
    assert "datasets/town-mayors" in listed[1]
    assert dataset["sha256"] in shown[1]
    assert exported[0] == 0, exported[1]
    said = [json.loads(line)["completion"][0]["content"] for line in file.read_text().splitlines()]
    assert said == ["Aurum has a mayor", "Bolm has a mayor", "Carn has a mayor"]
    assert await asyncio.to_thread(os.listdir, tmp_path) == [file.name]
    assert (taken[0], "RESOURCE_EXISTS" in taken[1]) == (64 + 6, True)
    assert (unknown[0], "RESOURCE_NOT_FOUND" in unknown[1]) == (64 + 5, True)


async def test_a_broken_export_goes_on_where_it_ended(
    client: Any, peers: Any, selm: Any, tmp_path: Path
) -> None:
    """What lies behind the last token noted is cut off, so that no line is torn or comes twice."""
    for town in ("Aurum", "Bolm", "Carn"):
        await client.correct(await peers.generate(f"Who leads {town}?"), f"{town} has a mayor")
    datasets = Datasets(client.channel, client.metadata)
    dataset = await datasets.freeze()
    whole_format = pb.ExportDatasetRequest.FORMAT_SFT
    whole = await datasets.frames(dataset.name, format=whole_format)
    file = tmp_path / "train.jsonl"
    request = pb.ExportDatasetRequest(name=dataset.name, format=whole_format)
    part = part_of(file, request)
    first = f"{whole[0].json}\n"
    part.write_text(first + '{"torn')
    part.with_suffix(".resume").write_text(f"{len(first)} 1 {whole[0].resume_token}")

    code, output = await selm("export", dataset.name, str(file))
    assert code == 0, output
    assert file.read_text().splitlines() == [frame.json for frame in whole]
