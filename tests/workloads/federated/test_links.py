"""Links: presets, custom ones, and transfer times that follow from the model's parts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeroof.errors import UsageError
from edgeroof.workloads.federated.links import INITIAL_SEGMENTS, PRESETS, SEGMENT_BYTES, Link, parse_link, transfer_s
from edgeroof.workloads.federated.radios import Radio, radio_of

SIZES = st.floats(0, 1e10)
LINKS = st.builds(
    Link,
    name=st.just("any"),
    title=st.just("any"),
    down_mbps=st.floats(0.1, 1e5),
    up_mbps=st.floats(0.1, 1e5),
    rtt_ms=st.floats(0, 500),
    loss=st.sampled_from([0.0, 0.001, 0.02]),
)


def test_full_weights_over_lte_take_minutes() -> None:
    small = 76_961_152 * 4
    up = transfer_s(small, PRESETS["lte"], "up")
    assert up == pytest.approx(small * 8 / 6.3e6 * 1514 / 1448, rel=0.01)
    assert transfer_s(small, PRESETS["10g"], "up") < 0.3


@given(size=SIZES, more=SIZES, link=LINKS)
def test_more_bytes_never_arrive_earlier(size: float, more: float, link: Link) -> None:
    assert transfer_s(size + more, link, "up") >= transfer_s(size, link, "up")


@given(size=SIZES, link=LINKS)
def test_no_transfer_beats_the_wire(size: float, link: Link) -> None:
    rounding = 1 - 1e-9
    assert transfer_s(size, link, "down") >= rounding * size * 8 / (link.down_mbps * 1e6)
    assert transfer_s(size, link, "down") >= rounding * 1.5 * link.rtt_ms * 1e-3


def test_a_message_within_the_first_window_costs_one_and_a_half_round_trips() -> None:
    link = Link("far", "far", 1e6, 1e6, 100)
    size = INITIAL_SEGMENTS * SEGMENT_BYTES
    assert transfer_s(size, link, "up") == pytest.approx(0.150, abs=1e-3)
    assert transfer_s(3 * size, link, "up") == pytest.approx(0.250, abs=1e-3)
    assert transfer_s(7 * size, link, "up") == pytest.approx(0.350, abs=1e-3)


def test_loss_limits_the_rate() -> None:
    clean, lossy = Link("a", "a", 1000, 1000, 50), Link("b", "b", 1000, 1000, 50, loss=0.01)
    assert lossy.rate("up") == pytest.approx(1.2247 * 1448 / (0.05 * 0.1), rel=1e-3)
    assert transfer_s(1e8, lossy, "up") > 10 * transfer_s(1e8, clean, "up")


def test_links_of_ones_own() -> None:
    assert parse_link("LTE") is PRESETS["lte"]
    link = parse_link("50/10/30/0.01")
    assert (link.down_mbps, link.up_mbps, link.rtt_ms, link.loss) == (50, 10, 30, 0.01)
    assert parse_link("50/10").rtt_ms == 0


def test_links_with_the_power_of_their_radio() -> None:
    own, preset = parse_link("50/10/30@2.5W"), parse_link("lte@3w")
    assert (own.down_mbps, own.rtt_ms, own.radio_w) == (50, 30, 2.5)
    assert (preset.up_mbps, preset.radio_w) == (PRESETS["lte"].up_mbps, 3)
    assert radio_of(own) == radio_of(own, 9.0) == Radio(2.5, "given with the link")
    assert radio_of(preset) == Radio(3.0, "given with the link")
    assert radio_of(parse_link("50/10/30")) is None


@pytest.mark.parametrize("text", ["50/10@1.2.3W", "50/10@W", "50/10@2", "@2W", "lte@2W@2W", "lte@9999999W"])
def test_what_is_no_power_of_a_radio_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_link(text)


@pytest.mark.parametrize("text", [f"0.{'0' * 320}1/1", f"{'9' * 320}/1", f"1/1/{'9' * 320}"])
def test_links_whose_times_would_be_no_numbers_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="must be"):
        parse_link(text)


@pytest.mark.parametrize("text", ["", "lt", "50", "0/1/2", "5/5/5/1", "1/1/-2", "1.2.3/4", "1/2/3/4/5", "nan/1"])
def test_what_is_no_link_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_link(text)


def test_every_preset_names_its_source() -> None:
    assert all(link.source for link in PRESETS.values())
