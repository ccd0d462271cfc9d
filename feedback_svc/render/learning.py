"""Training requests, policies and queue numbers as they are answered."""

from collections.abc import Sequence
from datetime import datetime

from feedback_svc import learning
from feedback_svc.render.failures import render_failure
from selm import names
from selm.api.feedback.v1 import feedback_event_pb2 as pb
from selm.api.feedback.v1.learning_pb2 import QueueStats, TrainingPolicy, TrainingRequest
from selm.api.feedback.v1.learning_service_pb2 import GetQueueStatsResponse


def render_request(view: learning.RequestView) -> TrainingRequest:
    wish = view.request
    request = TrainingRequest(
        name=wish.name,
        adapter=wish.adapter,
        state=TrainingRequest.State.Value(f"STATE_{view.state}"),
        trigger=TrainingRequest.Trigger.ValueType(wish.trigger),
        priority=wish.priority,
        from_base=wish.from_base,
        reason=wish.reason or view.held_by,
        lesson_count=len(wish.lessons),
        training_job=view.job.job if view.job else "",
        requester=wish.requester,
        delivery_count=view.job.num_attempts if view.job else 0,
    )
    if view.failure:
        request.failure.CopyFrom(render_failure(view.failure))
    request.create_time.FromDatetime(wish.create_time)
    request.update_time.FromDatetime(view.update_time)
    return request


def render_stats(numbers: Sequence[learning.QueueNumbers], now: datetime) -> GetQueueStatsResponse:
    response = GetQueueStatsResponse()
    for number in numbers:
        stats = QueueStats(
            adapter=number.adapter,
            kind=pb.FeedbackKind.ValueType(number.kind),
            waiting_lessons=number.num_waiting_lessons,
            waiting_requests=number.num_waiting_requests,
            running_requests=number.num_running_requests,
            redelivery_count=number.num_redeliveries,
            dead_letter_count=number.num_dead_letters,
        )
        stats.oldest_age.FromMicroseconds(round(number.oldest_age_s * 1e6))
        response.stats.append(stats)
    response.measure_time.FromDatetime(now)
    return response


def render_policy(adapter: str, policy: learning.TrainingPolicy) -> TrainingPolicy:
    """With the defaults filled in; an unlimited budget stays unset."""
    rendered = TrainingPolicy(
        name=names.training_policy_name(adapter),
        paused=policy.paused,
        min_lessons=policy.min_lessons,
        schedule=policy.schedule,
        review_required=policy.review_required,
        quorum_authors=policy.quorum_authors,
        max_author_share=policy.max_author_share,
        default_consent=pb.Consent.ValueType(policy.default_consent),
        etag=policy.etag,
    )
    rendered.max_lesson_age.FromMicroseconds(round(policy.idle_s * 1e6))
    rendered.debounce.FromMicroseconds(round(policy.debounce_s * 1e6))
    rendered.cooldown.FromMicroseconds(round(policy.cooldown_s * 1e6))
    if policy.daily_budget_s is not None:
        rendered.daily_budget.FromMicroseconds(round(policy.daily_budget_s * 1e6))
    if policy.update_time:
        rendered.update_time.FromDatetime(policy.update_time)
    return rendered
