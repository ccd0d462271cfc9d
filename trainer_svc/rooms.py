"""Everything of the trainer wired together on a bus, a store and an inference service.

No resource is opened here; app.py opens them. Tests furnish the same rooms with their own.
"""

import os
from dataclasses import dataclass

from selm.artifacts import ArtifactStore
from selm.bus import Bus
from selm.erasure_bus import ErasureConsumer, ErasureStream
from selm.erasures import TRAINER
from selm.lessons import LessonRecord
from trainer_svc import render
from trainer_svc.core import Adapter
from trainer_svc.events import (
    AcknowledgementConsumer,
    BusAnnouncer,
    BusLessonBook,
    CancellationWatch,
    TrainingConsumer,
)
from trainer_svc.forgetting import Forgetting
from trainer_svc.jobs import TrainingJob
from trainer_svc.ports import Inference
from trainer_svc.registry.adapters import AdapterRegistry
from trainer_svc.registry.cancellations import BUCKET as CANCELLATIONS
from trainer_svc.registry.cancellations import Cancellations
from trainer_svc.registry.datasets import DatasetRegistry, EvaluationRegistry
from trainer_svc.registry.jobs import JobDefaults, JobRegistry
from trainer_svc.registry.revisions import RevisionRegistry
from trainer_svc.registry.table import Table
from trainer_svc.registry.taints import TaintRegistry
from trainer_svc.settings import TrainerSettings
from trainer_svc.training.announce import AliasAnnouncer
from trainer_svc.training.desk import Desk
from trainer_svc.training.exam import Examiner
from trainer_svc.training.keeper import LessonKeeper
from trainer_svc.training.prepare import BaseModelSource, Preparation, Workplace
from trainer_svc.training.publish import Publisher
from trainer_svc.training.queue import TrainingQueue
from trainer_svc.training.runner import TrainingProcess
from trainer_svc.training.templates import held_out_paraphrases
from trainer_svc.training.verify import Verifier
from trainer_svc.training.watch import JobWatch


@dataclass(frozen=True)
class Rooms:
    """The trainer's parts that are used from outside."""

    base: BaseModelSource
    adapters: AdapterRegistry
    revisions: RevisionRegistry
    jobs: JobRegistry
    datasets: DatasetRegistry
    evaluations: EvaluationRegistry
    taints: TaintRegistry
    watch: JobWatch
    desk: Desk
    queue: TrainingQueue
    verifier: Verifier
    training: TrainingConsumer
    cancellations: CancellationWatch
    acknowledgements: AcknowledgementConsumer
    erasures: ErasureConsumer


def furnish(
    settings: TrainerSettings,
    bus: Bus,
    store: ArtifactStore,
    inference: Inference,
    process: TrainingProcess | None = None,
) -> Rooms:
    """The parts, each knowing the ones it works with."""
    revisions = RevisionRegistry(
        bus.kv("revisions"), render.encode_revision, render.decode_revision
    )
    taints = TaintRegistry(bus.kv("taints"))
    adapters = AdapterRegistry(Table[Adapter](bus.kv("adapters"), Adapter), revisions, taints)
    jobs = JobRegistry(Table[TrainingJob](bus.kv("jobs"), TrainingJob))
    datasets = DatasetRegistry(bus.kv("datasets"))
    evaluations = EvaluationRegistry(bus.kv("evaluations"))
    book, announcer, watch = BusLessonBook(bus), BusAnnouncer(bus), JobWatch(jobs)
    keeper = LessonKeeper(book, adapters, revisions, evaluations)
    aliases = AliasAnnouncer(adapters, revisions, announcer)
    base = BaseModelSource(settings.base_model, settings.cache_dir)
    cancellations = Cancellations(bus.kv(CANCELLATIONS))
    queue = TrainingQueue(
        worker=f"{settings.shared.instance}/{os.getpid()}",
        jobs=jobs,
        defaults=JobDefaults(settings.max_attempts, settings.max_duration_s),
        preparation=Preparation(
            _workplace(settings),
            base,
            book,
            adapters,
            revisions,
            datasets,
            evaluations,
            store,
            inference,
            taints,
        ),
        process=process or TrainingProcess(),
        publisher=Publisher(store, adapters, revisions, evaluations, aliases, keeper, taints),
        keeper=keeper,
        announcer=announcer,
        watch=watch,
        cancellations=cancellations,
    )
    forgetting = Forgetting(ErasureStream(bus), adapters, revisions, datasets, evaluations, taints)
    examiner = Examiner(inference, _held_out)
    verifier = Verifier(book, adapters, revisions, jobs, keeper, examiner, announcer, watch)
    desk = Desk(adapters, jobs, aliases, keeper, announcer, watch)
    return Rooms(
        base=base,
        adapters=adapters,
        revisions=revisions,
        jobs=jobs,
        datasets=datasets,
        evaluations=evaluations,
        taints=taints,
        watch=watch,
        desk=desk,
        queue=queue,
        verifier=verifier,
        training=TrainingConsumer(bus, queue),
        cancellations=CancellationWatch(cancellations, desk),
        acknowledgements=AcknowledgementConsumer(bus, verifier),
        erasures=ErasureConsumer(bus, TRAINER, forgetting),
    )


def _workplace(settings: TrainerSettings) -> Workplace:
    return Workplace(
        work_dir=settings.work_dir,
        device=settings.device,
        num_threads=settings.threads,
        seed=settings.seed,
        consolidate_below=settings.consolidate_below,
        recipe=settings.recipe,
    )


def _held_out(record: LessonRecord) -> list[str]:
    return held_out_paraphrases(record.question, record.paraphrases)
