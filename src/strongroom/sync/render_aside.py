"""Templates that make keys or hash passwords are rendered beside the loop.

A key of 4096 bits takes seconds, and an operator that stands still for some of them loses the
lead. The libraries that make them let other threads run meanwhile.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from strongroom.kube.resource import Object
from strongroom.sync.render import Inputs, Rendered, render_target
from strongroom.sync.rewrite import Render
from strongroom.sync.spec import Spec
from strongroom.sync.template_spec import Template

# The functions that charge a template for a slow call.
_SLOW: Final = re.compile(
    rb"gen(PrivateKey|CA|SelfSignedCert|SignedCert)|bcrypt|htpasswd|derivePassword|(?i:pkcs12)"
)
_ASIDE: Final = ThreadPoolExecutor(2, "templates")


async def rendered(
    item: Object, spec: Spec, values: Mapping[str, bytes], inputs: Inputs, render: Render
) -> Rendered:
    """Everything the target shall hold; raises what `render_target` raises."""
    work = partial(render_target, item, spec, values, inputs, render)
    if spec.template is None or not any(map(_SLOW.search, _texts(spec.template, inputs))):
        return work()
    return await asyncio.get_running_loop().run_in_executor(_ASIDE, work)


def _texts(template: Template, inputs: Inputs) -> Iterator[bytes]:
    """All that is rendered."""
    for _, text in (*template.data, *template.labels, *template.annotations):
        yield text.encode()
    for source in template.sources:
        yield source.literal.encode()
    for held in inputs.values():
        yield from held.values()
