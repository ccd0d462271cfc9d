"""Datasets, their examples and the lines of an export, as they are answered."""

import json

from google.protobuf import json_format

from feedback_svc import curating
from feedback_svc.curating import Shape
from feedback_svc.datasets.shapes import dpo_lines, kto_lines, sft_lines
from selm.api.error.v1.error_reason_pb2 import ErrorReason
from selm.api.feedback.v1 import dataset_pb2 as pb
from selm.api.feedback.v1.feedback_event_pb2 import FeedbackKind

_SHAPES = {Shape.SFT: sft_lines, Shape.DPO: dpo_lines, Shape.KTO: kto_lines}


def render_dataset(dataset: curating.Dataset) -> pb.Dataset:
    rendered = pb.Dataset(
        name=dataset.name,
        adapter=dataset.adapter,
        spec=pb.DatasetSpec.FromString(dataset.spec),
        state=pb.Dataset.State.ValueType(dataset.state),
        last_sequence=dataset.last_sequence,
        sha256=dataset.sha256,
        example_count=dataset.num_examples,
        counts=[
            pb.DatasetCount(
                split=pb.Split.ValueType(count.split),
                kind=FeedbackKind.ValueType(count.kind),
                example_count=count.number,
            )
            for count in dataset.counts
        ],
        exclusions=[
            pb.Exclusion(reason=ErrorReason.Value(f"ERROR_REASON_{reason}"), feedback_count=number)
            for reason, number in dataset.exclusions.items()
        ],
        size_bytes=dataset.size_bytes,
        labels=dataset.labels,
    )
    rendered.create_time.FromDatetime(dataset.create_time)
    return rendered


def render_example(indexed: curating.IndexedExample) -> pb.Example:
    example = indexed.example
    return pb.Example(
        index=indexed.index,
        split=pb.Split.ValueType(example.split),
        kind=FeedbackKind.ValueType(example.kind),
        lesson=example.lesson,
        feedback_event=example.feedback_event,
        prompt=example.prompt,
        completion=example.completion,
        rejected_completion=example.rejected,
        weight=example.weight,
        sha256=example.sha256,
        generation=example.generation,
        author=example.author,
        label=example.label,
        paraphrases=example.paraphrases,
        adapter_revision=example.adapter_revision,
    )


def render_full(example: pb.Example) -> str:
    """Every field, on one line: a loader infers its columns from the first lines."""
    line: str = json_format.MessageToJson(
        example, indent=None, always_print_fields_with_no_presence=True
    )
    return line


def export_lines(indexed: curating.IndexedExample, shape: Shape) -> list[str]:
    """The example in a shape; some shapes have no line for it, or two."""
    if shape is not Shape.FULL:
        return [json.dumps(line) for line in _SHAPES[shape](indexed.example)]
    example = indexed.example
    fields = json.loads(render_full(render_example(indexed)))
    # Also where it is unset: every line has the same columns.
    fields["label"] = example.label
    source = {"lesson": example.lesson, "feedback_event": example.feedback_event}
    return [json.dumps(fields | {"provenance": source})]
