"""DSTSmolVLM: SmolVLM with two heads that say, at every frame, whether to update the state and whether to speak.

It loads any SmolVLM/SmolVLM2 checkpoint with only the heads new, and what it saves the plain class loads too. Called
without `target_kind` it is the plain class. The training path differs in what it leaves out: frames go in as uint8 and
through the vision tower in chunks; the LM head runs at labelled positions alone.

B batch, T tokens, F frames, K tokens a frame, G tokens a frame before pooling, D hidden, V vocabulary, M targets,
N decisions.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoImageProcessor, SmolVLMConfig, SmolVLMForConditionalGeneration
from transformers.cache_utils import Cache, DynamicCache
from transformers.utils import ModelOutput

from pipeline.clips import Role
from pipeline.dst import State
from pipeline.errors import ProspectError
from prospect.layout import IGNORE, Tokens
from prospect.losses import count_targets, loss_sums
from prospect.model.constrain import UpdateConstraint

HEADS = ("should_update_dst", "when_to_speak")
MODEL_TYPES = ("smolvlm", "idefics3")  # SmolVLM 1 is published as idefics3: the same weights under the same names
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a checkpoint remembers beside the architecture, in config.json under `prospect`."""

    tokens_per_frame: int  # K
    image_mean: tuple[float, ...]  # of pixels scaled to 0..1, per channel
    image_std: tuple[float, ...]
    packing: str  # of the sequences it was trained on; streaming needs `clip`
    frame_wrap: str


@dataclass
class DSTOutput(ModelOutput):
    """Of the training path; sums and counts as in `losses.TERMS`."""

    sums: Tensor | None = None  # (6,)
    counts: Tensor | None = None  # (6,)
    decision_logits: Tensor | None = None  # (N, 2, 2): decision, head (update, speak), class; row by row of the batch
    target_argmax: Tensor | None = None  # (M,) the LM's choice for each target; None while training


