"""Every template of the corpus, rendered by real Go and by us: the same bytes, or both refuse."""

from collections import Counter

import pytest
from go_oracle import Case, Judged, judge
from template_corpus import NOT_COMPARED, OURS, VALUES, drawn, written

from strongroom.model.clock import SimulatedClock
from strongroom.model.errors import Refusal
from strongroom.template import engine
from strongroom.template.functions import FUNCTIONS


def ours(case: Case) -> Judged:
    """What we make of a case, in the judge's terms."""
    try:
        template = engine.compile(case.text, "t")
        return Judged(template.render(case.values, clock=SimulatedClock(1_700_000_000)), "")
    except Refusal as refusal:
        return Judged(b"", str(refusal))


@pytest.mark.component
@pytest.mark.timeout(900)
def test_the_corpus_comes_out_as_go_renders_it() -> None:
    """Byte by byte; errors have to agree in happening, not in words."""
    cases = [Case(text, VALUES) for text in written() + drawn()]
    differences = []
    for case, judged in zip(cases, judge(cases), strict=True):
        found = ours(case)
        if bool(judged.error) != bool(found.error) or judged.output != found.output:
            differences.append((case.text, judged, found))
    assert differences == []


def test_the_corpus_covers_every_function_and_is_large() -> None:
    """What cannot be compared is named with its reason, and nothing else is left out."""
    texts = drawn()
    assert len(texts) + len(written()) >= 4_000
    words = Counter(word for text in texts for word in set(text.replace("(", " ").split()))
    missing = {name for name in FUNCTIONS if words[name] < 5} - NOT_COMPARED - OURS
    assert missing == set()
    assert FUNCTIONS.keys() >= NOT_COMPARED | OURS


def test_most_of_the_corpus_renders() -> None:
    """A corpus of refusals would prove little."""
    cases = [Case(text, VALUES) for text in drawn()[::9]]
    assert sum(not ours(case).error for case in cases) > 0.7 * len(cases)
