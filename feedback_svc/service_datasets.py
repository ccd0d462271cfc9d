"""The servicer of datasets: parse, call, render. No logic, no broker."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from feedback_svc.curating import Datasets
from feedback_svc.render.datasets import export_lines, render_dataset, render_example
from feedback_svc.render.pages import fitting
from feedback_svc.wire import datasets as wire
from feedback_svc.wire.checks import parse_name
from selm import names
from selm.api.feedback.v1 import dataset_service_pb2 as pb
from selm.api.feedback.v1 import dataset_service_pb2_grpc
from selm.auth import current_principal
from selm.errors import SelmError

READ, WRITE, EXPORT = "training.read", "training.write", "feedback.export"


class DatasetService(dataset_service_pb2_grpc.DatasetServiceServicer):
    """Feedback frozen, and taken out."""

    def __init__(self, datasets: Datasets) -> None:
        self._datasets = datasets

    async def CreateDataset(self, request: Any, context: Any) -> Any:
        tenant = _tenant(WRITE)
        draft, key = wire.parse_create(request)
        dataset = await self._datasets.create(tenant, draft, key)
        return pb.CreateDatasetResponse(dataset=render_dataset(dataset))

    async def GetDataset(self, request: Any, context: Any) -> Any:
        tenant = _tenant(READ)
        dataset = await self._datasets.get(tenant, parse_name(names.DATASET, request.name))
        return pb.GetDatasetResponse(dataset=render_dataset(dataset))

    async def ListDatasets(self, request: Any, context: Any) -> Any:
        tenant = _tenant(READ)
        page = wire.parse_list(request, tenant)
        found = await self._datasets.list(tenant, page.adapter, page.before, page.size + 1)
        datasets = fitting(map(render_dataset, found[: page.size]))
        token = "" if len(datasets) == len(found) else page.token_after(datasets[-1])
        return pb.ListDatasetsResponse(datasets=datasets, next_page_token=token)

    async def ListDatasetExamples(self, request: Any, context: Any) -> Any:
        tenant = _tenant(EXPORT)
        page = wire.parse_examples(request, tenant)
        rows = self._datasets.examples(tenant, page.name, page.split, page.start)
        found = [render_example(one) for one in await _first(rows, page.size + 1)]
        examples = fitting(found[: page.size])
        token = "" if len(examples) == len(found) else page.token_after(examples[-1])
        return pb.ListDatasetExamplesResponse(examples=examples, next_page_token=token)

    async def ExportDataset(self, request: Any, context: Any) -> AsyncIterator[Any]:
        tenant = _tenant(EXPORT)
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


def _tenant(scope: str) -> str:
    """The caller's tenant, if the caller may do this."""
    caller = current_principal()
    if not caller.has_scope(scope):
        text = f"the credential lacks scope {scope}"
        raise SelmError("SCOPE_MISSING", text, metadata={"scope": scope})
    return caller.tenant
