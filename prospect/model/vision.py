"""`SmolVLMWithFrames`: SmolVLM that takes video frames as uint8, a fixed number of tokens each (docs/design.md §5).

B batch, T tokens, F frames, K tokens a frame, S pixels a side, D hidden, G side of the native grid of tokens, C width
of a native token before its projection.
"""

from contextlib import nullcontext
from math import isqrt

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import SmolVLMForConditionalGeneration

from prospect.model.checkpoint import ProspectSettings


class SmolVLMWithFrames(SmolVLMForConditionalGeneration):
    @property
    def prospect_settings(self) -> ProspectSettings:
        return ProspectSettings.of(self.config)

    @property
    def pooled_width(self) -> int:
        """C: of a token before its projection."""
        width: int = self.config.vision_config.hidden_size * self.config.scale_factor**2
        return width

    def encode_frames(self, frames: Tensor) -> Tensor:
        """Encode uint8 frames (F, 3, S, S): (F, K, D) in the projection's dtype. Every frame is kept, black or grey.

        At the native K this is the parent's path to the bit (for F up to `vision_chunk`). F = 0 gives (0, K, D), with
        gradients of zero for DDP's sake.

        Raises:
            ValueError: as `pool_frames`.
        """
        count = len(frames)
        return self.project(self.pool_frames(frames if count else frames.new_zeros(1, *frames.shape[1:])))[:count]

    def project(self, pooled: Tensor) -> Tensor:
        """Give what the language model reads, (F, K, D), of pooled tokens (F, K, C)."""
        projection = self.model.connector.modality_projection
        # Autocast casts by itself, and keeps no float32 copy of `pooled`; it knows no meta tensors.
        if pooled.is_meta or not torch.is_autocast_enabled(pooled.device.type):
            pooled = pooled.to(projection.proj.weight.dtype)  # trained beside LoRA: float32 over a base in bf16
        features: Tensor = projection(pooled)
        return features

    def pool_frames(self, frames: Tensor) -> Tensor:
        """Give the pooled tokens before their projection, (F, K, C), of uint8 frames (F, 3, S, S), F at least 1.

        The tower is run without gradient when nothing in it is trained.

        Raises:
            ValueError: frames of another size or dtype: features would silently be of another number or scale.
        """
        size = self.config.vision_config.image_size
        if frames.dtype != torch.uint8 or frames.shape[1:] != (3, size, size):
            raise ValueError(
                f"frames: found {frames.dtype} {tuple(frames.shape)}, expected torch.uint8 (F, 3, {size}, {size})"
            )
        settings = self.prospect_settings
        trained = any(parameter.requires_grad for parameter in self.model.vision_model.parameters())
        # Under autocast a tower in bf16 would run its norms in float32, a third slower.
        plainly = torch.autocast(frames.device.type, enabled=False) if self.dtype == torch.bfloat16 else nullcontext()
        with torch.set_grad_enabled(trained and torch.is_grad_enabled()), plainly:
            return torch.cat([self._native_tokens(chunk, settings) for chunk in frames.split(settings.vision_chunk)])

    def _native_tokens(self, frames: Tensor, settings: ProspectSettings) -> Tensor:
        """Frames (F, 3, S, S) to pooled tokens before their projection: (F, K, C)."""
        # Channel by channel with plain numbers: no copy to the device, hence no synchronisation.
        channels = zip(frames.unbind(1), settings.image_mean, settings.image_std, strict=True)
        pixels = torch.stack([(c.float() / 255 - mean) / std for c, mean, std in channels], 1)  # (F, 3, S, S)
        vision = self.model.vision_model
        # The parts of the tower one by one: its own forward masks frames that are all whole, and its embeddings look
        # for each patch's position, for which a GPU is waited for; in bf16 some versions take a neighbour's.
        embeddings = vision.embeddings
        patches = embeddings.patch_embedding(pixels.to(self.dtype)).flatten(2).transpose(1, 2)  # (F, patches, width)
        patches = patches + embeddings.position_embedding.weight
        patches = vision.post_layernorm(vision.encoder(inputs_embeds=patches).last_hidden_state)
        connector = self.model.connector
        tokens: Tensor = connector.pixel_shuffle(patches, connector.scale_factor)  # (F, G*G, C)
        return pool_grid(tokens, settings.tokens_per_frame)

    def _embed(
        self, input_ids: Tensor, frames: Tensor | None, features: Tensor | None = None, pooled: Tensor | None = None
    ) -> Tensor:
        """Embeddings (B, T, D), at <image> tokens, row-major, the features of the frames, or those given (F, K, D), or
        those of pooled tokens (F, K, C)."""
        embeds: Tensor = self.get_input_embeddings()(input_ids)
        is_image = input_ids == self.config.image_token_id  # (B, T)
        if pooled is not None:
            features = self.project(pooled)
        if features is not None:
            return self._with_features(embeds, is_image, features)
        if frames is None:
            if not self.training:
                self._check(~is_image.any(), "input_ids: found <image> tokens without frames, expected frames for them")
                return embeds
            frames = input_ids.new_empty(0, 3, *[self.config.vision_config.image_size] * 2, dtype=torch.uint8)
        return self._with_features(embeds, is_image, self.encode_frames(frames))

    def _with_features(self, embeds: Tensor, is_image: Tensor, features: Tensor) -> Tensor:
        """`embeds` (B, T, D) with features (F, K, D) where `is_image` (B, T)."""
        num_tokens = features.shape[0] * features.shape[1]
        expected = f"{num_tokens}: {features.shape[0]} frames x {features.shape[1]} tokens a frame"
        self._check(
            is_image.sum() == num_tokens, f"input_ids: <image> tokens do not match the frames, expected {expected}"
        )
        # By number rather than by masked_scatter, whose gradient waits for the GPU.
        number = is_image.flatten().cumsum(0) * is_image.flatten()  # (B*T,) 1, 2, ... at <image> tokens, else 0
        rows = features.flatten(0, 1).to(embeds.dtype)  # (F*K, D)
        numbered = torch.cat([rows.new_zeros(1, rows.shape[1]), rows])
        return torch.where(is_image[..., None], numbered.index_select(0, number).view_as(embeds), embeds)

    def _check(self, condition: Tensor, message: str) -> None:
        """Refuse a batch: at once on a CPU, on a GPU by an assertion in its own time, without synchronising."""
        if condition.is_cuda:
            torch._assert_async(condition, message)
        elif not condition:
            raise ValueError(message)


def pool_grid(tokens: Tensor, count: int) -> Tensor:
    """Average a row-major square grid of tokens (F, G*G, C) to `count`, a square: (F, count, C). Identity at G*G."""
    if tokens.shape[1] == count:
        return tokens
    grid = tokens.unflatten(1, (isqrt(tokens.shape[1]),) * 2).permute(0, 3, 1, 2)  # (F, C, G, G)
    return F.adaptive_avg_pool2d(grid, isqrt(count)).flatten(2).transpose(1, 2)
