"""Requests of DatasetService in the words of core."""

import re
from dataclasses import dataclass, replace
from datetime import datetime

from feedback_svc import core
from feedback_svc.curating import DatasetDraft, Shape
from feedback_svc.paging import BY_CREATE_TIME, Order, Page
from feedback_svc.wire.checks import check_labels, check_name, request_key
from feedback_svc.wire.lists import parse_event_filter
from feedback_svc.wire.page import parse_page, resumed
from selm import names, pages
from selm.api.feedback.v1 import dataset_service_pb2 as pb
from selm.api.feedback.v1.dataset_pb2 import Dataset, DatasetSpec, Split
from selm.errors import Violations

_ID = re.compile(r"[a-z][a-z0-9-]{2,62}")
_MAX_HOLDOUT = 0.5
# The index is the place alone.
_BY_INDEX = Order(lambda example: (example.index, ""), int)


@dataclass(frozen=True)
class DatasetExport:
    """What is exported: from an example on, behind so many of its lines."""

    name: str
    shape: Shape
    split: int
    start: int
    num_skipped: int
    digest: str

    def token_after(self, index: int, num_lines: int) -> str:
        return pages.encode(self.digest, f"{index}/{num_lines}")


def parse_create(
    request: pb.CreateDatasetRequest,
) -> tuple[DatasetDraft, core.RequestKey | None]:
    found, asked = Violations(), request.dataset
    check_name(found, names.ADAPTER, asked.adapter, "dataset.adapter", required=True)
    wanted = parse_event_filter(found, asked.spec.filter, "dataset.spec.filter")
    is_same = wanted.adapter in ("", asked.adapter)
    found.check(is_same, "dataset.spec.filter.adapter", "must be dataset.adapter, or empty")
    _check_shares(found, asked.spec)
    check_labels(found, "dataset.labels", asked.labels)
    is_id = not request.dataset_id or bool(_ID.fullmatch(request.dataset_id))
    found.check(is_id, "dataset_id", f"must match `{_ID.pattern}`")
    content = pb.CreateDatasetRequest(
        dataset=Dataset(adapter=asked.adapter, spec=asked.spec, labels=asked.labels),
        dataset_id=request.dataset_id,
    )
    digested = content.SerializeToString(deterministic=True)
    key = request_key("CreateDataset", request.request_id, digested, found)
    found.raise_if_any()
    draft = DatasetDraft(
        adapter=asked.adapter,
        wanted=replace(wanted, adapter=asked.adapter),
        dataset_id=request.dataset_id,
        holdout_share=asked.spec.holdout_share,
        seed=asked.spec.seed,
        max_author_share=asked.spec.max_author_share,
        labels=dict(asked.labels),
        spec=asked.spec.SerializeToString(deterministic=True),
    )
    return draft, key


def parse_list(request: pb.ListDatasetsRequest, tenant: str) -> Page[str, datetime]:
    """The datasets of an adapter; of all if it is empty."""
    found = Violations()
    check_name(found, names.ADAPTER, request.adapter, "adapter")
    return parse_page(found, request, tenant, request.adapter, BY_CREATE_TIME)


def parse_examples(
    request: pb.ListDatasetExamplesRequest, tenant: str
) -> Page[tuple[str, int], int]:
    """The examples of a dataset and split."""
    found = Violations()
    check_name(found, names.DATASET, request.parent, "parent", required=True)
    _check_split(found, request.split)
    wanted = (request.parent, int(request.split))
    return parse_page(found, request, tenant, wanted, _BY_INDEX)


def parse_export(request: pb.ExportDatasetRequest, tenant: str) -> DatasetExport:
    found = Violations()
    check_name(found, names.DATASET, request.name, "name", required=True)
    _check_split(found, request.split)
    is_known = request.format in pb.ExportDatasetRequest.Format.values()
    found.check(is_known, "format", "must be one of the published values")
    found.raise_if_any()
    shape = Shape(request.format or Shape.SFT)
    digest = pages.digest("dataset", tenant, request.name, int(shape), request.split)
    index, _, num_lines = (resumed(request.resume_token, digest) or "0/0").partition("/")
    return DatasetExport(request.name, shape, request.split, int(index), int(num_lines), digest)


def _check_shares(found: Violations, spec: DatasetSpec) -> None:
    # A NaN fits no comparison, and so no bound.
    is_fit = 0 <= spec.holdout_share <= _MAX_HOLDOUT
    found.check(is_fit, "dataset.spec.holdout_share", f"must be from 0 to {_MAX_HOLDOUT}")
    is_fit = 0 <= spec.max_author_share <= 1
    found.check(is_fit, "dataset.spec.max_author_share", "must be from 0 to 1")


def _check_split(found: Violations, split: int) -> None:
    found.check(split in Split.values(), "split", "must be one of the published values")
