"""Every request of a server's schema, with values that nobody expects."""

from __future__ import annotations

import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error

KNOWN = {  # values that lead into the server, beside those that the schema allows
    "model": ["tiny"],
    "image": ["case_0", "case_1"],
    "label": ["case_0", "case_1"],
    "id": ["case_2", "case_3"],
    "tag": ["final", "original"],
    "strategy": ["first", "random", "uncertainty"],
    "version": ["0.1.0", "0.1.1"],
    "images": ["unlabeled", "all"],
    "params": ['{"slices": "1"}', '{"result_extension": ".nrrd", "output": "x"}', "[]", '{"client_id": "a"}'],
}
STARTS_A_PROCESS = ("POST /train/", "POST /batch/infer/{model}", "POST /train/{model}")
SOME = settings(
    max_examples=12, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


PATHS = (  # of pages and of the proxy to a PACS, which no schema describes
    *(
        "..",
        "../..",
        "%2e%2e/%2e%2e/etc/passwd",
        "%00",
        "%ff%fe",
        "%",
        "a" * 5000,
        "//evil.example/",
        "\u00e4",
        ";x?y=z",
    ),
    *("app.js/..", "studies", "studies/1.2/series/../..", "studies?limit=-1&offset=x", "studies/%2F/series"),
    *("studies/1/series/2/instances/3/frames/0", "studies/1/series/2/instances/3/frames/1,2", "studies/%0d%0aX:1"),
)
PLACES = (
    *("/ohif/", "/proxy/dicom/wado/", "/proxy/dicom/qido/", "/proxy/dicom/", "/login?next=", "/model/", "/reload/"),
    *("/viewer/images/", "/pacs/labels/", "/worklist/"),
)


def fuzz(server, known, headers=None):
    """Send every request of the schema, with these names in it; `headers` may hold the server's token."""
    operations = [found.ok() for found in _schema_of(server, known, headers).get_all_operations()]
    assert len(operations) > 30
    good = [_fuzz(operation, headers) for operation in operations if operation.label not in STARTS_A_PROCESS]
    assert not known or sum(good) > 10  # known names lead inside
    assert server.get("/healthz").json()["status"] == "ok"


def fuzz_paths(server, headers=None):
    """Send what is no address at all to the places that have any address below them."""
    with requests.Session() as session:
        session.headers.update(headers or {})
        for place in PLACES:
            for path in PATHS:
                for method in ("GET", "POST", "PUT", "DELETE"):
                    answer = session.request(method, server.url + place + path, data=b"{", timeout=60)
                    assert answer.status_code != 500, (method, place, path, answer.text)
    assert server.get("/healthz").json()["status"] == "ok"


def _schema_of(server, known, headers):
    """Return the server's schema, which lets nothing but known names through if there are any."""
    plain = server.get("/openapi.json", headers=headers).json()
    for methods in plain["paths"].values():
        for operation in methods.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] in known:
                    parameter["schema"] = {"enum": known[parameter["name"]]}
    for name, described in plain["components"]["schemas"].items():
        if known and name.startswith("Body_") and "params" in described.get("properties", {}):
            described["properties"]["params"] = {"anyOf": [{"enum": KNOWN["params"]}, {"type": "string"}]}
    schema = schemathesis.openapi.from_dict(plain)
    schema.config.update(base_url=server.url)
    return schema


def _fuzz(operation, headers):
    """Return whether a request was answered well."""
    statuses = set()

    @SOME
    @given(operation.as_strategy())
    def ask(case):
        answer = case.call(timeout=120, headers=headers)
        case.validate_response(answer, checks=[not_a_server_error])
        statuses.add(answer.status_code)

    ask()
    return 200 in statuses
