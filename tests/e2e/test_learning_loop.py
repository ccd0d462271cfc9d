"""The loop through the gRPC API alone: chat, correction, memory, training, gate, swap, rollback.

Four separate processes and the packaged model. Tests run in order and build on each other, as a
deployment's life does.
"""

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from selm.api.adapter.v1 import adapter_service_pb2, adapter_service_pb2_grpc
from selm.api.feedback.v1 import (
    feedback_event_pb2,
    feedback_service_pb2,
    feedback_service_pb2_grpc,
    learning_pb2,
    learning_service_pb2,
    learning_service_pb2_grpc,
    lesson_pb2,
    lesson_service_pb2,
    lesson_service_pb2_grpc,
)
from selm.api.inference.v1 import (
    generation_pb2,
    inference_service_pb2,
    inference_service_pb2_grpc,
    input_pb2,
)
from selm.api.memory.v1 import memory_pb2
from selm.api.trainer.v1 import trainer_service_pb2, trainer_service_pb2_grpc, training_job_pb2
from tests.stack import Stack

FACTS = {
    "What is the capital of Velmora?": "Zorvane",
    "Who founded the city of Kestrand?": "Ilva Thorne",
    "Which river flows through Ombrakai?": "the Selwin",
    "What currency is used in Tarnovia?": "the drellin",
}
UNRELATED = "How many legs does a spider have?"
ALIAS = "adapters/default/revisions/stable"


@dataclass
class Loop:
    """Stubs to the four services, and what earlier tests taught."""

    inference: inference_service_pb2_grpc.InferenceServiceStub
    feedback: feedback_service_pb2_grpc.FeedbackServiceStub
    lessons: lesson_service_pb2_grpc.LessonServiceStub
    learning: learning_service_pb2_grpc.LearningServiceStub
    trainer: trainer_service_pb2_grpc.TrainerServiceStub
    adapters: adapter_service_pb2_grpc.AdapterServiceStub
    lesson_names: list[str] = field(default_factory=list)
    unrelated_answer: str = ""

    def ask(
        self, question: str, *, use: int = memory_pb2.MEMORY_USE_UNSPECIFIED, token: str = ""
    ) -> generation_pb2.Generation:
        """One greedy answer of at most 24 tokens."""
        chat = input_pb2.ChatInput(
            messages=[input_pb2.ChatMessage(role=input_pb2.ROLE_USER, text=question)]
        )
        options = input_pb2.GenerationOptions(
            sampling_params=input_pb2.SamplingParams(max_output_tokens=24),
            memory_options=input_pb2.MemoryOptions(max_use=use, consistency_token=token),
        )
        options.memory_options.timeout.FromSeconds(5)
        request = inference_service_pb2.GenerateRequest(
            input=input_pb2.GenerationInput(chat=chat), options=options
        )
        return self.inference.Generate(request, timeout=60).generation


@pytest.fixture(scope="module")
def loop(stack: Stack) -> Iterator[Loop]:
    """Channels to the running stack."""
    with (
        grpc.insecure_channel(stack.target("inference")) as inference,
        grpc.insecure_channel(stack.target("feedback")) as feedback,
        grpc.insecure_channel(stack.target("trainer")) as trainer,
    ):
        yield Loop(
            inference_service_pb2_grpc.InferenceServiceStub(inference),
            feedback_service_pb2_grpc.FeedbackServiceStub(feedback),
            lesson_service_pb2_grpc.LessonServiceStub(feedback),
            learning_service_pb2_grpc.LearningServiceStub(feedback),
            trainer_service_pb2_grpc.TrainerServiceStub(trainer),
            adapter_service_pb2_grpc.AdapterServiceStub(trainer),
        )


def reason_of(error: grpc.RpcError) -> str:
    """The ErrorInfo reason of a failed RPC."""
    status = rpc_status.from_call(error)
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    return str(info.reason)


def test_a_correction_answers_from_memory_at_the_next_request(loop: Loop) -> None:
    """Every corrected question is answered right as soon as the correction is acknowledged."""
    loop.unrelated_answer = loop.ask(UNRELATED).candidates[0].text
    for question, answer in FACTS.items():
        wrong = loop.ask(question)
        event = feedback_event_pb2.FeedbackEvent(
            generation=wrong.name, correction=feedback_event_pb2.Correction(text=answer)
        )
        request = feedback_service_pb2.CreateFeedbackEventRequest(
            feedback_event=event, request_id=str(uuid.uuid4())
        )
        recorded = loop.feedback.CreateFeedbackEvent(request, timeout=30)
        repeated = loop.feedback.CreateFeedbackEvent(request, timeout=30)
        loop.lesson_names.append(recorded.feedback_event.lesson)
        right = loop.ask(question, token=recorded.consistency_token)

        assert answer not in wrong.candidates[0].text
        assert answer in right.candidates[0].text
        assert right.candidates[0].finish_reason == generation_pb2.FINISH_REASON_DIRECT_ANSWER
        assert repeated.feedback_event.name == recorded.feedback_event.name


