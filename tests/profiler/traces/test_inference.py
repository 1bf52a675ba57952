"""Records from recorded inputs, and the outputs inferred for them, compared with what torch computes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeroof.profiler.costs import price
from edgeroof.profiler.ops import OpRecord, TensorMeta
from edgeroof.profiler.traces.inference import describe, dtype_of_kernel, infer_record, input_shapes, parse_value
from edgeroof.profiler.traces.linking import call_tree
from edgeroof.profiler.traces.trace import Signature, read_trace

NONE = ("", [])
SCALAR = ("Scalar", [])


def signature(*inputs: tuple[str, Any] | tuple[str, Any, Any], concrete: list[str] | None = None) -> Signature:
    def text(values: list[Any]) -> bytes:
        return json.dumps(values).encode()

    return Signature(
        dims=text([item[1] for item in inputs]),
        types=text([item[0] for item in inputs]),
        strides=text([item[2] if len(item) > 2 else [] for item in inputs]),
        concrete=b"" if concrete is None else text(concrete),
    )


def infer(name: str, *inputs: tuple[str, Any] | tuple[str, Any, Any], concrete: list[str] | None = None) -> OpRecord:
    record = infer_record(name, signature(*inputs, concrete=concrete))
    assert record is not None
    return record


def output(name: str, *inputs: Any, concrete: list[str] | None = None) -> list[tuple[tuple[int, ...], str]]:
    return [(meta.shape, meta.dtype) for meta in infer(name, *inputs, concrete=concrete).outputs]


FLOAT = ("float", [8, 4])


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("float", "fp32"), ("double", "fp64"), ("c10::Half", "fp16"), ("c10::BFloat16", "bf16"), ("long int", "int64"),
        ("long", "int64"), ("int", "int32"), ("short int", "int16"), ("signed char", "int8"),
        ("unsigned char", "uint8"), ("bool", "bool"), ("c10::complex<float>", "complex64"),
    ],
)  # fmt: skip
def test_types_of_tensors(kind: str, dtype: str) -> None:
    assert infer("aten::relu", (kind, [2, 3], [3, 1])).args[0] == TensorMeta((2, 3), dtype, (3, 1))


def test_a_tensor_of_an_unknown_type_is_not_guessed() -> None:
    record = infer("aten::relu", ("c10::QInt4", [2, 3]))
    assert record.args == (None,)
    assert price(record) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None), ("None", None), ("True", True), ("False", False), ("3", 3), ("0.5", 0.5), ("-1", -1),
        ("[1, 2]", (1, 2)), ("[]", ()), ("[True, False]", (True, False)), ("none", "none"), ("1e-05", 1e-05),
    ],
)  # fmt: skip
def test_plain_values(text: str, value: Any) -> None:
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


@pytest.mark.parametrize(
    ("name", "inputs", "concrete", "expected"),
    [
        ("mm", [FLOAT, ("float", [4, 16])], None, [((8, 16), "fp32")]),
        ("addmm", [("float", [16]), FLOAT, ("float", [4, 16])], None, [((8, 16), "fp32")]),
        ("bmm", [("c10::Half", [2, 8, 4]), ("c10::Half", [2, 4, 5])], None, [((2, 8, 5), "fp16")]),
        ("add", [FLOAT, ("float", [4]), SCALAR], None, [((8, 4), "fp32")]),
        ("add", [("c10::BFloat16", [8, 4]), ("float", [8, 1])], None, [((8, 4), "fp32")]),
        ("mul", [("c10::BFloat16", [8, 4]), ("double", [])], None, [((8, 4), "bf16")]),
        ("mul", [("long int", [8]), SCALAR], ["", "0.5"], [((8,), "fp32")]),
        ("div", [("long int", [8]), ("long int", [8])], None, [((8,), "fp32")]),
        ("gt", [FLOAT, SCALAR], None, [((8, 4), "bool")]),
        ("where", [("bool", [8, 4]), ("float", [4]), ("float", [])], None, [((8, 4), "fp32")]),
        ("_to_copy", [FLOAT, SCALAR, NONE], ["", "15", ""], [((8, 4), "bf16")]),
        ("_to_copy", [FLOAT, SCALAR, NONE], None, []),
        ("sum", [FLOAT, ("ScalarList", []), SCALAR, NONE], ["", "[0]", "True", ""], [((1, 4), "fp32")]),
        ("sum", [FLOAT, ("ScalarList", []), SCALAR, NONE], ["", "[-1]", "False", ""], [((8,), "fp32")]),
        ("sum", [("int", [8]), NONE], ["", ""], [((), "int64")]),
        ("sum", [FLOAT, NONE, SCALAR, NONE], None, []),
        ("mean", [FLOAT, ("ScalarList", []), SCALAR, NONE], ["", "[]", "False", ""], [((), "fp32")]),
        ("max", [FLOAT, SCALAR, SCALAR], ["", "1", "False"], [((8,), "fp32"), ((8,), "int64")]),
        ("embedding", [("float", [100, 16]), ("long int", [2, 3])], None, [((2, 3, 16), "fp32")]),
        ("embedding_dense_backward", [("float", [2, 3, 16]), ("long int", [2, 3]), SCALAR], ["", "", "100"],
         [((100, 16), "fp32")]),
        ("index_select", [("float", [100, 16]), SCALAR, ("long int", [7])], ["", "0", ""], [((7, 16), "fp32")]),
        ("index_select", [("float", [100, 16]), SCALAR, ("long int", [7])], None, []),
        ("gather", [("float", [8, 16]), SCALAR, ("long int", [8, 1]), SCALAR], None, [((8, 1), "fp32")]),
        ("convolution", [("float", [2, 3, 32, 32]), ("float", [8, 3, 3, 3]), NONE, *[("ScalarList", [])] * 3, SCALAR],
         ["", "", "", "[2, 2]", "[1, 1]", "[1, 1]", "False"], [((2, 8, 16, 16), "fp32")]),
        ("convolution_backward", [("float", [2, 8, 16, 16]), ("float", [2, 3, 32, 32]), ("float", [8, 3, 3, 3])], None,
         [((2, 3, 32, 32), "fp32"), ((8, 3, 3, 3), "fp32")]),
        ("native_layer_norm", [("c10::Half", [2, 5, 16]), ("ScalarList", []), ("c10::Half", [16]), NONE], None,
         [((2, 5, 16), "fp16"), ((2, 5, 1), "fp32"), ((2, 5, 1), "fp32")]),
        ("_softmax", [FLOAT, SCALAR, SCALAR], None, [((8, 4), "fp32")]),
        ("native_dropout", [FLOAT, SCALAR, SCALAR], None, [((8, 4), "fp32"), ((8, 4), "bool")]),
        ("nll_loss_forward", [FLOAT, ("long int", [8]), NONE, SCALAR, SCALAR], ["", "", "", "1", "-100"],
         [((), "fp32"), ((), "fp32")]),
        ("topk", [FLOAT, SCALAR, SCALAR], ["", "2", "-1"], [((8, 2), "fp32"), ((8, 2), "int64")]),
        ("constant_pad_nd", [FLOAT, ("ScalarList", []), SCALAR], ["", "[1, 2]", "0"], [((8, 7), "fp32")]),
        ("repeat", [FLOAT, ("ScalarList", [])], ["", "[2, 1, 3]"], [((2, 8, 12), "fp32")]),
        ("arange", [SCALAR, SCALAR, NONE, NONE, NONE], ["7", "", "", "", ""], [((7,), "int64")]),
        ("arange", [SCALAR] * 3 + [NONE] * 4, ["1", "8", "3", "6", "", "", ""], [((3,), "fp32")]),
        ("mylib::op", [FLOAT], None, []),
        ("add", [FLOAT, ("float", [3])], None, []),
    ],
)  # fmt: skip
def test_outputs(name: str, inputs: list[Any], concrete: list[str] | None, expected: list[Any]) -> None:
    assert output(name if "::" in name else f"aten::{name}", *inputs, concrete=concrete) == expected


def test_in_place_ops_write_their_first_argument() -> None:
    record = infer("aten::add_", FLOAT, FLOAT, SCALAR)
    assert record.mutated == (0,)
    assert record.outputs == ()
    cost = price(record)
    assert cost is not None
    assert (cost.bytes_read, cost.bytes_written) == (2 * 128, 128)


def test_copy_lists_its_destination_first() -> None:
    cost = price(infer("aten::copy_", ("c10::BFloat16", [8, 4]), FLOAT, SCALAR))
    assert cost is not None
    assert (cost.bytes_read, cost.bytes_written) == (128, 64)


def test_an_expanded_input_moves_only_what_is_in_memory() -> None:
    cost = price(infer("aten::clone", ("float", [1000, 4], [0, 1]), NONE))
    assert cost is not None
    assert (cost.bytes_read, cost.bytes_written) == (16, 16000)


def test_an_out_argument_is_written_not_read() -> None:
    plain = price(infer("aten::mul", FLOAT, FLOAT))
    out = price(infer("aten::mul", FLOAT, FLOAT, FLOAT))
    assert out == plain


def test_tensor_lists_take_their_type_from_the_kernel() -> None:
    lists = signature(("TensorList", [[8, 4], [8, 4]], [[4, 1], [4, 1]]), SCALAR, concrete=["", "0"])
    unknown = infer_record("aten::cat", lists)
    assert unknown is not None
    assert price(unknown) is None
    record = infer_record("aten::cat", lists, kernel_name="void CatArrayBatchedCopy<OpaqueType<2u>, unsigned int>")
    assert record is not None
    cost = price(record)
    assert cost is not None
    assert (cost.bytes_read, cost.bytes_written) == (128, 128)


def test_lists_that_lost_their_shapes_are_unpriced_without_a_manifest() -> None:
    lists = signature(*[("TensorList", [])] * 6, SCALAR)
    record = infer_record("aten::_fused_adamw_", lists)
    assert record is not None
    assert price(record) is None
    manifest = [TensorMeta((10, 10), "fp32"), TensorMeta((28,), "fp32")]
    record = infer_record("aten::_fused_adamw_", lists, manifest=manifest)
    assert record is not None
    cost = price(record)
    assert cost is not None
    assert cost.bytes == 28 * 128


def test_nothing_recorded_gives_no_record() -> None:
    assert infer_record("aten::mm", Signature(b"", b"", b"", b"")) is None
    assert infer_record("aten::mm", Signature(b"{}", b'["float"]', b"", b"")) is None


@pytest.mark.parametrize(
    ("kernel", "dtype"),
    [
        ("void at::native::CatArrayBatchedCopy<at::native::OpaqueType<4u>, unsigned int>", "int32"),
        ("void multi_tensor_apply_kernel<float>", "fp32"),
        ("vectorized<c10::BFloat16>", "bf16"),
        ("sgemm", None),
    ],
)
def test_types_that_kernel_names_tell(kernel: str, dtype: str | None) -> None:
    assert dtype_of_kernel(kernel) == dtype


def test_descriptions() -> None:
    metas = (TensorMeta((8, 4), "fp32"), None, (TensorMeta((2,), "bf16"),) * 6)
    assert describe(metas[:2]) == "[8,4] fp32"
    assert describe(metas, types=False) == "[8,4] ([2] [2] [2] [2], … 6 tensors)"
    assert input_shapes(signature(FLOAT, SCALAR, ("TensorList", [[1]]))) == ((8, 4), None, None)


def test_every_inferred_output_equals_torchs(tmp_path: Path) -> None:
    """Run ops for real: what is inferred from the trace has the shape and type of what came out."""
    torch = pytest.importorskip("torch")
    from torch.utils._python_dispatch import TorchDispatchMode

    from edgeroof.profiler.recorder import tensor_meta

    seen: dict[str, list[list[tuple[tuple[int, ...], str]]]] = {}

    class Outputs(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            results = [r for r in (result if isinstance(result, (tuple, list)) else [result]) if r is not None]
            metas = [tensor_meta(r) for r in results if isinstance(r, torch.Tensor)]
            seen.setdefault(func._schema.name, []).append([(meta.shape, meta.dtype) for meta in metas])
            return result

    x = torch.randn(4, 6, requires_grad=True)
    half, numbers = torch.randn(4, 6).bfloat16(), torch.arange(6)
    scale = torch.ones(6, requires_grad=True)
    image, weight = torch.randn(2, 3, 9, 9), torch.randn(4, 3, 3, 3)

    def run() -> None:
        functional = torch.nn.functional
        hidden = functional.gelu(functional.layer_norm(x @ torch.randn(6, 6), (6,), scale, scale))
        loss = functional.cross_entropy(functional.linear(hidden, torch.randn(3, 6), torch.randn(3)), numbers[:4] % 3)
        (loss + functional.mse_loss(x, torch.zeros_like(x)) + x.softmax(-1).pow(2).mean()).backward()
        half.float(), half * 2.0, half + x.detach(), numbers / 2, numbers * 2, numbers > 2
        half.sum(0), half.amax(1, keepdim=True), half.argmax(1), x.detach().sort(1), x.detach().topk(2, 1), half.max(1)
        functional.embedding(numbers, torch.randn(6, 5)), torch.bmm(image[:, 0], image[:, 1]), half.cumsum(1)
        functional.conv2d(image, weight, stride=2, padding=1), functional.max_pool2d(image, 3, 2)
        (
            functional.pad(half, (1, 2)),
            half.repeat(2, 1),
            x.detach().gather(1, numbers[None] % 6),
            half.rsqrt(),
            half.neg(),
        )
        x.detach().index_select(0, numbers[:3]), torch.where(half > 0, half, 0.0), torch.addcmul(half, half, half)

    run()
    with torch.profiler.profile(record_shapes=True) as profiler:
        run()
    profiler.export_chrome_trace(str(tmp_path / "trace.json"))
    with Outputs():
        run()
    trace = read_trace(tmp_path / "trace.json")
    dispatched = np.array([trace.names[i] in seen for i in trace.host.name])
    top = call_tree(trace).outermost(dispatched)
    compared, wrong = set(), []
    for row in np.flatnonzero(top == np.arange(len(top))):
        name = trace.names[trace.host.name[row]]
        record = infer_record(name, trace.signatures[trace.host.signature[row]])
        if record is None or not record.outputs:
            continue
        inferred = [(meta.shape, meta.dtype) for meta in record.outputs]
        compared.add(name)
        if not any(inferred == outputs[: len(inferred)] for outputs in seen[name]):
            wrong.append((name, inferred, seen[name]))
    assert wrong == []
    assert len(compared) >= 40, sorted(compared)
