"""Kernels and steps from op records: classes, intervals, limits, phases, host-bound gaps."""

import dataclasses

import pytest
import torch

from edgeroof.errors import DeviceError
from edgeroof.profiler import costs
from edgeroof.profiler.costs import Cost
from edgeroof.profiler.device import Device, Roof, load_device
from edgeroof.profiler.ops import OpRecord, TensorMeta
from edgeroof.profiler.phases import phase
from edgeroof.profiler.projection import Projector, load_coefficients
from edgeroof.profiler.projection.coefficients import Coefficients
from edgeroof.profiler.projection.timeline import Timeline
from edgeroof.profiler.projection.work import work_of
from edgeroof.profiler.recorder import OpRecorder


def priced(records):
    return [(record, costs.price(record)) for record in records]


@pytest.fixture(scope="module")
def step():
    """A step with a product of each layout, norms, softmax, dropout and an optimizer, as recorded."""
    model = torch.nn.Sequential(torch.nn.LayerNorm(256), torch.nn.Linear(256, 512), torch.nn.Softmax(-1))
    optimizer = torch.optim.SGD(model.parameters(), foreach=True)
    with OpRecorder(model) as recorder:
        with phase("forward"):
            out = torch.nn.functional.dropout(model(torch.randn(64, 256, requires_grad=True)), 0.1)
        with phase("backward"):
            out.square().mean().backward()
        with phase("optimizer"):
            optimizer.step()
    return priced(recorder.records)


def test_records_become_the_kernels_they_launch(step):
    kinds = {record.name: work_of(record, cost) for record, cost in step if cost}
    assert kinds["aten::addmm"].kind == "product"
    assert kinds["aten::addmm"].shape == (1, 64, 512, 256, 2)  # the weight is transposed: both lie along k
    assert kinds["aten::native_layer_norm"].shape == (64, 256)
    assert kinds["aten::native_layer_norm_backward"].kind == "norm_backward"
    assert kinds["aten::_softmax"].shape == (64, 512)
    assert kinds["aten::_softmax_backward_data"].kind == "softmax_backward"
    assert kinds["aten::mean"].kind == "stream"


def test_a_weights_gradient_reads_both_operands_across_the_inner_dimension():
    gradient, source = torch.randn(64, 512), torch.randn(64, 256)
    with OpRecorder(torch.nn.Identity()) as recorder:
        gradient.t() @ source
    record = recorder.records[0]
    assert work_of(record, costs.price(record)).shape == (1, 512, 256, 64, 0)


def test_a_step_gives_phases_apart_and_every_time_an_interval(step):
    projected = Projector(load_device("a100")).step(step)
    assert list(projected.phases) == ["forward", "backward", "optimizer"]
    assert sum(each.us for each in projected.phases.values()) == pytest.approx(projected.total.us)
    assert len(projected.kernels) == len(step)
    for each in (*projected.kernels, projected.total, *projected.phases.values()):
        assert 0 < each.low_us < each.us < each.high_us
        assert each.limit in ("compute", "memory", "latency", "power", "host")


def test_small_kernels_are_bound_by_the_host(step):
    projected = Projector(load_device("a100")).step(step)
    assert projected.idle_us > 0
    assert projected.total.limit == "host"


def test_kernels_name_what_limits_them():
    def product(size):
        meta = TensorMeta((size, size), "fp32", (size, 1))
        record = OpRecord("aten::mm", (meta, meta), (meta,))
        return record, costs.price(record)

    assert Projector(load_device("t4")).kernel_us(*product(4096)).limit == "power"
    assert Projector(load_device("a100")).kernel_us(*product(4096)).limit == "compute"
    assert Projector(load_device("a100")).kernel_us(*product(16)).limit == "latency"
    big = TensorMeta((1 << 26,), "fp32", (1,))
    record = OpRecord("aten::exp", (big,), (big,))
    assert Projector(load_device("a100")).kernel_us(record, costs.price(record)).limit == "memory"


def test_matrix_units_and_unknown_power_widen_the_interval():
    meta = TensorMeta((4096, 4096), "fp32", (4096, 1))
    record = OpRecord("aten::mm", (meta, meta), (meta,))
    cost = costs.price(record)
    a100 = load_device("a100")

    def width(device, **options):
        projected = Projector(device, **options).kernel_us(record, cost)
        return projected.high_us / projected.low_us, projected.us

    plain, plain_us = width(a100)
    on_tensor, tensor_us = width(a100, tf32=True)
    without_power, _ = width(dataclasses.replace(a100, power_w=None))
    assert on_tensor > plain
    assert without_power > plain
    assert tensor_us < plain_us


def test_small_boards_have_wider_intervals_than_large_ones():
    meta = TensorMeta((4096, 4096), "fp32", (4096, 1))
    record = OpRecord("aten::mm", (meta, meta), (meta,))

    def width(name):
        total = Projector(load_device(name)).step(priced([record])).total
        return total.high_us / total.low_us

    assert width("t4") > 1.2 * width("v100-pcie-32gb")
    assert width("l4") == pytest.approx(width("t4"))


def test_an_op_without_a_cost_takes_a_launch():
    record = OpRecord("custom::thing", (), ())
    projected = Projector(load_device("a100")).step([(record, None)])
    assert projected.kernels[0].us == load_coefficients().gap_us


def test_a_cpu_is_projected_from_its_roofs():
    roof = Roof("measured", 20e9, {"vector": {"fp32": 100e9}}, 1.0)
    cpu = Device(name="cpu", title="a CPU", kind="cpu", measured=roof)
    record = OpRecord("aten::exp", (), (), phase="forward")
    projected = Projector(cpu).step([(record, Cost(0.0, 1e9, 1e9, "none", "fp32"))])
    assert projected.total.us == pytest.approx(0.1e6 / 0.75, rel=0.01)
    assert projected.notes
    with pytest.raises(DeviceError):
        Projector(Device(name="cpu", title="a CPU", kind="cpu"))


def test_waiting_for_the_device_stalls_the_host():
    eager, waiting = Timeline(5.0), Timeline(5.0)
    for timeline, waits in ((eager, False), (waiting, True)):
        for _ in range(10):
            timeline.run(20.0, "forward", waits=waits)
    assert eager.idle_us == pytest.approx(5.0)
    assert waiting.idle_us == pytest.approx(50.0)
    assert waiting.phases_us["forward"] == pytest.approx(250.0)


def test_coefficients_survive_their_file(tmp_path):
    path = tmp_path / "coefficients.json"
    shipped = load_coefficients()
    path.write_text(shipped.to_json())
    assert load_coefficients(path) == shipped
    assert shipped.kernel_errors.keys() == {"bmm", "linear", "elementwise", "norm", "softmax"}
    assert "NeuSight" in shipped.source


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": 1}', '{"schema_version": 99}'])
def test_a_wrong_coefficients_file_is_refused(tmp_path, text):
    path = tmp_path / "coefficients.json"
    path.write_text(text)
    with pytest.raises(DeviceError):
        load_coefficients(path)


def test_shipped_coefficients_are_physical():
    c = load_coefficients()
    for name in ("issue", "issue_ampere", "dram_hbm", "dram_hbm_old", "dram_gddr", "product_dram", "threshold_voltage"):
        assert 0.3 < getattr(c, name) <= 1.0, name
    assert c.host_us.keys() == Coefficients().host_us.keys()
    for bands in (c.kernel_errors, c.step_errors):
        for band in bands.values():
            assert band.low < 1.0 < band.high
