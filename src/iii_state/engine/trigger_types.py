"""The trigger types that matter most: `state`, and those of workers."""

from __future__ import annotations

from collections.abc import Sequence

from iii_state.core.bindings import Binding, BindingConfig
from iii_state.engine import inprocess, state_schemas
from iii_state.engine.functions import DEFAULT_NAMESPACE
from iii_state.engine.reactions import Reactions
from iii_state.engine.triggers import Schema, Trigger, TriggerType
from iii_state.engine.workers import Worker
from iii_state.errors import LimitExceeded
from iii_state.wire import messages


class StateTriggers(TriggerType):
    """The type `state`: changes of the store. Reactions keep the places of those that are away."""

    def __init__(self, reactions: Reactions) -> None:
        super().__init__(
            "state",
            state_schemas.TRIGGER_DESCRIPTION,
            owner=inprocess.STATE,
            config_schema=state_schemas.TRIGGER_CONFIG,
            call_schema=state_schemas.TRIGGER_CALL,
        )
        self._reactions = reactions

    def bind(self, trigger: Trigger) -> None:
        """See `TriggerType.bind`."""
        self._reactions.bind(
            trigger.owner,
            Binding(
                trigger.id,
                trigger.function_id,
                trigger.target_namespace,
                BindingConfig.parse(trigger.config),
                trigger.config,
                trigger.metadata,
                trigger.revision,
            ),
        )

    def unbind(self, trigger: Trigger) -> None:
        """See `TriggerType.unbind`."""
        self._reactions.unbind(trigger.id)

    def owner_left(self, owner: Worker, triggers: Sequence[Trigger]) -> None:
        """See `TriggerType.owner_left`."""
        self._reactions.detach(owner)


class Provided(TriggerType):
    """A type that a worker watches for. It is told of each trigger, and calls the function itself.

    A trigger counts as active until the provider says otherwise.
    """

    def __init__(
        self,
        provider: Worker,
        namespace: str,
        type_id: str,
        description: str,
        config_schema: Schema | None,
        call_schema: Schema | None,
    ) -> None:
        super().__init__(
            type_id,
            description,
            namespace=namespace,
            provider=provider,
            config_schema=config_schema,
            call_schema=call_schema,
        )
        self._worker = provider

    def bind(self, trigger: Trigger) -> None:
        """See `TriggerType.bind`."""
        worker = self._worker
        text = messages.register_trigger(
            trigger_id=trigger.id,
            trigger_type=self.id,
            function_id=trigger.function_id,
            config=trigger.config or b"{}",
            metadata=trigger.metadata,
            namespace=trigger.namespace,
            trigger_namespace=None if self.namespace == DEFAULT_NAMESPACE else self.namespace,
        )
        if len(text) > worker.message_bytes_max:
            raise LimitExceeded(
                f"The trigger takes {len(text)} bytes, more than the {worker.message_bytes_max} "
                f"that the client of its provider {worker.label} can receive",
                code="payload_too_large",
                limit="message_bytes_max",
                actual=len(text),
                bound=worker.message_bytes_max,
            )
        worker.peer.send(text)

    def unbind(self, trigger: Trigger) -> None:
        """See `TriggerType.unbind`."""
        self._worker.peer.send(messages.unregister_trigger(trigger.id, self.id))
