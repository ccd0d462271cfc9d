"""Which handler answers a method. Services may be added while the server already runs."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import grpc

from selm.errors import SelmError


class Router(grpc.GenericRpcHandler):
    """The one generic handler of a server; what it does not know it refuses with a reason.

    Generated `add_..._to_server` functions take it in the place of the server. Without it a port
    could not answer health before the model is loaded, since gRPC takes no handler after the start.
    """

    def __init__(self) -> None:
        self._handlers: list[Any] = []
        self.service_names: list[str] = []
        self.is_complete = False

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        self._handlers.extend(handlers)
        self.service_names.extend(handler.service_name() for handler in handlers)

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """The same handlers once more, for a look-up that a running server no longer learns."""

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        for handler in self._handlers:
            found = handler.service(details)
            if found is not None:
                return found
        return self._refusal(details.method.lstrip("/"))

    def _refusal(self, method: str) -> Any:
        async def refuse(request: object, context: object) -> NoReturn:
            if not self.is_complete and method.startswith("selm.api."):
                raise SelmError(
                    "STARTING",
                    "this server is still starting",
                    metadata={"waiting_for": "services"},
                )
            raise SelmError(
                "NOT_IMPLEMENTED",
                f"{method} is not implemented by this server",
                metadata={"method": method},
            )

        return grpc.unary_unary_rpc_method_handler(refuse)
