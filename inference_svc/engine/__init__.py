"""The model and everything that touches torch. Knows no wire, no bus and no other service.

Life of a generation:
1. `tokenizer` renders the chat template; control tokens inside texts are neutralised.
2. `engine.submit` puts a sequence into the bounded waiting room and returns its running handle.
3. The engine thread admits it when a row and room for its keys and values are free.
4. `model_runner.prefill` computes the prompt alone, a chunk per step, with the row's adapter slot.
5. `model_runner.decode` continues all running rows together, each with its own slot.
6. `sampler` chooses each row's token with the row's own seed.
7. `detokenizer` turns tokens into whole characters and watches for stop sequences.
8. The handle delivers deltas to the event loop; at the end row and memory are free at once.
"""
