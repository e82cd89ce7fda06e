"""JSON that any reader takes."""

import json
import math

from engine.json_io import to_json


def test_numbers_that_json_does_not_have_are_null_wherever_they_are():
    values = {"score": math.nan, "rows": [{"loss": math.inf}, (1.5, -math.inf)], "name": "a"}
    assert json.loads(to_json(values)) == {"score": None, "rows": [{"loss": None}, [1.5, None]], "name": "a"}
