"""Which events fit a filter. Pure."""

from feedback_svc import core
from feedback_svc.signals import kind_of


def matches(record: core.FeedbackRecord, wanted: core.EventFilter) -> bool:
    """All conditions hold; unasked, an erased event fits none."""
    return (
        (not wanted.kinds or kind_of(record.signal) in wanted.kinds)
        and _fits_state(record.state, wanted)
        and wanted.generation in ("", record.generation)
        and wanted.conversation in ("", record.conversation)
        and wanted.adapter in ("", record.adapter)
        and wanted.adapter_revision in ("", record.adapter_revision)
        and wanted.user in ("", record.user)
        and wanted.author in ("", record.author)
        and (wanted.min_consent is None or record.consent >= wanted.min_consent)
        and all(record.labels.get(key) == value for key, value in wanted.labels.items())
        and record.sequence >= wanted.first_sequence
        and (not wanted.last_sequence or record.sequence <= wanted.last_sequence)
    )


def _fits_state(state: core.EventState, wanted: core.EventFilter) -> bool:
    return state in wanted.states if wanted.states else state is not core.EventState.ERASED
