"""Findings as SARIF 2.1.0, for code scanning and CI.

Format: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from strongroom.model.decision import Finding

SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif(
    findings: Sequence[Finding], rules: Mapping[str, str], version: str, files: Mapping[str, str]
) -> dict[str, Any]:
    """A log with one run; `rules` are check ids and titles, `files` subjects and their file."""
    used = [{"id": name, "shortDescription": {"text": title}} for name, title in rules.items()]
    driver = {"name": "strongroom", "version": version, "rules": used}
    results = []
    for each in findings:
        text = each.message + (f" ({each.hint})" if each.hint else "")
        result: dict[str, Any] = {
            "ruleId": each.check,
            "level": each.severity,
            "message": {"text": f"{each.subject}: {text}"},
        }
        if files.get(each.subject):
            place = {"artifactLocation": {"uri": files[each.subject]}}
            result["locations"] = [{"physicalLocation": place}]
        results.append(result)
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }
