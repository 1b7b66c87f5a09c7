"""Every function a template may call, by name."""

from typing import Final

from strongroom.template.builtins import BUILTINS
from strongroom.template.functions.dates import DATES
from strongroom.template.functions.defaults import DEFAULTS
from strongroom.template.functions.dicts import DICTS
from strongroom.template.functions.encoding import ENCODING
from strongroom.template.functions.external_secrets import EXTERNAL_SECRETS
from strongroom.template.functions.json import JSON
from strongroom.template.functions.key_material import CRYPTO
from strongroom.template.functions.letter_case import CASES
from strongroom.template.functions.lists import LISTS
from strongroom.template.functions.numeric import NUMBERS
from strongroom.template.functions.regex import REGEX
from strongroom.template.functions.semver import SEMVER
from strongroom.template.functions.strings import STRINGS
from strongroom.template.functions.urls import URLS
from strongroom.template.registry import Function, Table

# Later tables win, as external-secrets puts sprig's functions over Go's own.
TABLES: Final[tuple[Table, ...]] = (
    BUILTINS, STRINGS, CASES, REGEX, NUMBERS, LISTS, DICTS, DEFAULTS, DATES, ENCODING, JSON,
    URLS, SEMVER, CRYPTO, EXTERNAL_SECRETS,
)  # fmt: skip
FUNCTIONS: Final[dict[str, Function]] = {
    function.name: function for table in TABLES for function in table
}
