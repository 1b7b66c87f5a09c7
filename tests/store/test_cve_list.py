"""Every hole of Vault and OpenBao that is known to us is a test under its id, or of no concern.

`TESTED` names, for each id, the id that the test's name carries; `OF_NO_CONCERN` says why a hole
cannot be here. An engine, method or feature that comes takes its rows from the second table into
the first.
"""

import re
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).resolve().parents[1]

TESTED: Final = {
    "CVE-2025-6000": "cve_2025_6000",
    "CVE-2025-54997": "cve_2025_6000",
    "CVE-2025-5999": "cve_2025_5999",
    "CVE-2025-54996": "cve_2025_5999",
    "CVE-2025-64761": "cve_2025_64761",
    "CVE-2026-3605": "cve_2026_3605",
    "CVE-2026-115365": "cve_2026_115365",
    "CVE-2026-105820": "cve_2026_115365",
    "GHSA-xp3c-3jw3-4vcr": "cve_2026_63131",
    "CVE-2026-63131": "cve_2026_63131",
    "CVE-2026-93335": "cve_2026_93335",
    "CVE-2026-89322": "cve_2026_89322",
    "GHSA-59w7-v8rr-pr4p": "ghsa_59w7",
    "CVE-2021-43998": "cve_2021_43998",
    "CVE-2021-41802": "cve_2021_41802",
    "CVE-2022-40186": "cve_2022_40186",
    "CVE-2025-6004": "cve_2025_6004",
    "CVE-2025-54998": "cve_2025_6004",
    "CVE-2025-6010": "cve_2025_6010_and_6011",
    "CVE-2025-6011": "cve_2025_6010_and_6011",
    "CVE-2025-54999": "cve_2025_6010_and_6011",
    "CVE-2025-6037": "cve_2025_6037",
    "CVE-2024-2048": "cve_2024_2048",
    "CVE-2026-39388": "cve_2026_39388",
    "CVE-2024-5798": "cve_2024_5798",
    "CVE-2025-6203": "cve_2025_6203",
    "CVE-2025-59043": "cve_2025_6203",
    "CVE-2025-12044": "cve_2025_12044",
    "CVE-2023-6337": "cve_2023_6337",
    "CVE-2023-5954": "cve_2023_5954",
    "CVE-2025-4166": "cve_2025_4166",
    "CVE-2025-52893": "cve_2025_4166",
    "CVE-2025-62513": "cve_2025_62513",
    "CVE-2025-62705": "cve_2025_62705",
    "CVE-2024-0831": "cve_2024_0831",
    "CVE-2024-8365": "cve_2024_8365",
    "CVE-2026-46405": "cve_2026_46405",
    "CVE-2026-45808": "cve_2026_45808",
    "GHSA-c36x-h252-g9x2": "cve_2026_40264",
    "CVE-2026-40264": "cve_2026_40264",
    "GHSA-mwr2-wmgp-crj6": "ghsa_mwr2",
    "CVE-2026-5807": "cve_2025_52894",
    "CVE-2025-52894": "cve_2025_52894",
    "CVE-2025-4656": "cve_2025_52894",
    "CVE-2026-63132": "cve_2026_63132",
    "GHSA-34fc": "cve_2026_63132",
    "GHSA-8w8f": "ghsa_8w8f",
    "CVE-2024-9180": "cve_2024_9180",
    "CVE-2023-24999": "cve_2023_24999",
    "CVE-2021-32923": "cve_2021_32923",
    "CVE-2020-25816": "cve_2020_25816",
    "CVE-2026-33757": "cve_2026_33757",
    "CVE-2026-33758": "cve_2026_33758",
    "CVE-2023-4680": "cve_2023_4680",
    "CVE-2023-25000": "cve_2023_25000",
}
OF_NO_CONCERN: Final = {
    "CVE-2025-6014": "there is no TOTP engine",
    "CVE-2025-55000": "there is no TOTP engine",
    "CVE-2025-6015": "there is no login MFA",
    "CVE-2025-55003": "there is no login MFA",
    "CVE-2020-16250": "there is no AWS auth method",
    "CVE-2020-16251": "there is no GCP auth method",
    "CVE-2024-8185": "there is no Raft storage, so nothing joins",
    "CVE-2026-46358": "a request cannot log in on its way (inline auth)",
    "GHSA-rh46": "a request cannot log in on its way, and there are no workflows",
    "CVE-2026-115366": "the plugin catalog cannot be written, and there is no namespace but the root's",
    "CVE-2020-10661": "there is no namespace but the root's that a policy could reach into",
    "CVE-2026-39946": "there is no database engine",
    "GHSA-6mwx": "there is no LDAP method or engine",
    "GHSA-g892": "there is no PKI engine",
    "CVE-2026-105818": "there is no ACME server",
    "CVE-2024-7594": "there is no SSH engine",
    "CVE-2021-29653": "there is no PKI engine that writes revocation lists",
    "CVE-2024-6468": "the PROXY protocol is not read",
    "GHSA-444v": "the agent's output is judged by the tests of delivery",
    "CVE-2026-105816": "there are no plugins",
    "CVE-2025-49827": "there is no method that asks a cloud's STS",
    "CVE-2025-49831": "there is no method that asks a cloud's STS",
    "CVE-2025-49828": "policies run no code",
}


def test_every_id_of_the_list_has_its_test() -> None:
    names = re.compile(r"^(?:async )?def (test_\w+)\(", re.MULTILINE)
    here = {name for path in TESTS.rglob("test_*.py") for name in names.findall(path.read_text())}
    missing = {
        each: wanted
        for each, wanted in TESTED.items()
        if not any(name.startswith(f"test_{wanted}_") for name in here)
    }
    assert missing == {}


def test_every_test_under_an_id_stands_in_the_list() -> None:
    named = re.compile(r"def test_((?:cve_\d+_\d+|ghsa_\w{4}))_")
    here = {name for path in TESTS.rglob("test_*.py") for name in named.findall(path.read_text())}
    assert here <= {"_".join(each.split("_")[:3]) for each in TESTED.values()}


def test_no_id_is_in_both_tables() -> None:
    assert not TESTED.keys() & OF_NO_CONCERN.keys()
