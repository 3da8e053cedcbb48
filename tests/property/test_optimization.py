"""Which file is served, whatever a comparison found."""

from hypothesis import given
from hypothesis import strategies as st

from homeostat.api.wire.optimization import Optimization
from homeostat.server.optimizing.optimized import LEAST_SPEEDUP, judged, sentence, to_text

figures = st.none() | st.just(float("nan")) | st.floats(min_value=0)
found = st.builds(
    Optimization,
    type=st.sampled_from(["Graph", "Int8Dynamic", "Float16"]),
    original=st.just("sha256:" + "0" * 64),
    digest=st.sampled_from(["", "sha256:" + "1" * 64]),
    difference=figures,
    labels=st.floats(min_value=0, max_value=1),
    speedup=figures,
    used=st.booleans(),
    reason=st.sampled_from(["", "BatchDependent", "NothingToOptimize", "AboveTolerance"]),
)
tolerances = st.floats(min_value=0, max_value=1)


@given(found, tolerances, st.booleans())
def test_what_is_served_is_never_above_the_tolerance(given: Optimization, tolerance: float, required: bool) -> None:
    after = judged(given, tolerance, required=required)
    if after.used:
        assert after.digest
        assert after.difference is not None
        assert after.difference <= tolerance
        assert after.labels <= tolerance
        assert given.reason != "BatchDependent"
        assert required or (after.speedup is not None and after.speedup >= LEAST_SPEEDUP)
        assert after.reason == after.message == ""
    else:
        assert after.reason
    assert sentence(after)


@given(found, tolerances, tolerances, st.booleans())
def test_a_wider_tolerance_refuses_nothing_that_a_narrower_one_takes(
    given: Optimization, one: float, other: float, required: bool
) -> None:
    narrow, wide = sorted((one, other))
    if judged(given, narrow, required=required).used:
        assert judged(given, wide, required=required).used


@given(found, tolerances, st.booleans())
def test_judging_again_changes_nothing_of_a_file_that_is_there(given: Optimization, at: float, required: bool) -> None:
    once = judged(given, at, required=required)
    assert judged(once, at, required=required) == once or once.difference != once.difference  # not a number
    assert len(to_text(once)) < 4096
