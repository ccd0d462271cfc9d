"""`selm up --reload`: restarts the services whose code changed; needs watchfiles."""

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path

from watchfiles import PythonFilter, awatch

from selm.supervisor import Child


async def reload_on_change(children: Sequence[Child]) -> None:
    """Watch the code of the children and restart those concerned; never ends by itself."""
    folders = {folder for child in children for folder in child.spec.code}
    async for changes in awatch(*folders, watch_filter=PythonFilter()):
        changed = [Path(path) for _, path in changes]
        concerned = [child for child in children if runs_any_of(child.spec.code, changed)]
        for child in concerned:
            child.log.say(f"{child.spec.name} restarts: {_names(changed)} changed")
        await asyncio.gather(*(child.restart() for child in concerned))


def runs_any_of(code: Iterable[Path], changed: Sequence[Path]) -> bool:
    """One of the changed files lies in one of the folders."""
    return any(path.is_relative_to(folder) for folder in code for path in changed)


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(sorted({path.name for path in paths}))