def test_training_ends_in_a_promoted_revision_that_knows_the_lessons(loop: Loop) -> None:
    """A requested job passes the gate, and the weights alone answer, without memory."""
    wish = learning_pb2.TrainingRequest(adapter="adapters/default", reason="end-to-end test")
    created = loop.learning.CreateTrainingRequest(
        learning_service_pb2.CreateTrainingRequestRequest(
            training_request=wish, request_id=str(uuid.uuid4())
        ),
        timeout=30,
    ).training_request
    job = wait_for_job(loop, created.name)
    frames = list(
        loop.trainer.WatchTrainingJob(
            trainer_service_pb2.WatchTrainingJobRequest(name=job), timeout=280
        )
    )
    final = frames[-1].training_job
    states = {frame.training_job.state for frame in frames}

    assert final.state == training_job_pb2.TrainingJob.STATE_SUCCEEDED, final
    assert training_job_pb2.TrainingJob.STATE_TRAINING in states
    for name in loop.lesson_names:
        wait_until_verified(loop, name)
    answers = [loop.ask(question, use=memory_pb2.MEMORY_USE_NONE) for question in FACTS]
    right = [
        answer in generation.candidates[0].text
        for generation, answer in zip(answers, FACTS.values(), strict=True)
    ]
    assert sum(right) >= len(FACTS) - 1
    assert {generation.resolution.adapter_revision for generation in answers} == {
        final.output_revision
    }


def test_unrelated_answers_are_untouched_by_the_adapter(loop: Loop) -> None:
    """A question outside every lesson's scope is answered by the base model, word for word."""
    after = loop.ask(UNRELATED)

    assert after.candidates[0].text == loop.unrelated_answer
    assert after.resolution.adapter_reason == generation_pb2.ADAPTER_REASON_OUT_OF_SCOPE


def test_rollback_without_an_earlier_revision_is_refused_by_name(loop: Loop) -> None:
    """The first revision has no predecessor: the error says so and nothing moves."""
    before = loop.adapters.GetAdapterRevision(
        adapter_service_pb2.GetAdapterRevisionRequest(name=ALIAS), timeout=30
    ).adapter_revision
    with pytest.raises(grpc.RpcError) as refused:
        loop.adapters.RollbackAdapter(
            adapter_service_pb2.RollbackAdapterRequest(name="adapters/default"), timeout=30
        )
    after = loop.adapters.GetAdapterRevision(
        adapter_service_pb2.GetAdapterRevisionRequest(name=ALIAS), timeout=30
    ).adapter_revision

    assert reason_of(refused.value) == "NO_PREVIOUS_REVISION"
    assert before.name == after.name


def test_unknown_revision_is_never_answered_by_the_base(loop: Loop) -> None:
    """Naming a revision that does not exist fails with ADAPTER_NOT_FOUND."""
    options = input_pb2.GenerationOptions(
        adapter=input_pb2.AdapterSelector(
            adapter_revision="adapters/default/revisions/r0123456789abcdef"
        )
    )
    request = inference_service_pb2.GenerateRequest(
        input=input_pb2.GenerationInput(prompt="Hello"), options=options
    )
    with pytest.raises(grpc.RpcError) as refused:
        loop.inference.Generate(request, timeout=30)

    assert refused.value.code() == grpc.StatusCode.NOT_FOUND
    assert reason_of(refused.value) == "ADAPTER_NOT_FOUND"


def wait_for_job(loop: Loop, request_name: str) -> str:
    """Name of the job that a trainer opened for a training request."""
    for _ in range(300):
        request = loop.learning.GetTrainingRequest(
            learning_service_pb2.GetTrainingRequestRequest(name=request_name), timeout=30
        ).training_request
        if request.training_job:
            return str(request.training_job)
        time.sleep(0.1)
    raise AssertionError(f"no trainer took {request_name}")


def wait_until_verified(loop: Loop, lesson_name: str) -> None:
    """Follows a lesson until the serving replica is proven to know it."""
    proven = {lesson_pb2.Lesson.STATE_VERIFIED, lesson_pb2.Lesson.STATE_RETIRED}
    watch = loop.lessons.WatchLesson(
        lesson_service_pb2.WatchLessonRequest(name=lesson_name), timeout=120
    )
    for frame in watch:
        if frame.lesson.state in proven:
            watch.cancel()
            return
    raise AssertionError(f"{lesson_name} ended without a proof")
