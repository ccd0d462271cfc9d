"""Examples as lines of a stored dataset: ProtoJSON on one side, curating on the other."""

from google.protobuf import json_format

from feedback_svc import curating
from feedback_svc.render.datasets import render_example, render_full
from feedback_svc.signals import Kind
from selm.api.feedback.v1.dataset_pb2 import Example
from selm.errors import SelmError


class ExampleLines:
    """Fulfils curating.ExampleCodec."""

    def line(self, example: curating.IndexedExample) -> str:
        return render_full(render_example(example))

    def example(self, line: str) -> curating.IndexedExample:
        try:
            parsed = json_format.Parse(line, Example(), ignore_unknown_fields=True)
        except json_format.ParseError as error:
            raise SelmError("DIGEST_MISMATCH", "a line of the dataset is unreadable") from error
        return curating.IndexedExample(parsed.index, _example_of(parsed))


def _example_of(line: Example) -> curating.Example:
    return curating.Example(
        split=line.split,
        kind=Kind(line.kind),
        prompt=line.prompt,
        completion=line.completion,
        rejected=line.rejected_completion,
        label=line.label if line.HasField("label") else None,
        paraphrases=tuple(line.paraphrases),
        lesson=line.lesson,
        feedback_event=line.feedback_event,
        generation=line.generation,
        author=line.author,
        adapter_revision=line.adapter_revision,
        weight=line.weight,
        sha256=line.sha256,
    )
