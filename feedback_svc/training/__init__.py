"""The back room of learning: when an adapter is trained, and what becomes of each request.

1 PolicyBook holds each adapter's policy. 2 Learner looks at what waits, and rules decide. 3 Maker
makes a request exist and marks its lessons QUEUED. 4 Dispatcher lets the next request of a tenant
into the work queue, takes it back for a more urgent one, and cancels. 5 RequestBook tells how each
stands. 6 dead_letters keeps what consumers gave up on. The desks answer calls.
"""
