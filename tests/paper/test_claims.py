"""Claims: every rule says agrees, disagrees and can't be said, each for its reason."""

import pytest

from edgeroof.paper import claims

from .sample_data import data, links, point


def both(**edge) -> dict:
    return data(scaling=[point("orin", **edge), point("a100", optimizer_share=0.05)])


def test_nothing_can_be_said_of_what_was_not_run() -> None:
    verdicts = claims.judge(data())
    assert {verdict.verdict for verdict in verdicts} == {"can't be said"}
    assert len(verdicts) == 5
    assert all("not been run" in v.why for v in verdicts[:4])
    assert all(v.rule and v.basis and v.board for v in verdicts)


def test_other_models_are_no_evidence() -> None:
    rows = both(precision="bf16", mfu=0.05)
    assert "agrees" in {verdict.verdict for verdict in claims.judge(rows)}
    rows["plan"]["models"] = ("tiny",)
    assert {verdict.verdict for verdict in claims.judge(rows)} == {"can't be said"}


@pytest.mark.parametrize(
    ("precision", "mfu", "expected"),
    [
        ("bf16", 0.05, "agrees"),
        ("bf16", 0.2, "disagrees"),
        ("bf16", 0.09, "can't be said"),  # its interval reaches beyond a tenth
        ("fp32", 0.3, "can't be said"),  # above a tenth of its own peak, below a tenth of the matrix units'
        ("fp32", 0.05, "agrees"),
    ],
)
def test_mfu_is_judged_against_every_denominator_it_may_have(precision: str, mfu: float, expected: str) -> None:
    assert claims.low_mfu(both(precision=precision, mfu=mfu)).verdict == expected


def test_precisions_that_differ_decide_nothing() -> None:
    rows = [point("orin", precision="bf16", mfu=0.05), point("orin", precision="tf32", mfu=0.9)]
    assert claims.low_mfu(data(scaling=rows)).verdict == "can't be said"


def test_points_that_do_not_fit_are_no_evidence() -> None:
    large = point("orin", precision="bf16", mfu=0.5, memory={"total": 9e10, "room": 5e10, "fits": False})
    assert claims.low_mfu(data(scaling=[large])).verdict == "can't be said"
    assert claims.low_mfu(data(scaling=[large, point("orin", precision="bf16", mfu=0.05)])).verdict == "agrees"


def test_an_interval_of_mfu_follows_the_step_time() -> None:
    value, low, high = claims.mfu_interval(point("orin", mfu=0.2))
    assert (value, low, high) == pytest.approx((0.2, 0.16, 0.25))


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ([{"memory": 0.6, "compute": 0.4}] * 2, "agrees"),
        ([{"memory": 0.3, "compute": 0.7}] * 2, "disagrees"),
        ([{"memory": 0.6, "compute": 0.4}, {"memory": 0.3, "compute": 0.7}], "can't be said"),
    ],
)
def test_memory_is_to_blame_where_it_holds_most(bounds: list, expected: str) -> None:
    rows = [point("orin", batch=batch, bounds=shares) for batch, shares in zip((1, 8), bounds)]
    assert claims.memory_to_blame(data(scaling=rows)).verdict == expected


@pytest.mark.parametrize(("share", "expected"), [(0.2, "agrees"), (0.06, "disagrees")])
def test_the_optimizers_share_is_compared_point_by_point(share: float, expected: str) -> None:
    verdict = claims.optimizer_share(both(optimizer_share=share))
    assert verdict.verdict == expected
    assert f"{share:.1%}".replace("%", " %") in verdict.why


def test_shares_that_differ_between_points_decide_nothing() -> None:
    rows = [point("orin", batch=b, optimizer_share=s) for b, s in ((1, 0.2), (8, 0.06))]
    rows += [point("a100", batch=b, optimizer_share=0.05) for b in (1, 8)]
    assert claims.optimizer_share(data(scaling=rows)).verdict == "can't be said"


def test_what_another_timer_would_have_said_stands_beside_it() -> None:
    entry = {"device": "orin", "host_ms": {"forward": 10.0, "optimizer": 90.0}}
    why = claims.optimizer_share(both() | {"breakdown": [entry]}).why
    assert "90.0 % on orin" in why
    assert "artefact" in why


@pytest.mark.parametrize(
    ("g", "expected"),
    [((0.05, 0.04, 0.06), "agrees"), ((0.5, 0.4, 0.6), "disagrees"), ((0.2, 0.15, 0.3), "can't be said")],
)
def test_lte_is_pointless_where_more_clients_hardly_help(g: tuple, expected: str) -> None:
    assert claims.lte_pointless(data(links=links(*g))).verdict == expected
    assert claims.lte_pointless(data(links=links(*g, fits=False))).verdict == "can't be said"


def test_the_border_is_where_doubling_gives_a_tenth() -> None:
    border = claims.pointless_below()
    assert (border + 1) / (border / 2 + 1) == pytest.approx(claims.WORTHWHILE)


def test_energy_needs_metered_points() -> None:
    here = {"mfu": 0.3, "power": {"available": True, "tokens_per_s_per_w": 5.0}}
    verdict = claims.energy_follows_mfu(data(here=here))
    assert (verdict.verdict, "1 points" in verdict.why) == ("can't be said", True)
    assert claims.follows_order([(0.1, 1), (0.2, 2), (0.3, 3)]) is True
    assert claims.follows_order([(0.1, 3), (0.2, 2), (0.3, 1)]) is False
    assert claims.follows_order([(0.1, 1), (0.2, 3), (0.3, 2)]) is None
