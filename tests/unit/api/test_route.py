"""The route on the wire: version 1 as it was is still read and written, what is new is bounded."""

import pytest
from pydantic import ValidationError

from homeostat.api.wire.route import Mirror, Route, Rule, Sticky

BEFORE = (
    '{"v":1,"epoch":7,"target":"http://flights-v8.ml.svc:8080","version":"v8","track":"candidate",'
    '"weight":5,"deadline_ms":250,"fallback":true,"drain":false}'
)


def test_a_route_without_the_new_fields_is_the_text_that_it_was() -> None:
    route = Route.model_validate_json(BEFORE)
    assert (route.mirror, route.sticky, route.rules, route.choices, route.young_until) == (None, None, (), (), 0)
    assert route.to_text() == BEFORE


def test_all_fields_come_back() -> None:
    route = Route(
        epoch=1,
        target="http://v8",
        version="v8",
        weight=5,
        mirror=Mirror(target="http://v9", version="v9", percent=10),
        sticky=Sticky(header="x-user-id", salt="sha256:8"),
        rules=(Rule(header="x-beta", exact="yes"),),
        choices=("candidate",),
        young_until=1.5,
    )
    assert Route.model_validate_json(route.to_text()) == route


@pytest.mark.parametrize(
    "text",
    [
        '{"epoch":1,"sticky":{"salt":"s"}}',
        '{"epoch":1,"sticky":{"header":"a","cookie":"b"}}',
        '{"epoch":1,"sticky":{"header":"X-User"}}',
        '{"epoch":1,"mirror":{"target":"http://v9","version":"v9","percent":101}}',
        '{"epoch":1,"mirror":{"target":"","version":"v9"}}',
        '{"epoch":1,"choices":["shadow"]}',
        '{"epoch":1,"rules":[{"header":"x y","exact":"1"}]}',
        '{"epoch":1,"rules":[' + ",".join(['{"header":"a","exact":"1"}'] * 17) + "]}",
    ],
)
def test_what_cannot_be_honoured_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        Route.model_validate_json(text)
