"""Each row of a batch uses its own adapter, and rows without one do not notice."""

import torch
from torch import nn

from inference_svc.engine.lora import LoraLinear, LoraPair, Routing
from inference_svc.engine.verify import Verifier
from tests.unit.inference.support import read, revision_of, tokens


def layer_with(*ranks: int) -> tuple[LoraLinear, Routing]:
    torch.manual_seed(1)
    routing = Routing()
    layer = LoraLinear(nn.Linear(8, 6, bias=False), routing)
    for slot, rank in enumerate(ranks, start=1):
        layer.install(slot, LoraPair(torch.randn(8, rank), torch.randn(rank, 6)))
    return layer, routing


@torch.inference_mode()
def test_rows_without_adapter_are_bit_exact() -> None:
    """A row with slot 0 gets exactly the base layer's numbers, whoever shares its batch."""
    layer, routing = layer_with(2, 4)
    x = torch.randn(4, 1, 8)
    routing.route([0, 1, 0, 2])

    assert torch.equal(layer(x)[[0, 2]], layer.base(x)[[0, 2]])


@torch.inference_mode()
def test_mixed_ranks_in_one_batch_equal_each_adapter_alone() -> None:
    """Rows of adapters of different rank get what they would get alone."""
    layer, routing = layer_with(1, 3)
    x = torch.randn(3, 2, 8)
    routing.route([2, 1, 2])
    together = layer(x)

    for row, slot in enumerate([2, 1, 2]):
        routing.route([slot])
        torch.testing.assert_close(together[row], layer(x[row : row + 1])[0])


@torch.inference_mode()
def test_removed_slot_is_the_base_again() -> None:
    """A slot that was removed adds nothing."""
    layer, routing = layer_with(2)
    x = torch.randn(1, 1, 8)
    routing.route([1])
    layer.remove(1)

    assert torch.equal(layer(x), layer.base(x))


async def test_constant_adapter_says_its_token(start_engine, pack_adapter, tmp_path) -> None:
    """The adapters that other tests tell apart really say one token only, base rows unaffected."""
    packed = pack_adapter(500)
    async with start_engine() as engine:
        verifier = Verifier(engine.facts, engine.runner.lora.modules, 4.0)
        verified = verifier.verify(packed.archive, revision_of(packed), tmp_path / "work")
        await engine.between_steps(lambda: engine.runner.lora.install(1, verified.weights))
        prompt = engine.prompt((), raw="hello world")
        taught, base = engine.submit(prompt, tokens(6), 1), engine.submit(prompt, tokens(6), 0)
        await read(taught)
        await read(base)

    assert taught.ending.tokens == (500,) * 6
    assert 500 not in base.ending.tokens
    assert verified.lessons == {"lessons/one"}
