"""Stored configs are read back, those of older versions too, and runs keep their names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import pytest

from unite.config import schema
from unite.config.recipes import recipe
from unite.config.schema import ImagesConfig, RunConfig
from unite.config.serialise import digest, from_dict, to_dict


@dataclass(frozen=True, kw_only=True)
class WordsConfig:
    kind: Literal["words"] = "words"
    num_classes: int = 2
    longest: int = 5


def test_a_config_comes_back():
    for name in ("digits", "unite-xl-released"):
        assert from_dict(RunConfig, to_dict(recipe(name))) == recipe(name)


def test_a_field_that_an_older_version_did_not_have_takes_its_default():
    stored = to_dict(recipe("digits"))
    del stored["cluster"]["device_tflops"]
    assert from_dict(RunConfig, stored) == recipe("digits")


def test_where_a_run_is_computed_is_no_part_of_its_name():
    base = recipe("digits")
    assert digest(base) == "f81d4e16adf6", "the README's run; a new name would orphan every run"
    elsewhere = replace(base, cluster=replace(base.cluster, use_gpu=True, device_tflops=989.0))
    assert digest(elsewhere) == digest(base)


# Of runs that were named before any later field came.
KNOWN_DIGESTS = {
    "digits": "f81d4e16adf6",
    "digits-paper": "9047268c07a6",
    "cifar10-small": "ed747b003774",
    "smoke": "43df000cc496",
    "unite-b-paper": "9df8a3db6ac9",
}


@pytest.mark.parametrize("name", KNOWN_DIGESTS)
def test_a_later_field_at_its_default_is_no_part_of_a_runs_name(name):
    config = recipe(name)
    assert digest(config) == KNOWN_DIGESTS[name]
    later = replace(config, model=replace(config.model, init="released"))
    assert digest(later) != digest(config), "a value of its own is another run"
    later = replace(config, optim=replace(config.optim, muon_eps=1e-6))
    assert digest(later) != digest(config)


def test_an_unknown_field_is_named():
    stored = to_dict(recipe("digits"))
    stored["flow"]["speed"] = 1
    with pytest.raises(ValueError, match="FlowConfig has no field 'speed'"):
        from_dict(RunConfig, stored)


def test_of_several_domains_the_one_of_the_stored_kind_is_rebuilt(monkeypatch):
    monkeypatch.setattr(schema, "DomainConfig", ImagesConfig | WordsConfig)
    for domain in (WordsConfig(longest=9), WordsConfig(), ImagesConfig(size=8)):
        config = replace(recipe("digits"), domain=domain)
        assert from_dict(RunConfig, to_dict(config)) == config
    stored = to_dict(recipe("digits"))
    stored["domain"]["kind"] = "sounds"
    with pytest.raises(ValueError, match="domain.kind = 'sounds' is unknown; there are images, w"):
        from_dict(RunConfig, stored)


def test_a_stored_domain_without_a_kind_is_of_images(monkeypatch):
    stored = to_dict(recipe("digits"))
    del stored["domain"]["kind"]
    assert from_dict(RunConfig, stored) == recipe("digits")
    monkeypatch.setattr(schema, "DomainConfig", ImagesConfig | WordsConfig)
    assert from_dict(RunConfig, stored) == recipe("digits")
    stored["domain"] = {"num_classes": 3}  # fields of both
    assert from_dict(RunConfig, stored).domain == ImagesConfig(num_classes=3)
    stored["domain"] = {"colour": 1}
    with pytest.raises(ValueError, match="ImagesConfig has no field 'colour'"):
        from_dict(RunConfig, stored)
