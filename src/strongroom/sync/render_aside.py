"""Templates that make keys or hash passwords are rendered beside the loop.

A key of 4096 bits takes seconds, and an operator that stands still for some of them loses the
lead. The libraries that make them let other threads run meanwhile.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

from strongroom.kube.resource import Object
from strongroom.sync.render import Inputs, Rendered, render_target
from strongroom.sync.rewrite import Renderer, rewrite
from strongroom.sync.rewrite_spec import Rewrite, TransformRewrite
from strongroom.sync.spec import Spec
from strongroom.sync.template_spec import Template

T = TypeVar("T")

# The functions that charge a template for a slow call.
_SLOW: Final = re.compile(
    rb"gen(PrivateKey|CA|SelfSignedCert|SignedCert)|bcrypt|htpasswd|derivePassword|(?i:pkcs12)"
)
_ASIDE: Final = ThreadPoolExecutor(2, "templates")


async def rendered(
    item: Object, spec: Spec, values: Mapping[str, bytes], inputs: Inputs, renderer: Renderer
) -> Rendered:
    """Everything the target shall hold; raises what `render_target` raises."""
    work = partial(render_target, item, spec, values, inputs, renderer.together())
    return await aside(texts_of(spec.template, inputs), work)


async def rewritten(
    operations: Iterable[Rewrite], found: Mapping[str, bytes], renderer: Renderer
) -> dict[str, bytes]:
    """The keys with the operations applied; raises what `rewrite` raises."""
    work = partial(rewrite, operations, found, renderer.together())
    return await aside(texts_of_rewrites(operations), work)


async def aside(texts: Iterable[bytes], work: Callable[[], T]) -> T:
    """What the work gives, which is done in another thread where one of its texts is slow."""
    if not any(map(_SLOW.search, texts)):
        return work()
    return await asyncio.get_running_loop().run_in_executor(_ASIDE, work)


def texts_of(template: Template | None, inputs: Inputs) -> Iterator[bytes]:
    """All that is rendered of a template."""
    if template is None:
        return
    for _, text in (*template.data, *template.labels, *template.annotations):
        yield text.encode()
    for source in template.sources:
        yield source.literal.encode()
    for held in inputs.values():
        yield from held.values()


def texts_of_rewrites(operations: Iterable[Rewrite]) -> Iterator[bytes]:
    """All that is rendered for keys."""
    return (each.template.encode() for each in operations if isinstance(each, TransformRewrite))
