"""Text generation on torch, for every transformers model that has ``generate``."""

from __future__ import annotations

import copy
import math
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import LongTensor, Tensor
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria
from transformers.generation.logits_process import (
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.generation.stopping_criteria import StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from backprop.engines import Allowed, Decoding, Generation
from backprop.engines.choosing import Noise
from backprop.engines.torch import device_of, inference

__all__ = ["TorchGenerator"]


class TorchGenerator:
    """Continues token sequences with a transformers decoder or encoder-decoder.

    Args:
        module: a transformers model with ``generate``.
    """

    limits: Mapping[str, int] = {"max_rows": 32}

    def __init__(self, module: Any) -> None:
        self.module = module
        config = module.generation_config
        ends = config.eos_token_id
        self.ends = frozenset([ends] if isinstance(ends, int) else ends or [])
        first_end = next(iter(sorted(self.ends)), 0)
        self.pad = config.pad_token_id if config.pad_token_id is not None else first_end

    def generate(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, allowed: Allowed | None = None
    ) -> list[list[Generation]]:
        """Return the generations of one batch of prompts, best first for each.

        Args:
            prompts: token ids, special tokens included; padded here.
            decoding: how to choose tokens.
            allowed: which tokens may come next, given a row and its new tokens.
        """
        if decoding.sample and decoding.beams > 1 and len(prompts) > 1:
            # Beams share one stream of random numbers, so each row has a run of its own.
            return [self.generate([prompt], decoding, allowed)[0] for prompt in prompts]
        copies = decoding.sequences if decoding.sample and decoding.beams == 1 else 1
        rows = [prompt for prompt in prompts for _ in range(copies)]
        tokens, scores = self._run(rows, decoding, allowed, copies)
        found = [
            Generation(self._trim(row.tolist()), score)
            for row, score in zip(tokens, scores, strict=True)
        ]
        per_prompt = decoding.sequences
        return [found[i : i + per_prompt] for i in range(0, len(found), per_prompt)]

    def stream(self, prompt: Sequence[int], decoding: Decoding) -> Iterator[int]:
        """Yield new tokens as the model makes them; closing the iterator ends the work.

        Args:
            prompt: token ids, special tokens included.
            decoding: how to choose tokens; one beam, one sequence.
        """
        streamer = _QueueStreamer()
        thread = threading.Thread(
            target=self._run_into, args=(streamer, prompt, decoding), daemon=True
        )
        thread.start()
        try:
            for token in streamer:
                if token in self.ends:
                    break
                yield token
        finally:
            streamer.closed.set()
            thread.join()
        streamer.reraise()

    def _run_into(
        self, streamer: _QueueStreamer, prompt: Sequence[int], decoding: Decoding
    ) -> None:
        try:
            self._run([prompt], decoding, None, 1, streamer)
        except BaseException as error:  # noqa: BLE001 - handed to the reader's thread
            streamer.error = error
        finally:
            streamer.end()

    def _run(
        self,
        rows: Sequence[Sequence[int]],
        decoding: Decoding,
        allowed: Allowed | None,
        copies: int,
        streamer: _QueueStreamer | None = None,
    ) -> tuple[Tensor, list[float]]:
        """Return (new tokens of every sequence, their scores)."""
        inputs, mask = self._pad(rows)
        is_encoder_decoder = self.module.config.is_encoder_decoder
        # A decoder's output repeats its prompt, an encoder-decoder's starts with one start token.
        skip = 1 if is_encoder_decoder else inputs.shape[1]
        per_row = 1 if copies > 1 else decoding.sequences
        samplers = _samplers(decoding, len(rows), copies)
        stops = _stops(decoding, skip) + ([streamer.criterion()] if streamer else [])
        with inference(self.module), _seeded(decoding):
            result = self.module.generate(
                inputs,
                attention_mask=mask,
                streamer=streamer,
                generation_config=self._config(decoding, per_row, skip),
                logits_processor=LogitsProcessorList(samplers),
                stopping_criteria=StoppingCriteriaList(stops),
                prefix_allowed_tokens_fn=_prefix(allowed, copies, skip),
            )
            scores = self._scores(result, skip) if decoding.scored else None
        count = len(rows) * per_row
        return result.sequences[:, skip:], scores or [math.nan] * count

    def _config(self, decoding: Decoding, per_row: int, skip: int) -> Any:
        """Return the model's generation configuration with what ``decoding`` says in it.

        A single beam samples by its own processors, so that each row has its own random numbers and
        never depends on its neighbours; to transformers it looks greedy.
        """
        config = copy.deepcopy(self.module.generation_config)
        samples = decoding.sample and decoding.beams > 1
        # Either may be said in all tokens or in new ones. transformers fills in what is None from
        # the model's own configuration and warns of two, so say it the model's way.
        for bound, new in (("max", decoding.max_new), ("min", decoding.min_new)):
            counts_new = getattr(config, f"{bound}_new_tokens") is not None
            setattr(config, f"{bound}_new_tokens", new if counts_new else None)
            setattr(config, f"{bound}_length", None if counts_new else skip + new)
        config.repetition_penalty = decoding.repetition_penalty
        config.num_beams, config.num_return_sequences = decoding.beams, per_row
        # Values without effect rather than None, which would be filled in too.
        config.length_penalty = decoding.length_penalty if decoding.beams > 1 else 1.0
        config.early_stopping = decoding.stop_early if decoding.beams > 1 else False
        config.do_sample = samples
        config.temperature = decoding.temperature if samples else 1.0
        config.top_k = decoding.top_k if samples else NO_TOP_K
        config.top_p = decoding.top_p if samples else 1.0
        config.pad_token_id = self.pad
        config.return_dict_in_generate = True
        config.output_scores = decoding.scored
        return config

    def _pad(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Return ids and mask; a decoder is padded on the left so that its prompts end together."""
        longest = max(map(len, rows))
        left = not self.module.config.is_encoder_decoder
        ids = torch.full((len(rows), longest), self.pad)
        mask = torch.zeros((len(rows), longest), dtype=torch.long)
        for i, row in enumerate(rows):
            place = slice(longest - len(row), None) if left else slice(0, len(row))
            ids[i, place] = torch.tensor(row)
            mask[i, place] = 1
        device = device_of(self.module)
        return ids.to(device), mask.to(device)

    def _scores(self, result: Any, skip: int) -> list[float]:
        """Return each sequence's mean log-probability among the tokens that were allowed."""
        steps = self.module.compute_transition_scores(
            result.sequences,
            result.scores,
            getattr(result, "beam_indices", None),
            normalize_logits=getattr(result, "beam_indices", None) is None,
        )
        scores = []
        for tokens, row in zip(result.sequences[:, skip:].tolist(), steps.tolist(), strict=True):
            length = min(len(self._trim(tokens)) + 1, len(tokens))
            scores.append(sum(row[:length]) / max(length, 1))
        return scores

    def _trim(self, tokens: list[int]) -> list[int]:
        """Return the tokens before the first end token."""
        end = next((i for i, token in enumerate(tokens) if token in self.ends), len(tokens))
        return tokens[:end]


NO_TOP_K = 50
"""transformers' default, the one value it takes as not given."""


def _samplers(decoding: Decoding, rows: int, copies: int) -> list[LogitsProcessor]:
    samplers: list[LogitsProcessor] = []
    if not decoding.sample or decoding.beams > 1:
        return samplers
    if decoding.temperature != 1:
        samplers.append(TemperatureLogitsWarper(decoding.temperature))
    if decoding.top_k:
        samplers.append(TopKLogitsWarper(decoding.top_k))
    if decoding.top_p < 1:
        samplers.append(TopPLogitsWarper(decoding.top_p))
    return [*samplers, _AddedNoise(decoding.seed, rows, copies)]


def _prefix(allowed: Allowed | None, copies: int, skip: int) -> Any:
    """Return ``allowed`` as transformers calls it: with all of a row's tokens."""
    if allowed is None:
        return None
    return lambda row, ids: allowed(int(row) // copies, ids[skip:].tolist())


class _AddedNoise(LogitsProcessor):
    """Adds noise, so that the largest score is a sample of the softmax; see ``Noise``.

    Each row has its own: the same for a text alone and in a batch, on this engine and on others,
    and different for each of its copies. Samples by several beams are drawn otherwise.
    """

    def __init__(self, seed: int | None, rows: int, copies: int) -> None:
        self.seed = seed
        self.copies = [row % copies for row in range(rows)]
        self.own: list[Noise] = []
        self.position = 0

    def __call__(self, input_ids: LongTensor, scores: Tensor) -> Tensor:
        """Return the scores of each row with that row's own noise added."""
        if not self.own:
            self.own = [Noise(self.seed, copy, scores.shape[-1]) for copy in self.copies]
        noise = np.stack([own.at(self.position) for own in self.own])
        self.position += 1
        for own in self.own:
            own.forget(self.position)
        return scores + torch.from_numpy(noise).to(scores.device, scores.dtype)


class _Stop(StoppingCriteria):
    """Ends the rows whose new tokens satisfy the caller's condition."""

    def __init__(self, decoding: Decoding, skip: int) -> None:
        self.stop = decoding.stop
        self.skip = skip

    def __call__(self, input_ids: LongTensor, scores: Any, **_: Any) -> Tensor:
        """Return a bool for each row."""
        done = [bool(self.stop and self.stop(row)) for row in input_ids[:, self.skip :].tolist()]
        return torch.tensor(done, device=input_ids.device)


def _stops(decoding: Decoding, skip: int) -> list[StoppingCriteria]:
    return [_Stop(decoding, skip)] if decoding.stop else []


class _QueueStreamer(BaseStreamer):
    """Hands tokens from the generating thread to the reader's."""

    def __init__(self) -> None:
        self.tokens: queue.Queue[int | None] = queue.Queue()
        self.closed = threading.Event()
        self.error: BaseException | None = None
        self.started = False

    def put(self, value: Tensor) -> None:
        """Take new tokens; the first call brings the prompt, which is left out."""
        if self.started:
            for token in value.flatten().tolist():
                self.tokens.put(token)
        self.started = True

    def end(self) -> None:
        """Say that no more tokens come."""
        self.tokens.put(None)

    def __iter__(self) -> Iterator[int]:
        """Yield tokens until the end."""
        while (token := self.tokens.get()) is not None:
            yield token

    def reraise(self) -> None:
        """Raise here what went wrong in the generating thread."""
        if self.error is not None:
            raise self.error

    def criterion(self) -> StoppingCriteria:
        """Return a criterion that ends generation once the reader has left."""
        return _Closed(self.closed)


class _Closed(StoppingCriteria):
    def __init__(self, closed: threading.Event) -> None:
        self.closed = closed

    def __call__(self, input_ids: LongTensor, scores: Any, **_: Any) -> Tensor:
        """Return True for every row once the reader has left."""
        return torch.full((len(input_ids),), self.closed.is_set(), device=input_ids.device)


@contextmanager
def _seeded(decoding: Decoding) -> Iterator[None]:
    """Seed torch for beam sampling, the one kind without random numbers of each row's own."""
    seed = decoding.seed if decoding.sample and decoding.beams > 1 else None
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        yield
