"""The back room on JetStream: what was said and what became of it.

1 Recorder takes a draft, looks the generation up and appends one event, once per request id.
2 Journal replays FEEDBACK and LESSONS; LessonBook folds them and feeds the watchers.
3 LessonViews shows lessons beside the jobs that work on them; the room training makes those.
"""
