"""TrainerService and EvaluationService: parse, call, render."""

from collections.abc import AsyncIterator
from typing import Any

from selm import names, pages
from selm.api.trainer.v1 import evaluation_service_pb2 as evaluations
from selm.api.trainer.v1 import trainer_service_pb2 as pb
from selm.api.trainer.v1.evaluation_service_pb2_grpc import EvaluationServiceServicer
from selm.api.trainer.v1.trainer_service_pb2_grpc import TrainerServiceServicer
from selm.auth import current_principal
from trainer_svc import render, render_jobs, wire
from trainer_svc.registry.datasets import EvaluationRegistry
from trainer_svc.registry.jobs import JobRegistry
from trainer_svc.training.desk import Desk
from trainer_svc.training.watch import JobWatch


class TrainerServicer(TrainerServiceServicer):
    """Training jobs."""

    def __init__(self, jobs: JobRegistry, watch: JobWatch, desk: Desk) -> None:
        self._jobs = jobs
        self._watch = watch
        self._desk = desk

    async def GetTrainingJob(self, request: pb.GetTrainingJobRequest, context: Any) -> Any:
        job_id = wire.parse_name(names.TRAINING_JOB, request.name)
        job = await self._jobs.get(current_principal().tenant, job_id)
        return pb.GetTrainingJobResponse(training_job=render_jobs.training_job(job))

    async def ListTrainingJobs(self, request: pb.ListTrainingJobsRequest, context: Any) -> Any:
        tenant = current_principal().tenant
        page, adapter_id, states = wire.parse_list_jobs(request, tenant)
        found = [
            job
            for job in await self._jobs.list_all(tenant)
            if (not adapter_id or job.adapter_id == adapter_id)
            and (not states or job.state in states)
        ]
        jobs, cursor = wire.cut(found, page, lambda job: job.job_id)
        return pb.ListTrainingJobsResponse(
            training_jobs=[render_jobs.training_job(job) for job in jobs],
            next_page_token=pages.encode(page.query, cursor) if cursor else "",
        )

    async def WatchTrainingJob(
        self, request: pb.WatchTrainingJobRequest, context: Any
    ) -> AsyncIterator[pb.WatchTrainingJobResponse]:
        job_id = wire.parse_name(names.TRAINING_JOB, request.name)
        async for job in self._watch.follow(current_principal().tenant, job_id):
            yield pb.WatchTrainingJobResponse(training_job=render_jobs.training_job(job))

    async def CancelTrainingJob(self, request: pb.CancelTrainingJobRequest, context: Any) -> Any:
        job_id = wire.parse_cancel(request)
        job = await self._desk.cancel(current_principal().tenant, job_id)
        return pb.CancelTrainingJobResponse(training_job=render_jobs.training_job(job))


class EvaluationServicer(EvaluationServiceServicer):
    """Evaluations."""

    def __init__(self, evaluations: EvaluationRegistry) -> None:
        self._evaluations = evaluations

    async def GetEvaluation(self, request: evaluations.GetEvaluationRequest, context: Any) -> Any:
        evaluation_id = wire.parse_name(names.EVALUATION, request.name)
        found = await self._evaluations.get(current_principal().tenant, evaluation_id)
        return evaluations.GetEvaluationResponse(evaluation=render.evaluation(found))
