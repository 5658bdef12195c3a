"""`DSTSmolVLM`: SmolVLM that says, at each decision position, what block comes next (docs/design.md §7): by two heads
of our own, or by the LM head's logits of three tokens, without a layer more.

Training: embed the ids, put frame features at the <image> tokens, run the text model once, apply the LM head at target
positions and what decides at decision positions only. Streaming: `extend` a KV cache block by block, `decide`, and
write a block (`writing.py`), which closes it: the cache then stands at the next decision.
Without `target_kind`, `forward` is the parent's. A checkpoint is SmolVLM's, with two more layers where heads decide;
what ours has to remember (tokens a frame, normalisation, tokens that decide) stands in config.json under "prospect".

B batch, T tokens, F frames, K tokens a frame, S pixels a side, D hidden, V vocabulary, N decisions, M targets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import Cache, SmolVLMConfig
from transformers.utils import ModelOutput

from pipeline.annotations.dst import State
from pipeline.errors import ProspectError
from prospect.layout import IGNORE, Tokens
from prospect.losses import count_targets, label_places, loss_sums
from prospect.model.checkpoint import ProspectSettings, check_finite, loading_errors, read_config
from prospect.model.constrain import UpdateConstraint
from prospect.model.decisions import binary_logits, checked
from prospect.model.hub import checkpoint_folder
from prospect.model.lora import base_of, is_adapter, merged
from prospect.model.moved import MovableCache
from prospect.model.steps import alone
from prospect.model.text import Packed, last_hidden
from prospect.model.vision import SmolVLMWithFrames
from prospect.model.writing import write_update


@dataclass
class DSTOutput(ModelOutput):
    """Of a forward with `target_kind`. Sums and counts are in the order of `losses.TERMS`."""

    sums: Tensor | None = None  # float32 (6,), differentiable
    counts: Tensor | None = None  # float32 (6,)
    decision_logits: Tensor | None = None  # (N, 2, 2): decision in row-major order, head (update, speak), class
    target_argmax: Tensor | None = None  # int64 (M,) in row-major order; only in eval mode


class DSTSmolVLM(SmolVLMWithFrames):
    _keys_to_ignore_on_load_missing = {r"^should_update_dst\.", r"^when_to_speak\."}  # noqa: RUF012

    def __init__(self, config: SmolVLMConfig) -> None:
        super().__init__(config)
        settings = ProspectSettings.of(config)
        self.decision_tokens = settings.decision_tokens  # None: heads decide
        if self.decision_tokens is None:
            self.should_update_dst = nn.Linear(config.text_config.hidden_size, 2)
            self.when_to_speak = nn.Linear(config.text_config.hidden_size, 2)
        settings.put_into(config)
        self.post_init()  # again, as the parent's did not see the heads

    @property
    def heads(self) -> list[nn.Module]:
        """The two heads; none where tokens decide."""
        return [] if self.decision_tokens else [self.should_update_dst, self.when_to_speak]

    @classmethod
    def from_checkpoint(
        cls,
        path_or_id: str | Path,
        tokens_per_frame: int | Literal["native"] | None = None,
        vision_chunk: int = 64,
        dtype: str | torch.dtype | None = None,
        attn_implementation: str = "sdpa",
        settings: Mapping[str, Any] | None = None,
    ) -> "DSTSmolVLM":
        """Load a SmolVLM2 checkpoint or one of ours; heads that are missing are drawn from the global random state.

        A LoRA checkpoint is merged into its base.

        Args:
            path_or_id: folder, or hub id (`hub.py`).
            tokens_per_frame: None: what the checkpoint remembers, else native.
            dtype: None: that of the checkpoint.
            settings: more to remember in config.json.

        Raises:
            ProspectError: there is no such checkpoint, it is incomplete, no SmolVLM, or cannot give that many tokens.
        """
        where = checkpoint_folder(str(path_or_id))
        config = read_config(where, tokens_per_frame, vision_chunk, settings or {})
        adapter = Path(where) if is_adapter(Path(where)) else None
        where = checkpoint_folder(base_of(adapter)) if adapter else where
        with loading_errors(where):
            model, loaded = cls.from_pretrained(
                where,
                config=config,
                dtype=dtype or "auto",
                attn_implementation=attn_implementation,
                output_loading_info=True,
            )
        if missing := sorted(loaded["missing_keys"]):
            raise ProspectError(
                f"{where}: its weights lack {len(missing)} of the model's tensors (such as {missing[0]}), expected all "
                "but the heads; copy or download the checkpoint again"
            )
        if adapter:
            with loading_errors(str(adapter)):
                model = merged(model, adapter)
        check_finite(model, str(path_or_id))
        return model

    # Training and the parent's forward

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        pixel_values: Tensor | None = None,
        pixel_attention_mask: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        frames: Tensor | None = None,
        features: Tensor | None = None,
        pooled: Tensor | None = None,
        target_kind: Tensor | None = None,
        update_labels: Tensor | None = None,
        speak_labels: Tensor | None = None,
        target_places: Tensor | None = None,
        decision_places: Tensor | None = None,
        sequence_starts: Tensor | None = None,
        longest: int = 0,
        focusing: float = 0.0,
        **kwargs: Any,
    ) -> Any:
        """Run, with `target_kind`, the training pass: a DSTOutput. Without: the parent's, where `frames` may be given.

        Args:
            attention_mask: int64 (B, T); in training right padding only, which causal attention never sees.
            frames: uint8 (F, 3, S, S), all of the batch, in row-major order of their <image> tokens.
            features: (F, K, D): of `encode_frames`, cached; in training in place of frames.
            pooled: (F, K, C): of `pool_frames`, cached; in place of features where the connector is trained.
            target_kind: uint8 (B, T): 1 LM target, 2 DST target. Token t is predicted from position t-1.
            update_labels, speak_labels: int64 (B, T): -100, 0 or 1, read at position t itself; labelled together.
            target_places, decision_places: int64 (M,) and (N,): where there are such, in the flattened (B * T) batch;
                None: looked for, for which a GPU has to be waited for.
            sequence_starts: int32 (N + 1,), of N sequences that follow one another in one row, and the end; with their
                position_ids (1, T), and the tokens of the `longest`. None: a sequence a row.
            focusing: of the decisions' losses (`losses.focusing`).

        Raises:
            ValueError: on a CPU. On a GPU a device-side assertion, as checking on the host would synchronise.
        """
        if target_kind is not None:
            assert input_ids is not None and update_labels is not None and speak_labels is not None
            if target_places is None or decision_places is None:
                target_places, decision_places = label_places(target_kind, update_labels)
            embeds = self._embed(input_ids, frames, features, pooled)
            labels = target_kind, update_labels, speak_labels, target_places, decision_places
            packed = None
            if sequence_starts is not None:
                assert position_ids is not None
                packed = Packed(position_ids, sequence_starts, longest)
            return self._training_forward(input_ids, embeds, attention_mask, packed, focusing, *labels)
        if frames is not None:
            assert input_ids is not None
            inputs_embeds = self._embed(input_ids, frames)
            input_ids = None
        return super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            pixel_values=pixel_values,
            pixel_attention_mask=pixel_attention_mask,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )

    def _training_forward(
        self,
        input_ids: Tensor,
        embeds: Tensor,
        attention_mask: Tensor | None,
        packed: Packed | None,
        focusing: float,
        target_kind: Tensor,
        update_labels: Tensor,
        speak_labels: Tensor,
        targets: Tensor,
        decisions: Tensor,
    ) -> DSTOutput:
        self._check(~(target_kind[:, 0] > 0).any(), "target_kind: found a target at t = 0, which nothing predicts")
        same = ((update_labels != IGNORE) == (speak_labels != IGNORE)).all()
        self._check(same, "update_labels, speak_labels: labelled at different positions, expected the same")
        if attention_mask is not None:
            is_right = (attention_mask[:, 1:] <= attention_mask[:, :-1]).all()
            self._check(is_right, "attention_mask: found padding before a token, expected right padding")
        hidden = last_hidden(self.model.text_model, embeds, packed).flatten(0, 1)  # (B*T, D)
        logits = self.lm_head(hidden[targets - 1])  # (M, V)
        decision_logits = self._decision_logits(hidden[decisions])  # (N, 2, 2)
        sums = loss_sums(
            logits,
            input_ids.flatten()[targets],
            target_kind.flatten()[targets],
            decision_logits,
            torch.stack([update_labels.flatten()[decisions], speak_labels.flatten()[decisions]], 1),  # (N, 2)
            focusing,
        )
        return DSTOutput(
            sums=sums,
            counts=count_targets(target_kind, update_labels, speak_labels),
            decision_logits=decision_logits,
            target_argmax=None if self.training else logits.argmax(-1),
        )

    def _decision_logits(self, hidden: Tensor) -> Tensor:
        """(..., D) to (..., 2, 2): what (update, speak), class; of heads in their dtype, which LoRA leaves at float32
        over a base in bf16, of tokens in float32."""
        if self.decision_tokens is None:
            hidden = hidden.to(self.should_update_dst.weight.dtype)
            return torch.stack([self.should_update_dst(hidden), self.when_to_speak(hidden)], -2)
        if type(self.lm_head) is not nn.Linear:  # peft's, which trains rows of new tokens apart from its weight
            logits = self.lm_head(hidden).float()  # (..., V)
            return binary_logits(torch.stack([logits[..., token] for token in self.decision_tokens], -1))
        rows = torch.stack([self.lm_head.weight[token] for token in self.decision_tokens]).float()  # (2 or 3, D)
        with torch.autocast(hidden.device.type, enabled=False):
            logits = hidden.float() @ rows.T  # (..., 2 or 3)
        return binary_logits(logits)

    def recompute_activations(self) -> None:
        """Switch on gradient checkpointing: a layer's activations are computed again in the backward pass, not kept."""
        # Renamed in transformers 5.2x.
        enable = getattr(self, "activation_checkpointing_enable", None) or self.gradient_checkpointing_enable
        enable({"use_reentrant": False})

    # Streaming

    def new_cache(self) -> MovableCache:
        return MovableCache()  # of a sliding window all is kept too: the mask ends it, and blocks can be taken back

    @torch.no_grad()
    def extend(self, input_ids: Tensor, frames: Tensor | None, cache: Cache) -> Tensor:
        """Append tokens (1, T) to the cache; their hidden states (1, T, D)."""
        return self.extend_embeds(self._embed(input_ids, frames), cache)

    @torch.no_grad()
    def extend_embeds(self, embeds: Tensor, cache: Cache) -> Tensor:
        """Append embedded tokens (1, T, D) to the cache; their hidden states (1, T, D)."""
        hidden: Tensor = self.model.text_model(inputs_embeds=embeds, past_key_values=cache, use_cache=True)[0]
        return hidden

    def embed_block(self, ids: Sequence[int], features: Tensor | None = None) -> Tensor:
        """Embed a block, (1, T, D); `features` as in `embed_rows`."""
        return self.embed_rows(torch.tensor([ids], device=self.device), features)

    @torch.no_grad()
    def embed_rows(self, input_ids: Tensor, features: Tensor | None = None) -> Tensor:
        """Embed ids (B, T), (B, T, D); `features` (frames * K, D), row-major: what <image> tokens stand for."""
        embeds: Tensor = self.get_input_embeddings()(input_ids)
        if features is None:
            return embeds
        return self._with_features(embeds, input_ids == self.config.image_token_id, features[None])

    @torch.no_grad()
    def decisions(self, hidden: Tensor) -> list[tuple[float, float]]:
        """Give probabilities that a dst_update block and an assistant block come next, of each of `hidden` (N, D)."""
        return [(update, speak) for update, speak in self.probabilities(hidden).tolist()]

    @torch.no_grad()
    def probabilities(self, hidden: Tensor) -> Tensor:
        """`decisions` as a tensor, float32 (N, 2), for which no GPU is waited for."""
        return self._decision_logits(hidden).float().softmax(-1)[..., 1]

    def decide(self, hidden_last: Tensor) -> tuple[float, float]:
        """Give both probabilities of one position; `hidden_last` is D numbers.

        Raises:
            ProspectError: they are no numbers, which no threshold would tell from silence.
        """
        return checked(*self.decisions(hidden_last.reshape(1, -1))[0])

    def generate_dst_update(
        self,
        input_ids: Tensor,
        frames: Tensor | None,
        tokenizer: Any,
        steps: Sequence[str],
        state: Mapping[str, State],
        legal: bool = True,
    ) -> str:
        """Write the update text, e.g. "S1->complete, S2->start", after a sequence (1, T) ending at a decision position.

        Raises:
            ProspectError: no transition is legal in `state`.
        """
        tokens = Tokens(tokenizer, self.prospect_settings.tokens_per_frame)
        constraint = UpdateConstraint(tokens.encode, tokens.end_of_utterance, steps, state, legal)
        if not constraint.possible:
            raise ProspectError(f"no dst_update can follow: no transition is legal in the state {dict(state)}")
        cache = self.new_cache()
        self.extend(input_ids, frames, cache)
        return alone(self, write_update(cache, tokens, constraint)).text
