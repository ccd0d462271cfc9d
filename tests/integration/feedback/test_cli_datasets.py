"""`selm datasets` against a running service: freeze, look, take out, and go on after a break."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from selm.api.feedback.v1 import dataset_service_pb2 as pb
from selm.cli_datasets import part_of
from tests.integration.feedback.datasets_client import Datasets


async def test_a_set_is_frozen_looked_at_and_taken_out(
    peers: Any, selm: Any, tmp_path: Path
) -> None:
    for town in ("Aurum", "Bolm", "Carn"):
        await selm.client.correct(await peers.generate(f"Who leads {town}?"), f"{town} has a mayor")
    file = tmp_path / "train.jsonl"
    dataset = json.loads(await selm("datasets", "create", "town-mayors", "-o", "json"))
    listed, shown = await selm("datasets", "ls"), await selm("datasets", "get", "town-mayors")
    await selm("datasets", "export", "town-mayors", str(file))
    taken = await selm.run("datasets", "create", "town-mayors")
    unknown = await selm.run("datasets", "get", "never-was")

    assert dataset["exampleCount"] == "3"
    assert "datasets/town-mayors" in listed
    assert dataset["sha256"] in shown
    said = [json.loads(line)["completion"][0]["content"] for line in file.read_text().splitlines()]
    assert said == ["Aurum has a mayor", "Bolm has a mayor", "Carn has a mayor"]
    assert await asyncio.to_thread(os.listdir, tmp_path) == [file.name]
    assert (taken.exit_code, "RESOURCE_EXISTS" in taken.stderr) == (64 + 6, True)
    assert (unknown.exit_code, "RESOURCE_NOT_FOUND" in unknown.stderr) == (64 + 5, True)


async def test_a_broken_export_goes_on_where_it_ended(
    peers: Any, selm: Any, tmp_path: Path
) -> None:
    """What lies behind the last token noted is cut off, so that no line is torn or comes twice."""
    for town in ("Aurum", "Bolm", "Carn"):
        await selm.client.correct(await peers.generate(f"Who leads {town}?"), f"{town} has a mayor")
    datasets = Datasets(selm.client.channel, selm.client.metadata)
    dataset = await datasets.freeze()
    whole_format = pb.ExportDatasetRequest.FORMAT_SFT
    whole = await datasets.frames(dataset.name, format=whole_format)
    file = tmp_path / "train.jsonl"
    request = pb.ExportDatasetRequest(name=dataset.name, format=whole_format)
    part = part_of(file, request)
    first = f"{whole[0].json}\n"
    part.write_text(first + '{"torn')
    part.with_suffix(".resume").write_text(f"{len(first)} 1 {whole[0].resume_token}")

    await selm("datasets", "export", dataset.name, str(file))
    assert file.read_text().splitlines() == [frame.json for frame in whole]
