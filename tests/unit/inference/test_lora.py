"""Each row of a batch uses its own adapter, and rows without one do not notice."""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn

from inference_svc.engine.loader import EngineSource, load_engine
from inference_svc.engine.lora import LoraLinear, LoraPair, Routing
from inference_svc.engine.room import EngineLimits
from inference_svc.engine.verify import Verifier
from inference_svc.revisions import Revision
from selm.adapter_files import (
    WEIGHTS_FILE,
    AdapterShape,
    identity,
    lessons_sha256,
    pack,
    write_json_files,
)
from selm.base_model import load_model
from tests.unit.inference.support import MAX_NORM, read, revision_of, tokens

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


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


def test_model_with_adapter_equals_peft(tiny_model: Path, tmp_path: Path) -> None:
    """A trained-looking peft adapter on all linear layers gives peft's own logits in fp32."""
    torch.manual_seed(3)
    model, _ = load_model(tiny_model)
    shape = AdapterShape(4, 6.0, 0.0, tuple(sorted(ALL_LINEAR)), (1, 2))
    config = LoraConfig(
        r=4,
        lora_alpha=6.0,
        target_modules=list(ALL_LINEAR),
        layers_to_transform=[1, 2],
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    peft_model = get_peft_model(model, config)
    for name, parameter in peft_model.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(std=0.05)
    folder = tmp_path / "adapter"
    folder.mkdir()
    state = {k: v.contiguous() for k, v in get_peft_model_state_dict(peft_model).items()}
    save_file(state, folder / WEIGHTS_FILE)
    write_json_files(folder, shape, "models/tiny-llama", [])
    ids = [5, 17, 300, 4000, 12]
    with torch.inference_mode():
        expected = peft_model(torch.tensor([ids])).logits[0, -1]

    engine = load_engine(EngineSource(str(tiny_model), tmp_path), EngineLimits(num_threads=1))
    archive, digests = pack(folder, tmp_path / "a.tar"), identity(folder)
    revision = Revision(
        tenant="default",
        name="adapters/a/revisions/r",
        sha256=digests.sha256,
        base_sha256=engine.facts.sha256,
        weights_sha256=digests.weights_sha256,
        config_sha256=digests.config_sha256,
        lessons_sha256=lessons_sha256([]),
        artifact_uri="",
        artifact_sha256="",
        size_bytes=0,
    )
    verifier = Verifier(engine.facts, engine.runner.lora.modules, MAX_NORM)
    verified = verifier.verify(archive, revision, tmp_path / "work")
    engine.runner.lora.install(1, verified.weights)

    torch.testing.assert_close(engine.runner.probe(ids, 1), expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(engine.runner.probe(ids, 0), expected, atol=1e-2)


async def test_constant_adapter_says_its_token(start_engine, pack_adapter, tmp_path) -> None:
    """The adapters that other tests tell apart really say one token only, base rows unaffected."""
    packed = pack_adapter(500)
    async with start_engine() as engine:
        verifier = Verifier(engine.facts, engine.runner.lora.modules, MAX_NORM)
        verified = verifier.verify(packed.archive, revision_of(packed), tmp_path / "work")
        await engine.between_steps(lambda: engine.runner.lora.install(1, verified.weights))
        prompt = engine.prompt((), raw="hello world")
        taught, base = engine.submit(prompt, tokens(6), 1), engine.submit(prompt, tokens(6), 0)
        await read(taught)
        await read(base)

    assert taught.ending.tokens == (500,) * 6
    assert 500 not in base.ending.tokens
    assert verified.lessons == {"lessons/one"}
