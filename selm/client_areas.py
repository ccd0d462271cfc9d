"""The client's four areas: one per process, holding the generated stubs of what it serves."""

import grpc

from selm.api.adapter.v1 import adapter_service_pb2_grpc
from selm.api.feedback.v1 import (
    dataset_service_pb2_grpc,
    feedback_service_pb2_grpc,
    learning_service_pb2_grpc,
    lesson_service_pb2_grpc,
    review_service_pb2_grpc,
)
from selm.api.inference.v1 import inference_service_pb2_grpc, replica_service_pb2_grpc
from selm.api.memory.v1 import memory_admin_service_pb2_grpc, memory_service_pb2_grpc
from selm.api.ops.v1 import erasure_service_pb2_grpc, server_service_pb2_grpc
from selm.api.trainer.v1 import evaluation_service_pb2_grpc, trainer_service_pb2_grpc


class InferenceArea:
    """Stubs of inference_svc."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.service = inference_service_pb2_grpc.InferenceServiceStub(channel)
        self.replica = replica_service_pb2_grpc.ReplicaServiceStub(channel)
        self.server = server_service_pb2_grpc.ServerServiceStub(channel)


class MemoryArea:
    """Stubs of memory_svc."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.service = memory_service_pb2_grpc.MemoryServiceStub(channel)
        self.admin = memory_admin_service_pb2_grpc.MemoryAdminServiceStub(channel)
        self.server = server_service_pb2_grpc.ServerServiceStub(channel)


class FeedbackArea:
    """Stubs of feedback_svc."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.service = feedback_service_pb2_grpc.FeedbackServiceStub(channel)
        self.lessons = lesson_service_pb2_grpc.LessonServiceStub(channel)
        self.learning = learning_service_pb2_grpc.LearningServiceStub(channel)
        self.review = review_service_pb2_grpc.ReviewServiceStub(channel)
        self.datasets = dataset_service_pb2_grpc.DatasetServiceStub(channel)
        self.erasures = erasure_service_pb2_grpc.ErasureServiceStub(channel)
        self.server = server_service_pb2_grpc.ServerServiceStub(channel)


class TrainerArea:
    """Stubs of trainer_svc, which also keeps the registry of adapters."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.service = trainer_service_pb2_grpc.TrainerServiceStub(channel)
        self.adapters = adapter_service_pb2_grpc.AdapterServiceStub(channel)
        self.evaluations = evaluation_service_pb2_grpc.EvaluationServiceStub(channel)
        self.server = server_service_pb2_grpc.ServerServiceStub(channel)
