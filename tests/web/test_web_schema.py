"""The API does as it says: requests made up from its description (schemathesis)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import one_of

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
EXAMPLES = 8  # of each operation: every file that is sent costs a process


@pytest.mark.slow
def test_the_api_does_as_it_says(
    serve: Callable[..., Any], bare_clip: Path, ended: Callable[[Any, str], dict[str, Any]]
) -> None:
    server = serve(all_jobs=3)
    visitor = server.visitor()
    job = visitor.post("/jobs", files={"file": ("a.mp4", bare_clip.read_bytes())}).json()["id"]
    assert ended(visitor, job)["state"] == "done"
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    operations.sort(key=lambda operation: operation.method == "delete")  # when all is looked at
    assert len(operations) >= 9
    statuses: dict[str, set[int]] = {}
    for operation in operations:
        told = statuses.setdefault(f"{operation.method} {operation.path}", set())
        for status in asked(operation, job, dict(visitor.cookies)):
            told.add(status)
    assert statuses["post /jobs"] >= {415, 422}
    assert statuses["get /jobs/{job_id}"] == statuses["get /jobs/{job_id}/result"] == {200, 404}
    assert statuses["delete /jobs/{job_id}"] == {204, 404}


def asked(operation: Any, job: str, cookies: dict[str, str]) -> list[int]:
    """The statuses of valid and invalid requests; of each, all of schemathesis' checks hold.

    Two do not apply: that a file which is of the described form, any bytes, is taken, and that
    what is not described is refused, as query parameters and headers may always be there.
    """
    checks = schemathesis.checks
    excluded = [checks.positive_data_acceptance, checks.negative_data_rejection]
    kinds = [operation.as_strategy(mode) for mode in schemathesis.GenerationMode]
    if "{job_id}" in operation.path:
        kinds.append(operation.as_strategy(path_parameters={"job_id": job}))
    statuses = []

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=True,
        suppress_health_check=[*HealthCheck],
    )  # fmt: skip
    @given(one_of(kinds))
    def ask(case: Any) -> None:
        answer = case.call_and_validate(cookies=cookies, excluded_checks=excluded)
        statuses.append(answer.status_code)

    ask()
    return statuses
