"""How a job is spread: not at all, one share of it in this process, or its parts over workers of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from workbench.core.errors import OptionError
from workbench.engine.cluster.ray_crew import Elsewhere, ray_crew
from workbench.engine.distribute import Here, Serving, Shard, parse_shard

Note = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """What ``--shard``, ``--ray`` and ``--workers`` ask for.

    Attributes:
        shard: ``2/8``: this process computes the second of eight shares and nothing else.
        ray: Address of a Ray cluster; ``local`` starts one on this machine.
        workers: How many workers; as many as the cluster has room for when None.
        serving: In a worker itself: what it answers.

    Raises:
        OptionError: for options that do not go together.
    """

    shard: str | None = None
    ray: str | None = None
    workers: int | None = None
    serving: Serving | None = None

    def __post_init__(self) -> None:
        parse_shard(self.shard)
        if self.shard is not None and self.ray is not None:
            raise OptionError("--shard and --ray are two ways to do the same", hint="choose one of them")
        if self.workers is not None and self.ray is None:
            raise OptionError("--workers is for --ray", hint="--ray --workers 2")
        if self.workers is not None and self.workers < 1:
            raise OptionError(f"{self.workers} workers cannot work", hint="--workers 2")

    def to_dict(self) -> dict[str, Any]:
        """Say what was chosen, for the record of a run."""
        chosen = {"shard": self.shard, "ray": self.ray, "workers": self.workers}
        return {name: value for name, value in chosen.items() if value is not None}

    @property
    def share(self) -> Shard | None:
        """The share of this process, if it has only one."""
        return parse_shard(self.shard)

    @contextmanager
    def division(
        self, program: Callable[..., Any], *, device: str | None = None, note: Note = lambda text: None
    ) -> Iterator[Here]:
        """Who computes the parts of a job.

        Args:
            program: The job, ready to run again in a worker as ``program(serving=...)``.
            device: Of the model; workers on CUDA get a GPU each.
        """
        if self.serving is not None:
            yield self.serving
        elif self.ray is None:
            yield self.share or Here()
        else:
            with ray_crew(program, address=self.ray, workers=self.workers, device=device, note=note) as crew:
                yield Elsewhere(crew=crew)
