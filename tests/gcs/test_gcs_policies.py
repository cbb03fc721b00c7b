"""Policy documents of forms: every condition holds."""

import base64
import json
from datetime import UTC, datetime

from emulator.gcs.policies import check_policy


def test_every_range_of_sizes_holds() -> None:
    ranges = [["content-length-range", 0, 10], ["content-length-range", 5, 1000]]
    policy = {"expiration": "2099-01-01T00:00:00Z", "conditions": [{"key": "a"}, *ranges]}
    fields = {"key": "a", "policy": base64.b64encode(json.dumps(policy).encode()).decode()}
    sizes = check_policy(fields, datetime.now(UTC))
    assert (sizes.least, sizes.most) == (5, 10)
