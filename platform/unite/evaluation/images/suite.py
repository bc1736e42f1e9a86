"""Base of the suites that measure features of images."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

from unite.config.schema import ImagesConfig, RunConfig
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.images.preparation import Extractors
from unite.evaluation.images.sources import ExtractorSource
from unite.evaluation.suite import Run, Suite
from unite.evaluation.target import Target


@dataclass(frozen=True, kw_only=True)
class FeatureSuite(Suite):
    """A suite that needs extractors, which may first have to be fitted on the training images."""

    sources: tuple[ExtractorSource, ...] = ()
    """Extractors; none before the preparation."""
    extractors: Extractors | None = field(default=None, compare=False)
    """Extractors of the request, which the preparation finds or fits."""

    @property
    def images(self) -> ImagesConfig:
        """Size, channels and classes of its images."""
        return images_of_run(self.subject.config)

    @property
    def needs(self) -> tuple[str, ...]:
        """Extractors, as they were asked for."""
        return self.extractors.places if self.extractors else ()

    @property
    def remarks(self) -> tuple[str, ...]:
        """Reasons for the choice of extractors."""
        return self.extractors.remarks if self.extractors else ()

    @property
    def notices(self) -> tuple[str, ...]:
        """Remarks, and the fit that comes first."""
        fit = self.extractors.fit if self.extractors else None
        return (*self.remarks, *((fit.title,) if fit else ()))

    @property
    def as_asked(self) -> Self:
        """Without extractors."""
        return replace(self, sources=())

    def prepared(self, run: Run) -> Self:
        """With its extractors."""
        return replace(self, sources=self.extractors.prepared(run)) if self.extractors else self

    def resolved(self) -> Self | None:
        """With its extractors; None while one is not fitted."""
        sources = self.extractors.sources if self.extractors else self.sources
        return replace(self, sources=sources) if sources else None


def images_of_run(config: RunConfig) -> ImagesConfig:
    """The images of a run; ValueError for a run of something else."""
    if not isinstance(config.domain, ImagesConfig):
        raise ValueError(f"this suite measures images, and the run's samples are {config.domain}")
    return config.domain


def extractors_of(arguments: EvaluateArguments, target: Target) -> Extractors:
    """Extractors of a request; errors as from `choose`."""
    config = target.subject.config
    weights = arguments.weights or config.weights
    images = images_of_run(config)
    return Extractors.of(arguments.extractor, target.train, images, target.storage, weights)
