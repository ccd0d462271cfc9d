"""Dead letters as they are answered."""

from feedback_svc.dead_letters import DeadLetter
from feedback_svc.render.failures import render_failure
from selm.api.feedback.v1 import learning_pb2 as pb


def render_letter(letter: DeadLetter) -> pb.DeadLetter:
    rendered = pb.DeadLetter(
        name=letter.name,
        state=pb.DeadLetter.State.Value(f"STATE_{letter.state}"),
        stream=letter.stream,
        subject=letter.subject,
        sequence=letter.sequence,
        consumer=letter.consumer,
        message_type=letter.message_type,
        delivery_count=letter.num_deliveries,
        failure=render_failure(letter.failure),
    )
    rendered.create_time.FromDatetime(letter.create_time)
    rendered.update_time.FromDatetime(letter.update_time)
    return rendered
