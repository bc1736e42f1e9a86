"""The stored form of a config is that of the domain that it builds."""

import pytest

from unite.config.recipes import recipe
from unite.domains import build_domain
from unite.domains.stored import stored_of


@pytest.mark.parametrize("name", ["smoke", "qm9", "mp20", "qm9-mp20"])
def test_it_is_what_the_domain_reads(name):
    config = recipe(name).domain
    domain, stored = build_domain(config), stored_of(config)
    assert stored.columns == domain.columns
    assert stored.folders == domain.folders
