"""The back room on JetStream: what was said, what became of it, and when to learn from it.

1 Recorder takes a draft, looks the generation up and appends one event, once per request id.
2 Journal replays FEEDBACK and LESSONS; LessonBook folds them and feeds the watchers.
3 Learner looks at the waiting lessons, and policy says when they make a training request.
4 RequestBook keeps requests in a bucket and folds what JOBS and DEAD_LETTERS say of them.
"""
