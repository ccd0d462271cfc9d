"""The servicer of datasets: parse, call, render. No logic, no broker."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from feedback_svc.access import guarded
from feedback_svc.curating import Datasets
from feedback_svc.render.datasets import export_lines, render_dataset, render_example
from feedback_svc.wire import datasets as wire
from feedback_svc.wire.checks import parse_name
from selm import names
from selm.api.feedback.v1 import dataset_service_pb2 as pb
from selm.api.feedback.v1 import dataset_service_pb2_grpc
from selm.auth import current_principal


@guarded
class DatasetService(dataset_service_pb2_grpc.DatasetServiceServicer):
    """Feedback frozen, and taken out."""

    def __init__(self, datasets: Datasets) -> None:
        self._datasets = datasets

    async def CreateDataset(self, request: Any, context: Any) -> Any:
        tenant = current_principal().tenant
        draft, key = wire.parse_create(request)
        dataset = await self._datasets.create(tenant, draft, key)
        return pb.CreateDatasetResponse(dataset=render_dataset(dataset))

    async def GetDataset(self, request: Any, context: Any) -> Any:
        tenant = current_principal().tenant
        dataset = await self._datasets.get(tenant, parse_name(names.DATASET, request.name))
        return pb.GetDatasetResponse(dataset=render_dataset(dataset))

    async def ListDatasets(self, request: Any, context: Any) -> Any:
        tenant = current_principal().tenant
        page = wire.parse_list(request, tenant)
        found = await self._datasets.list(tenant, page.wanted, page.start, page.limit)
        datasets, token = page.of(found, render_dataset)
        return pb.ListDatasetsResponse(datasets=datasets, next_page_token=token)

    async def ListDatasetExamples(self, request: Any, context: Any) -> Any:
        tenant = current_principal().tenant
        page = wire.parse_examples(request, tenant)
        begin = page.start[0] + 1 if page.start else 0
        rows = self._datasets.examples(tenant, *page.wanted, begin)
        examples, token = page.of(await _first(rows, page.limit), render_example)
        return pb.ListDatasetExamplesResponse(examples=examples, next_page_token=token)

    async def ExportDataset(self, request: Any, context: Any) -> AsyncIterator[Any]:
        tenant = current_principal().tenant
        wanted = wire.parse_export(request, tenant)
        rows = self._datasets.examples(tenant, wanted.name, wanted.split, wanted.start)
        async with aclosing(rows) as examples:
            async for one in examples:
                skipped = wanted.num_skipped if one.index == wanted.start else 0
                lines = export_lines(one, wanted.shape)
                for number, line in enumerate(lines[skipped:], skipped + 1):
                    token = wanted.token_after(one.index, number)
                    yield pb.ExportDatasetResponse(json=line, resume_token=token)


async def _first(items: AsyncGenerator[Any], number: int) -> list[Any]:
    found: list[Any] = []
    async with aclosing(items):
        async for item in items:
            found.append(item)
            if len(found) == number:
                break
    return found
