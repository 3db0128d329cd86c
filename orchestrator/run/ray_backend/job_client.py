"""Ray's client of jobs, on a way that is looked at before each request: where a tunnel was, others may listen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

from orchestrator.run.ray_backend.auth import check_dashboard, wrong_token
from orchestrator.run.ray_backend.control_traffic import authorities, check_owner, request

_OTHERWISE = "Give its port with --address; --insecure where your cluster is run by that user"


def client_of(address: str, insecure: bool) -> Any:
    """A `JobSubmissionClient` for the dashboard at this address. Raises AccessError, OSError."""
    from ray.job_submission import JobSubmissionClient

    def look() -> None:
        if not insecure:
            parts = urlsplit(address)
            check_owner(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80), _OTHERWISE)

    class Client(JobSubmissionClient):
        def _do_request(
            self, method: str, endpoint: str, *, data: Any = None, json_data: Any = None, **options: Any
        ) -> Any:
            # ray 2.60.0: what all requests but the stream of the output go through
            look()
            answer = request(method, address + endpoint, headers=headers, data=data, json=json_data, **options)
            if answer.status_code in (401, 403):
                raise wrong_token(f"the Ray cluster at {address}")
            return answer

        async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
            look()
            async for text in super().tail_job_logs(job_id):
                yield text

    look()
    headers = check_dashboard(address)
    client = Client(address, headers=dict(headers), verify=authorities())
    client._headers = dict(headers)  # ray 2.60.0: which adds a token to them where none is asked for, too
    return client
