"""The demo: teaches invented facts to the running services and shows what became of each.

Everything goes over the public contract, as any caller's would; a service that dies meanwhile is
waited for. Owns no result: the report it returns holds what this run saw.
"""

import asyncio
import time

import grpc
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from selm.api.inference.v1 import generation_pb2
from selm.api.memory.v1 import memory_pb2
from selm.client import Receipt, SelmClient
from selm.client_answer import Answer, AnswerStream, Ask
from selm.demo_facts import DEFAULT_SEED, Fact, invent_facts
from selm.demo_learning import Learning
from selm.demo_report import Report, Row
from selm.errors import SelmError
from selm.questions import answer_contains

# Long enough to see a first answer being wrong, short enough for two slow cores.
MAX_OUTPUT_TOKENS = 24
# The longest the server lets an answer wait for memory: nothing here is about a busy machine.
MEMORY_TIMEOUT_S = 5.0
PATIENCE_S = 120.0
# A generation is written down shortly after its answer; if inference died in between, ask again.
MAX_LOST_GENERATIONS = 5
ASK_AGAIN_S = 0.1
WITHOUT_MEMORY = frozenset(
    {generation_pb2.MEMORY_STATE_DEGRADED, generation_pb2.MEMORY_STATE_STALE}
)


async def run_demo(
    selm: SelmClient, seed: int = DEFAULT_SEED, console: Console | None = None
) -> Report:
    """Asks, corrects, asks again, trains, and asks with memory off. Progress goes to `console`."""
    progress = Progress(
        TextColumn("{task.description}", justify="left"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        console=console or Console(stderr=True),
    )
    report = Report(seed, [Row(fact) for fact in invent_facts(seed)])
    with progress:
        demo = Demo(selm, report, progress)
        await demo.ask_before()
        start = time.monotonic()
        await demo.correct()
        await Learning(selm, report, progress).until_settled()
        await demo.ask_without_memory()
        report.total_s = time.monotonic() - start
    report.num_repeats = selm.patience.num_repeats
    return report


class Demo:
    """The questions of one run and the rows their answers go to."""

    def __init__(self, selm: SelmClient, report: Report, progress: Progress) -> None:
        self._selm = selm
        self._report = report
        self._progress = progress
        self._generations: dict[Fact, str] = {}

    async def ask_before(self) -> None:
        """What is known without us, and what stands beside each fact."""
        task = self._bar("asking before", 2 * len(self._report.rows))
        for row in self._report.rows:
            answer = await self._ask(row.fact.question)
            row.before = answer.text
            row.known = answer_contains(row.fact.answer, answer.text)
            self._generations[row.fact] = answer.generation
            self._progress.advance(task)
            row.neighbour_before = (await self._ask(row.fact.neighbour)).text
            self._progress.advance(task)
        known = sum(row.known for row in self._report.rows)
        if known:
            self._report.notes.append(
                f"{known} of {len(self._report.rows)} facts were known before this run; "
                "another --seed teaches new ones"
            )

    async def correct(self) -> None:
        """Corrects each wrong answer and at once asks again."""
        rows = [row for row in self._report.rows if not row.known]
        task = self._bar("correcting", len(rows))
        for row in rows:
            await self._correct(row)
            note = f"first text after {row.first_token_s:.3f} s" if row.first_token_s else ""
            self._progress.update(task, advance=1, note=note)

    async def ask_without_memory(self) -> None:
        """What the weights know alone, and whether the neighbours were left in peace."""
        rows = self._report.rows
        task = self._bar("memory off", sum(2 + len(row.fact.paraphrases) for row in rows))
        for row in rows:
            answer = await self._ask(row.fact.question, memory_pb2.MEMORY_USE_NONE)
            row.memory_off = answer.text
            self._note_revision(answer)
            self._progress.advance(task)
            for paraphrase in row.fact.paraphrases:
                said = await self._ask(paraphrase, memory_pb2.MEMORY_USE_NONE)
                row.paraphrases.append(said.text)
                self._progress.advance(task)
            row.neighbour_after = (await self._ask(row.fact.neighbour)).text
            self._progress.advance(task)

    async def _correct(self, row: Row) -> None:
        receipt = await self._give_correction(row)
        # The clock starts when the client holds feedback's OK.
        acknowledged, repeats = time.monotonic(), self._selm.patience.num_repeats
        row.lesson = receipt.lesson
        stream = await self._read(row.fact.question, token=receipt.consistency_token)
        row.corrected = stream.answer.text
        if stream.first_text_time is not None:
            row.first_token_s = stream.first_text_time - acknowledged
        row.num_repeats = self._selm.patience.num_repeats - repeats

    async def _give_correction(self, row: Row) -> Receipt:
        for _ in range(MAX_LOST_GENERATIONS):
            try:
                return await self._selm.correct(self._generations[row.fact], row.fact.answer)
            except SelmError as error:
                if error.code != grpc.StatusCode.NOT_FOUND:
                    raise
                self._selm.patience.num_repeats += 1
                self._generations[row.fact] = (await self._ask(row.fact.question)).generation
        return await self._selm.correct(self._generations[row.fact], row.fact.answer)

    async def _ask(
        self,
        question: str,
        max_use: "memory_pb2.MemoryUse.ValueType" = memory_pb2.MEMORY_USE_UNSPECIFIED,
    ) -> Answer:
        return (await self._read(question, max_use=max_use)).answer

    async def _read(
        self,
        question: str,
        *,
        max_use: "memory_pb2.MemoryUse.ValueType" = memory_pb2.MEMORY_USE_UNSPECIFIED,
        token: str = "",
    ) -> AnswerStream:
        """One answer to its end; asked again while a service it needs is being restarted."""
        ask = Ask(
            max_use=max_use,
            consistency_token=token,
            memory_timeout_s=MEMORY_TIMEOUT_S,
            max_output_tokens=MAX_OUTPUT_TOKENS,
        )
        patience = self._selm.patience
        wait, give_up = patience.start(), time.monotonic() + patience.limit_s
        while True:
            stream = self._selm.stream(question, ask)
            try:
                await stream.whole()
            except SelmError as error:
                # Broken in the middle too: here, unlike in the client, the whole question may be
                # asked again.
                await wait.after(error)
                continue
            state = stream.answer.memory_state
            if state not in WITHOUT_MEMORY or time.monotonic() > give_up:
                return stream
            # Only a memory that is away excuses a late answer; one that lags behind does not.
            patience.num_repeats += state == generation_pb2.MEMORY_STATE_DEGRADED
            await asyncio.sleep(ASK_AGAIN_S)

    def _note_revision(self, answer: Answer) -> None:
        resolution = answer.resolution
        if resolution.adapter_applied and resolution.sha256 not in self._report.sha256:
            self._report.revisions.append(resolution.adapter_revision)
            self._report.sha256.append(resolution.sha256)

    def _bar(self, description: str, total: int) -> TaskID:
        return self._progress.add_task(f"{description:<16}", total=total, note="")
