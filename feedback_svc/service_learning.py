"""The servicer of learning: parse, call, render. No logic, no broker."""

from datetime import UTC, datetime
from typing import Any

from feedback_svc import dead_letters, learning
from feedback_svc.access import guarded
from feedback_svc.render.learning import render_policy, render_request, render_stats
from feedback_svc.render.letters import render_letter
from feedback_svc.wire.checks import parse_adapter_filter, parse_name
from feedback_svc.wire.learning import (
    parse_cancel_request,
    parse_list_requests,
    parse_training_request,
    parse_update_request,
)
from feedback_svc.wire.letters import (
    parse_discard_letters,
    parse_list_letters,
    parse_replay_events,
    parse_replay_letters,
)
from feedback_svc.wire.policies import parse_policy_name, parse_update_policy
from selm import names
from selm.api.feedback.v1 import learning_service_pb2 as pb
from selm.api.feedback.v1 import learning_service_pb2_grpc
from selm.auth import current_principal


@guarded
class LearningService(learning_service_pb2_grpc.LearningServiceServicer):
    """Asking to learn, when to learn by itself, what waits, and what got stuck."""

    def __init__(
        self,
        learning: learning.Learning,
        policies: learning.PolicyDesk,
        letters: dead_letters.DeadLetters,
    ) -> None:
        self._learning = learning
        self._policies = policies
        self._letters = letters

    async def GetTrainingPolicy(self, request: Any, context: Any) -> Any:
        adapter = parse_policy_name(request.name)
        policy = await self._policies.get(current_principal().tenant, adapter)
        return pb.GetTrainingPolicyResponse(training_policy=render_policy(adapter, policy))

    async def UpdateTrainingPolicy(self, request: Any, context: Any) -> Any:
        change, key = parse_update_policy(request)
        policy = await self._policies.change(current_principal().tenant, change, key)
        rendered = render_policy(change.adapter, policy)
        return pb.UpdateTrainingPolicyResponse(training_policy=rendered)

    async def CreateTrainingRequest(self, request: Any, context: Any) -> Any:
        wish, key = parse_training_request(request)
        caller = current_principal()
        view = await self._learning.request(caller.tenant, caller.subject, wish, key)
        return pb.CreateTrainingRequestResponse(training_request=render_request(view))

    async def GetTrainingRequest(self, request: Any, context: Any) -> Any:
        name = parse_name(names.TRAINING_REQUEST, request.name)
        view = await self._learning.get(current_principal().tenant, name)
        return pb.GetTrainingRequestResponse(training_request=render_request(view))

    async def ListTrainingRequests(self, request: Any, context: Any) -> Any:
        tenant = current_principal().tenant
        page = parse_list_requests(request, tenant)
        found = await self._learning.list(tenant, page.wanted, page.start, page.limit)
        requests, token = page.of(found, render_request)
        return pb.ListTrainingRequestsResponse(training_requests=requests, next_page_token=token)

    async def UpdateTrainingRequest(self, request: Any, context: Any) -> Any:
        name, priority, key = parse_update_request(request)
        tenant = current_principal().tenant
        view = await self._learning.prioritise(tenant, name, priority, key)
        return pb.UpdateTrainingRequestResponse(training_request=render_request(view))

    async def CancelTrainingRequest(self, request: Any, context: Any) -> Any:
        name, key = parse_cancel_request(request)
        caller = current_principal()
        view = await self._learning.cancel(caller.tenant, caller.subject, name, key)
        return pb.CancelTrainingRequestResponse(training_request=render_request(view))

    async def GetQueueStats(self, request: Any, context: Any) -> Any:
        adapter = parse_adapter_filter(request.adapter)
        numbers = await self._learning.stats(current_principal().tenant, adapter)
        return render_stats(numbers, datetime.now(UTC))

    async def ListDeadLetters(self, request: Any, context: Any) -> Any:
        tenant = current_principal().tenant
        page = parse_list_letters(request, tenant)
        found = await self._letters.list(tenant, page.wanted, page.start, page.limit)
        letters, token = page.of(found, render_letter)
        return pb.ListDeadLettersResponse(dead_letters=letters, next_page_token=token)

    async def ReplayDeadLetters(self, request: Any, context: Any) -> Any:
        letters, key = parse_replay_letters(request)
        caller = current_principal()
        count = await self._letters.replay(caller.tenant, caller.subject, letters, key)
        return pb.ReplayDeadLettersResponse(replay_count=count)

    async def DiscardDeadLetters(self, request: Any, context: Any) -> Any:
        letters, reason, key = parse_discard_letters(request)
        caller = current_principal()
        count = await self._letters.discard(caller.tenant, caller.subject, letters, reason, key)
        return pb.DiscardDeadLettersResponse(discard_count=count)

    async def ReplayFeedbackEvents(self, request: Any, context: Any) -> Any:
        wanted, key = parse_replay_events(request)
        count = await self._letters.replay_events(current_principal().tenant, wanted, key)
        return pb.ReplayFeedbackEventsResponse(replay_count=count)
