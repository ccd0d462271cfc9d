"""Which scopes the RPCs of this service need; how they are asked for is in `selm.access`."""

from collections.abc import Iterable
from typing import Any

from memory_svc.core import Visibility
from selm import access
from selm.access import Rule

READ = "memories.read"
WRITE = "memories.write"
READ_ALL = "memories.read_all"
WRITE_ALL = "memories.write_all"
SHARE = "memories.share"
ADMIN = "memories.admin"
# For operators alone.
REEMBED = "memories.reembed"


def _reading(owner: str) -> Rule:
    return Rule(READ, owner=owner, foreign=READ_ALL, everyone=ADMIN)


def _writing(owner: str, memories: str = "") -> Rule:
    """`memories` is the path of what must not be SHARED without scope `memories.share`."""

    def more(request: Any) -> Iterable[str]:
        written = access.values_at(request, memories) if memories else ()
        return [SHARE for memory in written if memory.visibility == Visibility.SHARED]

    return Rule(WRITE, owner=owner, foreign=WRITE_ALL, everyone=ADMIN, more=more)


RULES: access.Rules = {
    "CreateMemory": _writing("parent", "memory"),
    "BatchCreateMemories": _writing("parent", "requests.memory"),
    "GetMemory": _reading("name"),
    "ListMemories": _reading("parent"),
    "UpdateMemory": _writing("memory.name", "memory"),
    "DeleteMemory": _writing("name"),
    "SearchMemories": _reading("parent"),
    "AssembleContext": _reading("parent"),
    "ListMemoryHistory": _reading("parent"),
    "GetMemoryStats": _reading("parent"),
    # These cross users, or concern all of the tenant.
    "PurgeMemories": Rule(ADMIN),
    "ExportMemories": Rule(ADMIN),
    "ImportMemories": Rule(ADMIN),
    # These concern every tenant of the deployment.
    "CreateReembedJob": Rule(REEMBED),
    "GetReembedJob": Rule(REEMBED),
    "ListReembedJobs": Rule(REEMBED),
    "CancelReembedJob": Rule(REEMBED),
}

guarded = access.guarded_by(RULES)
