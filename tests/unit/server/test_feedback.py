"""Labels: joined by their id, each counted once or refused for a reason."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from homeostat.api.wire.bundle import Signature
from homeostat.api.wire.prediction_id import Mint, mark
from homeostat.errors import ArtifactError
from homeostat.server.counting.counters import LABEL_CELLS, Slot
from homeostat.server.counting.feedback import MAX_DOCUMENT, Feedback, read_key
from homeostat.server.counting.view import read
from homeostat.server.problem import Problem
from unit.server import counted

KEY = b"0123456789abcdef"
VALUES = Signature(task="regression", columns=(), score_output="v", label_type="number")


def _feedback(slot: Slot, signature: Signature = counted.SIGNATURE, key: bytes = b"") -> Feedback:
    return Feedback(signature, "uid", counted.recorder(slot), key, horizon=1000.0)


def _id(mint: Mint, score: float = 0.9, label: str = "yes", cell: int = 18, age: int = 10) -> str:
    return mint.mint(int(time.time()) - age, score, mark(label), cell).decode()


def _lines(*pairs: tuple[str, object]) -> bytes:
    return "\n".join(json.dumps({"id": i, "label": label}) for i, label in pairs).encode()


def test_a_label_counts_once_also_within_a_body_and_over_workers() -> None:
    slots = counted.slots(2)
    mint = Mint("uid", "v7", 5)
    one, other = _id(mint), _id(mint)
    first, second = _feedback(slots[0]), _feedback(slots[1])
    found = json.loads(first.accept(_lines((one, "yes"), (other, "no"), (one, "yes"))))
    assert found == {"accepted": 2, "refused": {"duplicate": 1}}
    assert json.loads(second.accept(_lines((other, "yes")))) == {"accepted": 0, "refused": {"duplicate": 1}}
    labels = read(slots).feedback["v7"]
    assert (labels.labels, labels.wrong) == (2, 1)


def test_a_label_that_was_refused_may_come_again() -> None:
    feedback, prediction = _feedback(counted.slots()[0]), _id(Mint("uid", "v7", 5))
    assert json.loads(feedback.accept(_lines((prediction, "maybe"))))["refused"] == {"label": 1}
    assert json.loads(feedback.accept(_lines((prediction, "no"))))["accepted"] == 1


def test_labels_are_late_after_the_horizon_and_damaged_from_the_future() -> None:
    feedback, mint = _feedback(counted.slots()[0]), Mint("uid", "v7", 5)
    ids = [_id(mint, age=age) for age in (500, 2000, -100, -2000)]
    found = json.loads(feedback.accept(_lines(*((i, "yes") for i in ids))))
    assert found == {"accepted": 2, "refused": {"late": 1, "damaged": 1}}


def test_labels_are_counted_by_the_cell_of_their_prediction() -> None:
    slots = counted.slots()
    feedback, mint = _feedback(slots[0]), Mint("uid", "v7", 5)
    pairs = [(_id(mint, 0.1, "no", 2), "yes"), (_id(mint, 0.1, "no", 2), "no"), (_id(mint, 0.9, "yes", 18), "yes")]
    feedback.accept(_lines(*pairs, (_id(mint, 0.9, "yes", 200), "no")))
    labels = read(slots).feedback["v7"]
    expected = [0] * LABEL_CELLS
    expected[2], expected[18], expected[-1] = 2, 1, 1
    assert list(labels.labels_by_cell) == expected
    expected[2], expected[-1] = 1, 0
    assert list(labels.positives_by_cell) == expected
    assert labels.wrong == 2
    assert labels.squared_error == pytest.approx(0.9**2 + 0.1**2 + 0.1**2 + 0.9**2, rel=1e-6)


def test_a_regression_counts_error_its_square_and_its_size() -> None:
    slots = counted.slots()
    feedback, mint = _feedback(slots[0], VALUES), Mint("uid", "v7", 5)
    feedback.accept(_lines(*((_id(mint, 10.0, "", 1), label) for label in (12, 7.0, 10**400, True))))
    labels = read(slots).feedback["v7"]
    assert (labels.labels, labels.error, labels.absolute_error, labels.squared_error) == (2, 1.0, 5.0, 13.0)
    assert (labels.labels_by_cell, labels.positives_by_cell) == ((0, 2), (0, 1))


def test_with_a_key_only_ids_of_that_key_count_and_without_one_only_plain_ids() -> None:
    plain, keyed = Mint("uid", "v7", 5), Mint("uid", "v7", 50, KEY)
    other = Mint("uid", "v7", 500, KEY[::-1])
    body = _lines(*((_id(mint), "yes") for mint in (plain, keyed, other)))
    for key in (b"", KEY):
        feedback = _feedback(counted.slots()[0], key=key)
        assert json.loads(feedback.accept(body)) == {"accepted": 1, "refused": {"damaged": 2}}


def test_what_is_no_label_is_malformed_and_the_rest_counts() -> None:
    good = {"id": _id(Mint("uid", "v7", 5)), "label": "yes"}
    bad = [{"id": 5, "label": 1}, {"id": "x"}, {"label": 1}, 7, None, [], "text", {"id": good["id"], "label": None}]
    feedback = _feedback(counted.slots()[0])
    found = json.loads(feedback.accept(json.dumps({"labels": [*bad, good]}).encode()))
    assert found == {"accepted": 1, "refused": {"malformed": len(bad)}}
    lines = b"\n\n".join([b"{", *(json.dumps(entry).encode() for entry in bad), b"\xff"])
    assert json.loads(feedback.accept(lines))["refused"] == {"malformed": len(bad) + 2}


@pytest.mark.parametrize(
    "body",
    [b"", b"\n \n", b"{", b'{"labels": 5}', b'{"labels": [}', b'{\n"labels": 7\n}', b'"' + b"x" * MAX_DOCUMENT + b'"'],
)
def test_a_malformed_document_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(Problem) as refused:
        _feedback(counted.slots()[0]).accept(body)
    assert refused.value.status in {400, 413}


def test_one_document_may_stand_on_several_lines() -> None:
    body = json.dumps({"labels": [{"id": _id(Mint("uid", "v7", 5)), "label": "yes"}]}, indent=1).encode()
    assert json.loads(_feedback(counted.slots()[0]).accept(body))["accepted"] == 1


def test_a_line_that_is_too_long_is_malformed_and_those_around_it_count() -> None:
    mint = Mint("uid", "v7", 5)
    long = json.dumps({"id": "x" * MAX_DOCUMENT, "label": 1}).encode()
    body = b"\n".join([_lines((_id(mint), "yes")), long, _lines((_id(mint), "yes"))])
    assert json.loads(_feedback(counted.slots()[0]).accept(body)) == {"accepted": 2, "refused": {"malformed": 1}}


def test_a_hundred_thousand_labels_let_others_have_their_turn() -> None:
    slots = counted.slots()
    mint = Mint("uid", "v7", 5)
    body = _lines(*((_id(mint), "yes") for _ in range(100_000)))
    turns = []

    async def run() -> bytes:
        loop, answer = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

        def turn() -> None:
            turns.append(time.monotonic())
            if not answer.done():
                loop.call_soon(turn)

        loop.call_soon(turn)
        _feedback(slots[0]).accept_in_slices(body, answer.set_result)
        assert not answer.done()
        return await answer

    found = json.loads(asyncio.run(run()))
    assert found["accepted"] + found["refused"].get("duplicate", 0) == 100_000
    assert found == {"accepted": 100_000, "refused": {}}
    assert read(slots).feedback["v7"].labels == 100_000
    assert len(turns) > 50


def test_a_short_body_is_answered_at_once_and_a_malformed_one_too() -> None:
    heard = []

    async def run() -> None:
        feedback = _feedback(counted.slots()[0])
        feedback.accept_in_slices(_lines((_id(Mint("uid", "v7", 5)), "yes")), heard.append)
        feedback.accept_in_slices(b"{", heard.append)

    asyncio.run(run())
    assert json.loads(heard[0])["accepted"] == 1
    assert isinstance(heard[1], Problem)


def test_a_key_is_16_to_64_bytes_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert read_key("") == b""
    path.write_bytes(KEY)
    assert read_key(str(path)) == KEY
    for content in (b"", b"short", b"x" * 65):
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match="16 to 64"):
            read_key(str(path))
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_key(str(tmp_path / "none"))
