"""Asks Slurm for its own numbers: everybody's jobs each time, expected starts now and then."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from penstock.backends.command import Commands
from penstock.backends.insight import Figure
from penstock.backends.slurm import figures, parse, predict
from penstock.backends.slurm.acting import Acting, Said
from penstock.backends.slurm.predict import Place, Start
from penstock.backends.sums import limited
from penstock.model.demand import Demand
from penstock.model.errors import BackendError, Full, Rejected
from penstock.settings.backends import SlurmJobSettings
from penstock.settings.figures import SlurmFigureSettings


class Measure:
    """One Slurm's numbers. ``demands``: what profiles ask of it. ``jobs``: what all jobs are told."""

    def __init__(
        self,
        commands: Commands,
        acting: Acting,
        settings: SlurmFigureSettings,
        demands: Sequence[Demand] = (),
        jobs: SlurmJobSettings | None = None,
    ) -> None:
        self._commands = commands
        self._acting = acting
        self._settings = settings
        self._questions = questions(settings, demands, jobs or SlurmJobSettings())
        self._waits: dict[Place, float | None] = {}
        self._asked = -float("inf")

    async def figures(self) -> Sequence[Figure]:
        """One ``squeue``, and when it is time one ``sbatch --test-only`` a place, each after the
        other: nobody waits for these numbers.

        Raises Unavailable when everybody's jobs cannot be counted.
        """
        separator = f"|{secrets.token_hex(8)}|"
        words = figures.count_arguments(separator)
        done = await self._commands.run("squeue", *words, environ=figures.FULL_LISTS)
        failure = parse.ask_error("squeue", done.code, done.errors)
        if failure is not None:
            raise failure
        counted = await asyncio.to_thread(self._count, done.output, separator)
        await self._predict()
        return [*counted, *predict.as_figures(self._waits)]

    def _count(self, output: bytes, separator: str) -> list[Figure]:
        table = figures.count(output.decode(errors="replace"), separator)
        return list(figures.as_figures(limited(table, self._settings.users)))

    async def _predict(self) -> None:
        """Ask again what is due; what has no answer is missing until the next time."""
        period, now = self._settings.predict_period, time.monotonic()
        if not period or now - self._asked < period:
            return
        self._asked = now
        self._waits = dict.fromkeys(self._questions)
        for place, words in self._questions.items():
            try:
                start = await ask(self._commands, self._acting, words, self._settings.predict_user)
            except (Rejected, Full):
                continue
            except BackendError:
                return  # the others would wait as long for no answer
            self._waits[place] = max(0.0, start.at - time.time())


async def ask(commands: Commands, acting: Acting, words: Sequence[str], user: str | None) -> Start:
    """When such a job would start: one of this user's, or where nobody can be asked for, of the
    server's own account. Raises Rejected, Unavailable or another BackendError."""
    if user is not None and acting.rehearses:
        said = await acting.rehearse(user, words, predict.SCRIPT)
    else:
        done = await commands.run("sbatch", *words, data=predict.SCRIPT)
        said = Said(done.code, done.errors)
    return predict.parse_test(said.code, said.errors)


def questions(
    settings: SlurmFigureSettings, demands: Sequence[Demand], jobs: SlurmJobSettings
) -> dict[Place, Sequence[str]]:
    """For each place the arguments of ``sbatch``: a job as the first profile makes it there. Pure."""
    usual = demands[0].resources if demands else predict.SMALL
    wanted = [(each.extras, each.resources) for each in demands]
    wanted += [(more.model_dump(exclude_none=True), usual) for more in settings.predict.values()]
    found: dict[Place, Sequence[str]] = {}
    for extras, resources in wanted:
        try:
            each = told(jobs, extras)
        except ValidationError:  # the doctor says so; a user who chooses it is told, too
            continue
        if len(found) < predict.MOST:
            found.setdefault(predict.place_of(each), predict.arguments(each, resources))
    return found


def told(jobs: SlurmJobSettings, extras: Mapping[str, object]) -> SlurmJobSettings:
    """What all jobs are told, and what these are told besides, which wins.

    Raises ValidationError.
    """
    return SlurmJobSettings.model_validate({**jobs.model_dump(exclude_unset=True), **extras})
