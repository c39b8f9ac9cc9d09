"""Dreams from a prompt: walks the live graph and says what it came by, in the memories' own words (API-1).

How it runs
1. Recall finds what answers the prompt; the walk begins at one of the best.
2. `wandering` goes on from memory to memory.
3. Each of them gives one sentence: at low creativity the one that fits the prompt best, else the one that fits what was
   said before it.

Nothing is changed: no weight, no access time. It is no activity either, as GetMemory is none, since it gives a dream
nothing new to dream of; and it wakes none. The same seed over the same memories gives the same answer, whose id is made
of it; only the trace id and the duration are of the call.
"""

from collections.abc import Sequence

import numpy as np

from dreamsvc import clock, contract, entropy
from dreamsvc.config import InForce
from dreamsvc.errors import Disabled, NotFound, invalid
from dreamsvc.memory import recall, rows, sentences, wandering
from dreamsvc.memory.embedding import TextEmbedding
from dreamsvc.memory.graph import GraphView, words_of
from dreamsvc.memory.store import Store
from dreamsvc.memory.wandering import LEAST, Step, Walked, Way, Wish
from dreamsvc.v1.dream_service_pb2 import (
    GenerateConstraints,
    GenerateMetadata,
    GenerateRequest,
    GenerateResponse,
    GenerateStep,
)
from dreamsvc.v1.memory_pb2 import Memory

# From here on a sentence answers what was said before it rather than the prompt.
FREE = 0.5
# Walks made anew around memories that were forgotten meanwhile, or that have no words.
TRIES = 8


class Generating:
    """Answers Generate; every call runs in the thread that makes it."""

    def __init__(self, store: Store, embedding: TextEmbedding, config: InForce) -> None:
        self._store = store
        self._embedding = embedding
        self._config = config

    def generate(self, request: GenerateRequest) -> GenerateResponse:
        """Raises Disabled, InvalidFields, and NotFound where the space has not LEAST memories with words."""
        began = clock.precise_s()
        if not self._config.features.generate_enabled:
            raise Disabled("generating is switched off (features.generate_enabled)")
        if not request.prompt.strip():
            raise invalid("prompt", "is blank")
        view = self._store.graph(request.space).view
        wish = self._wish(request, view)
        walked, memories = self._walk(request, view, wish)
        trace = self._trace(request, wish, walked.steps, memories)
        strengths = [step.link_strength for step in trace]
        output = sentences.joined([step.content for step in trace])
        return GenerateResponse(
            dream_id=entropy.uuid_for(
                *("generated", request.space, request.prompt, str(wish.seed)),
                *(part for step in trace for part in (step.memory_id, step.how, step.content)),
            ),
            output=output,
            trace=trace,
            trace_id=entropy.trace_id(),
            metadata=GenerateMetadata(
                seed=wish.seed,
                duration_ms=(clock.precise_s() - began) * 1000,
                creativity_score=walked.creativity,
                coherence_score=sum(strengths) / len(strengths),
            ),
        )

    def _wish(self, request: GenerateRequest, view: GraphView) -> Wish:
        constraints = GenerateConstraints()
        constraints.CopyFrom(request.constraints)
        # Where there are none at all, they were not filled in with the request.
        contract.fill(constraints)
        vector, _ = self._embedding.of_query(self._store.space(request.space), request.prompt)
        if vector is not None:
            vector = vector / np.linalg.norm(vector) if len(vector) == view.dense.dimension else None
        return Wish(
            vector=vector,
            seed=request.seed if request.HasField("seed") else entropy.seed(),
            creativity=constraints.creativity,
            coherence=constraints.coherence,
            steps=constraints.steps,
        )

    def _walk(self, request: GenerateRequest, view: GraphView, wish: Wish) -> tuple[Walked, dict[int, Memory]]:
        """A walk, and the memories on it, all of which have words."""
        query = recall.Query(request.prompt, wish.vector, wandering.FOUND, [], None, None)
        found = recall.find(view, query, self._config.recall)

        def text_of(node: int) -> str:
            memory = self._memories(request.space, [node]).get(node, Memory())
            return words_of(memory.title, memory.text)

        without: set[int] = set()
        for _ in range(TRIES):
            walked = wandering.wander(view, found, wish, text_of, without)
            if len(walked.steps) < LEAST:
                raise NotFound(_too_few(request.space, len(walked.steps)))
            nodes = [step.node for step in walked.steps]
            memories = self._memories(request.space, nodes)
            unfit = {node for node in nodes if not _has_words(memories.get(node))}
            if not unfit:
                return walked, memories
            without |= unfit
        raise NotFound(f'what answers the prompt in space "{request.space}" has no words to generate from')

    def _memories(self, space: str, nodes: list[int]) -> dict[int, Memory]:
        return self._store.memories_by_row(space, nodes, with_vectors=False)

    def _trace(
        self, request: GenerateRequest, wish: Wish, steps: Sequence[Step], memories: dict[int, Memory]
    ) -> list[GenerateStep]:
        types = self._type_names({step.edge_type for step in steps if step.way is Way.EDGE})
        asked = sentences.words_in(request.prompt)
        wanted = asked
        trace: list[GenerateStep] = []
        for step in steps:
            memory = memories[step.node]
            content = sentences.fitting(memory.title, memory.text, wanted, {one.content for one in trace})
            strength = step.strength
            if step.way is Way.PROMPT:
                strength = max(strength, sentences.shared(asked, words_of(memory.title, memory.text)))
            how = _how(step, types.get(step.edge_type, ""))
            trace.append(GenerateStep(content=content, memory_id=memory.id, how=how, link_strength=strength))
            if wish.creativity >= FREE:
                wanted = sentences.words_in(content)
        return trace

    def _type_names(self, types: set[int]) -> dict[int, str]:
        query = "SELECT id, name FROM edge_types WHERE id IN (%s)"
        return self._store.database.read(lambda connection: dict(rows.chosen(connection, query, types)))


def _has_words(memory: Memory | None) -> bool:
    if memory is None or memory.HasField("delete_time"):
        return False
    return bool(sentences.fitting(memory.title, memory.text, (), ()))


def _how(step: Step, edge_type: str) -> str:
    match step.way:
        case Way.PROMPT:
            return "answers the prompt"
        case Way.IMPORTANCE:
            return "nothing answers the prompt; one of the most important memories"
        case Way.EDGE:
            how = f"{edge_type} edge ({step.strength:.2f})"
        case Way.MEANING:
            how = f"near in meaning ({step.strength:.2f})"
        case Way.WORDS:
            how = f"shares words ({step.strength:.2f})"
        case Way.NONE:
            how = "answers the prompt too; nothing links it" if step.found else "nothing links it"
    return f"{how}; weaker than asked for, to stay near the prompt" if step.weak else how


def _too_few(space: str, count: int) -> str:
    has = f"only {count} {'memory' if count == 1 else 'memories'}" if count else "no memory"
    return f'space "{space}" has {has} with words; generating takes at least {LEAST}'
