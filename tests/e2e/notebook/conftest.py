"""One gateway whose clusters get their workers from notebooks."""

import pytest

from rigs.lending import running_lending


@pytest.fixture(scope="module")
def lending():
    with running_lending() as lending:
        yield lending
