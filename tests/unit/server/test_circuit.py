"""A dead target is tried by one request at a time, ever more rarely; a target that answers gets everything again."""

from hypothesis import given
from hypothesis import strategies as st

from homeostat.server.traffic.circuit import FAILURES_IN_A_ROW, FIRST_SECONDS, MOST_SECONDS, Admit, Circuit


def opened(now: float = 0.0) -> Circuit[str]:
    circuit = Circuit[str]()
    for _ in range(FAILURES_IN_A_ROW):
        assert circuit.admit(now) is Admit.SEND
        circuit.failed(now, "refused", probe=False)
    return circuit


def test_it_opens_after_some_failures_in_a_row() -> None:
    circuit = opened()
    assert circuit.admit(0.0) is Admit.HOLD
    assert circuit.why == "refused"


def test_one_answer_in_between_keeps_it_closed() -> None:
    circuit = Circuit[str]()
    for _ in range(3 * FAILURES_IN_A_ROW):
        circuit.failed(0.0, "refused", probe=False)
        circuit.answered()
    assert circuit.admit(0.0) is Admit.SEND


def test_one_probe_at_a_time() -> None:
    circuit = opened()
    assert circuit.admit(FIRST_SECONDS) is Admit.PROBE
    assert circuit.admit(FIRST_SECONDS) is Admit.HOLD
    circuit.answered()
    assert circuit.admit(FIRST_SECONDS) is Admit.SEND


def test_failed_probes_come_ever_more_rarely_up_to_a_bound() -> None:
    circuit, now, gaps = opened(), 0.0, []
    for _ in range(8):
        last = now
        while circuit.admit(now) is not Admit.PROBE:
            now += 0.01
        gaps.append(round(now - last, 3))
        circuit.failed(now, "still", probe=True)
    assert gaps == sorted(gaps)
    assert abs(gaps[-1] - MOST_SECONDS) < 0.02
    assert circuit.why == "still"


def test_late_failures_of_earlier_sends_change_nothing() -> None:
    circuit = opened()
    for _ in range(20):
        circuit.failed(0.05, "late", probe=False)
    assert circuit.admit(FIRST_SECONDS) is Admit.PROBE


def test_a_probe_that_says_nothing_is_followed_by_another() -> None:
    circuit = opened()
    assert circuit.admit(1.0) is Admit.PROBE
    circuit.forgone()
    assert circuit.admit(1.0) is Admit.PROBE


@given(st.lists(st.tuples(st.sampled_from(["answered", "failed"]), st.floats(0, 3)), max_size=60))
def test_it_is_never_away_for_longer_than_the_bound(events: list[tuple[str, float]]) -> None:
    circuit, now, probes = Circuit[str](), 0.0, 0
    for event, later in events:
        now += later
        admit = circuit.admit(now)
        if admit is Admit.HOLD:
            assert circuit.why is not None
            continue
        probes += admit is Admit.PROBE
        if event == "answered":
            circuit.answered()
        else:
            circuit.failed(now, "no", probe=admit is Admit.PROBE)
    assert circuit.admit(now + MOST_SECONDS + 0.01) is not Admit.HOLD
