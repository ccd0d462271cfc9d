"""feedback_svc: the durable record of what users say about answers, and when to learn from it.

It knows generations only by the events that inference_svc published, lessons only by the steps that
services announced. It holds no model and no vector; nothing it acknowledged may be lost.
"""