class DSTSmolVLM(SmolVLMForConditionalGeneration):
    """SmolVLM with `should_update_dst` and `when_to_speak` heads; make it with `from_checkpoint`."""

    def __init__(self, config: SmolVLMConfig) -> None:
        super().__init__(config)
        hidden = config.text_config.hidden_size
        self.should_update_dst = nn.Linear(hidden, 2)
        self.when_to_speak = nn.Linear(hidden, 2)
        self.vision_chunk = 64  # frames in one forward of the vision tower
        self.post_init()

    @classmethod
    def from_checkpoint(
        cls,
        source: str,
        *,
        tokens_per_frame: int | Literal["native"] | None = None,
        packing: str | None = None,
        frame_wrap: str | None = None,
        dtype: str | torch.dtype = "float32",
        attn_implementation: str = "sdpa",
    ) -> "DSTSmolVLM":
        """Load a hub id or a folder. What is None comes from the checkpoint, or is the default of a new one.

        Raises:
            ProspectError: no such checkpoint, not a SmolVLM, weights missing, or tokens_per_frame impossible.
        """
        config = _read_config(source)
        native = native_tokens_per_frame(config)
        saved = getattr(config, "prospect", None) or {}
        wanted = tokens_per_frame or saved.get("tokens_per_frame", "native")
        processor = load_image_processor(source)
        config.prospect = asdict(
            Settings(
                tokens_per_frame=_check_tokens(native if wanted == "native" else wanted, native),
                image_mean=tuple(processor.image_mean),
                image_std=tuple(processor.image_std),
                packing=packing or saved.get("packing", "clip"),
                frame_wrap=frame_wrap or saved.get("frame_wrap", "none"),
            )
        )
        try:
            model, info = cls.from_pretrained(
                source, config=config, dtype=dtype, attn_implementation=attn_implementation, output_loading_info=True
            )
        except (OSError, RuntimeError) as error:
            raise ProspectError(f"{source}: weights cannot be loaded ({_first_line(error)})") from None
        missing = [key for key in info["missing_keys"] if key.split(".")[0] not in HEADS]
        if missing:
            some = ", ".join(sorted(missing)[:3])
            raise ProspectError(
                f"{source}: lacks {len(missing)} weights ({some} ...), expected a whole SmolVLM checkpoint"
            )
        if info["missing_keys"]:
            model._init_heads()
        loaded: DSTSmolVLM = model
        return loaded

    def _init_heads(self) -> None:
        """Small and the same in every run, whatever was drawn before."""
        generator = torch.Generator().manual_seed(0)
        for head in (self.should_update_dst, self.when_to_speak):
            weight = torch.randn(head.weight.shape, generator=generator) * 0.02
            head.weight.data.copy_(weight)
            head.bias.data.zero_()

    @property
    def settings(self) -> Settings:
        return Settings(**self.config.prospect)

    # Training

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        frames: Tensor | None = None,
        target_kind: Tensor | None = None,
        update_labels: Tensor | None = None,
        speak_labels: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """The training path where `target_kind` is given, else the plain class.

        Args:
            input_ids, attention_mask: (B, T) int64, right-padded.
            frames: (F, 3, S, S) uint8, in the order of their <image> tokens, row by row of the batch.
            target_kind: (B, T); where it is not 0, the token is a target, predicted from the position before.
            update_labels, speak_labels: (B, T) in {IGNORE, 0, 1}, labelled at the same positions, not shifted.

        Raises:
            ValueError: image tokens and frames do not match (checked on the CPU; `collate` makes them match), which
                would put features at wrong places.
        """
        if target_kind is None:
            return super().forward(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        assert input_ids is not None and frames is not None
        assert update_labels is not None and speak_labels is not None
        embeds = self._embed(input_ids, frames)  # (B, T, D)
        hidden = self.model.text_model(
            inputs_embeds=embeds, attention_mask=attention_mask, use_cache=False
        ).last_hidden_state  # (B, T, D)
        is_target = target_kind[:, 1:] > 0  # (B, T-1): position t predicts token t+1
        target_logits = self.lm_head(hidden[:, :-1][is_target])  # (M, V)
        is_decision = update_labels != IGNORE  # (B, T): heads are not shifted
        decision_logits = self._decision_logits(hidden[is_decision])  # (N, 2, 2)
        labels = torch.stack([update_labels[is_decision], speak_labels[is_decision]], dim=-1)  # (N, 2)
        sums = loss_sums(
            target_logits, input_ids[:, 1:][is_target], target_kind[:, 1:][is_target], decision_logits, labels
        )
        return DSTOutput(
            sums=sums,
            counts=count_targets(target_kind, update_labels, speak_labels),
            decision_logits=decision_logits.detach(),
            target_argmax=None if self.training else target_logits.argmax(-1),
        )

    def _decision_logits(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., 2, 2)."""
        return torch.stack([self.should_update_dst(hidden), self.when_to_speak(hidden)], dim=-2)

    def _embed(self, input_ids: Tensor, frames: Tensor) -> Tensor:
        """Token embeddings with the frames' features at the image tokens: (B, T, D)."""
        embeds = self.get_input_embeddings()(input_ids)  # (B, T, D)
        is_image = input_ids == self.config.image_token_id  # (B, T)
        num_tokens = len(frames) * self.settings.tokens_per_frame
        if not is_image.is_cuda and int(is_image.sum()) != num_tokens:
            raise ValueError(
                f"found {int(is_image.sum())} image tokens, expected {num_tokens} for {len(frames)} frames"
            )
        if not len(frames):
            # One black frame, times zero: every parameter takes part in every backward, as DDP expects.
            blank = frames.new_zeros(1, 3, *(2 * [self.config.vision_config.image_size]))
            return embeds + 0 * self.encode_frames(blank).sum() if self.training else embeds
        features = self.encode_frames(frames).flatten(0, 1)  # (F * K, D)
        return embeds.masked_scatter(is_image[..., None], features.to(embeds.dtype))

    def encode_frames(self, frames: Tensor) -> Tensor:
        """Features of frames (F, 3, S, S) uint8: (F, K, D).

        Not through `get_image_features`, which silently drops a frame that is exactly zero once normalised.
        """
        tower = self.model.vision_model
        trains = torch.is_grad_enabled() and any(p.requires_grad for p in tower.parameters())
        with torch.set_grad_enabled(trains):
            chunks = [self._see(chunk) for chunk in frames.split(self.vision_chunk)]
            grid = torch.cat(chunks)  # (F, side_v ** 2, D_v) row-major patches
        connector = self.model.connector
        shuffled = connector.pixel_shuffle(grid, connector.scale_factor)  # (F, G, D_v * scale ** 2), row-major
        return connector.modality_projection(_pool(shuffled, self.settings.tokens_per_frame))

    def _see(self, frames: Tensor) -> Tensor:
        """The vision tower on one chunk: uint8 (F, 3, S, S) -> patches (F, P, D_v)."""
        settings = self.settings
        mean, std = (
            torch.tensor(values, device=frames.device)[:, None, None]
            for values in (settings.image_mean, settings.image_std)
        )
        pixels = ((frames.float() / 255 - mean) / std).to(self.dtype)
        side = frames.shape[-1] // self.config.vision_config.patch_size
        mask = torch.ones(len(frames), side, side, dtype=torch.bool, device=frames.device)
        out = self.model.vision_model(pixel_values=pixels, patch_attention_mask=mask)
        return out.last_hidden_state

    # Streaming and generation: one sequence, with a KV cache

    def new_cache(self) -> Cache:
        return DynamicCache(config=self.config.text_config)

    @torch.inference_mode()
    def extend(self, cache: Cache, ids: Sequence[int], frames: Tensor | None = None) -> Tensor:
        """Append tokens to the cached sequence; returns their hidden states (T, D).

        frames: (F, 3, S, S) uint8 for the image tokens among `ids`.
        """
        device = self.lm_head.weight.device
        size = self.config.vision_config.image_size
        frames = torch.empty(0, 3, size, size, dtype=torch.uint8) if frames is None else frames
        embeds = self._embed(torch.tensor([ids], device=device), frames.to(device))
        out = self.model.text_model(inputs_embeds=embeds, past_key_values=cache, use_cache=True)
        return out.last_hidden_state[0]

    @torch.inference_mode()
    def decide(self, hidden: Tensor) -> tuple[float, float]:
        """Probabilities of should_update_dst and when_to_speak at a decision position (D,)."""
        update, speak = self._decision_logits(hidden).float().softmax(-1)[:, 1].tolist()
        return update, speak

    @torch.inference_mode()
    def generate_dst_update(
        self,
        tokens: Tokens,
        steps: Sequence[str],
        state: Mapping[str, State],
        *,
        cache: Cache | None = None,
        ids: Sequence[int] = (),
        frames: Tensor | None = None,
        only_legal: bool = True,
    ) -> tuple[str, Tensor]:
        """Greedy, constrained update over `steps`, such as "S1->complete, S2->start"; always parses.

        Continues `cache`, after appending `ids` and `frames`; without a cache those are the whole sequence so far.

        Returns:
            The update, and the hidden state (D,) at the end of its block, where the next decision is made.

        Raises:
            ValueError: no update is possible (every step is completed).
        """
        constraint = UpdateConstraint(tokens, steps, state, only_legal=only_legal)
        constraint.allowed()  # raises before anything is written
        cache, hidden = self._begin(tokens, "dst_update", cache, ids, frames)
        while not constraint.done:
            allowed = constraint.allowed()
            token = allowed[int(self.lm_head(hidden)[allowed].argmax())]
            constraint.advance(token)
            hidden = self.extend(cache, [token])[-1]
        return constraint.text, self.extend(cache, tokens.newline)[-1]

    @torch.inference_mode()
    def generate_utterance(
        self,
        tokens: Tokens,
        tokenizer: Any,
        *,
        cache: Cache | None = None,
        ids: Sequence[int] = (),
        frames: Tensor | None = None,
        max_new_tokens: int = 128,
    ) -> tuple[str, Tensor]:
        """Greedy utterance; special tokens other than <end_of_utterance> are never written. Returns as above."""
        cache, hidden = self._begin(tokens, "assistant", cache, ids, frames)
        banned = [i for i in tokenizer.all_special_ids if i != tokens.end_of_utterance]
        written: list[int] = []
        while len(written) < max_new_tokens:
            logits = self.lm_head(hidden).float()
            logits[banned] = -torch.inf
            token = int(logits.argmax())
            if token == tokens.end_of_utterance:
                break
            written.append(token)
            hidden = self.extend(cache, [token])[-1]
        hidden = self.extend(cache, [tokens.end_of_utterance, *tokens.newline])[-1]
        return tokenizer.decode(written).strip(), hidden

    def _begin(
        self, tokens: Tokens, role: Role, cache: Cache | None, ids: Sequence[int], frames: Tensor | None
    ) -> tuple[Cache, Tensor]:
        """Open a block: the cache and the hidden state (D,) at the end of its header."""
        cache = self.new_cache() if cache is None else cache
        hidden = self.extend(cache, [*ids, *tokens.header(role)], frames)
        return cache, hidden[-1]


def native_tokens_per_frame(config: SmolVLMConfig) -> int:
    """81 for 2.2B, 64 for 500M and 256M: patches over the square of the scale factor."""
    vision = config.vision_config
    return int((vision.image_size // vision.patch_size) ** 2 / config.scale_factor**2)


def load_image_processor(source: str) -> Any:
    """The checkpoint's image processor, the Pillow one: no torchvision is needed."""
    try:
        return AutoImageProcessor.from_pretrained(source, backend="pil")
    except (OSError, ValueError) as error:
        raise ProspectError(
            f"{source}: no image processor ({_first_line(error)}), expected preprocessor_config.json"
        ) from None


def _read_config(source: str) -> SmolVLMConfig:
    folder = Path(source)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ProspectError(f"{source}: found no config.json, expected a SmolVLM checkpoint folder")
        if not any((folder / name).is_file() for name in WEIGHTS):
            raise ProspectError(
                f"{source}: found no weights, expected {' or '.join(WEIGHTS)}; is the download complete?"
            )
        found = json.loads((folder / "config.json").read_text()).get("model_type")
        if found not in MODEL_TYPES:
            raise ProspectError(f"{source}: found model_type {found!r}, expected smolvlm; name a SmolVLM2 checkpoint")
    elif folder.is_absolute() or source.startswith(".") or source.count("/") != 1:
        raise ProspectError(f"{source}: no such checkpoint folder, expected one, or a hub id such as ORG/MODEL")
    try:
        return SmolVLMConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise ProspectError(
            f"{source}: neither a folder nor a hub id that can be loaded ({_first_line(error)}); download it and "
            "pass its folder as model.checkpoint"
        ) from None


def _check_tokens(tokens_per_frame: int, native: int) -> int:
    side = round(tokens_per_frame**0.5)
    if side * side != tokens_per_frame or not 1 <= tokens_per_frame <= native:
        squares = ", ".join(str(n * n) for n in range(1, round(native**0.5) + 1))
        raise ProspectError(f"model.tokens_per_frame: found {tokens_per_frame}, expected native or one of {squares}")
    return tokens_per_frame


def _pool(grid: Tensor, tokens_per_frame: int) -> Tensor:
    """Average a row-major grid (F, G, D) to (F, K, D); as it is where K = G."""
    if grid.shape[1] == tokens_per_frame:
        return grid
    side, new_side = round(grid.shape[1] ** 0.5), round(tokens_per_frame**0.5)
    image = grid.transpose(1, 2).unflatten(-1, (side, side))  # (F, D, side, side)
    return F.adaptive_avg_pool2d(image, new_side).flatten(-2).transpose(1, 2)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
