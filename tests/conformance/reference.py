"""What the papers say, written out without the packages: a sampling loop and a U-Net by hand.

Slow and plain. Merging is left to tomesd, whose blocks the given pipeline may have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from .generating import GUIDANCE, PROMPTS, STEPS, Images, Parameters

LAYERS_A_BLOCK = 3


@dataclass
class Cache:
    """DeepCache: what enters the up block's layer at the branch is kept from full step to step."""

    block: int
    layer: int
    interval: int
    gate: int
    kept: torch.Tensor | None = None

    def full(self, step: int) -> bool:
        """Whether the whole U-Net runs; T-Gate begins anew before and at its gate."""
        started = max(start for start in (0, self.gate - 1, self.gate) if start <= step)
        return (step - started) % self.interval == 0


@dataclass
class Gate:
    """T-Gate: which outputs of attention layers stand for those of later steps."""

    gate_step: int
    sp_interval: int
    fi_interval: int
    warm_up: int
    step: int = 0
    kept: dict[int, torch.Tensor] = field(default_factory=dict)

    def reused(self, cross: bool) -> bool:
        if self.step >= self.gate_step:
            return cross or self.step % self.fi_interval > 0
        early = self.warm_up < self.step < self.gate_step - 1
        return not cross and early and self.step % self.sp_interval > 0

    def replaced(self, attention: Any) -> Callable[..., torch.Tensor]:
        original = type(attention).forward

        def forward(
            hidden: torch.Tensor, encoder_hidden_states: torch.Tensor | None = None, **more: Any
        ) -> torch.Tensor:
            if self.reused(encoder_hidden_states is not None):
                return self.kept[id(attention)]
            out: torch.Tensor = original(attention, hidden, encoder_hidden_states, **more)
            last = self.step == self.gate_step - 1  # afterwards there is half of the batch
            self.kept[id(attention)] = out.unflatten(0, (2, -1)).mean(0) if last else out
            return out

        return forward


def _layers(block: Any) -> Iterator[tuple[Any, Any]]:
    attentions = getattr(block, "attentions", None) or [None] * len(block.resnets)
    yield from zip(block.resnets, attentions, strict=True)


def _unet(
    unet: Any,
    latents: torch.Tensor,
    time: torch.Tensor,
    text: torch.Tensor,
    more: tuple[torch.Tensor, ...],
    cache: Cache,
    full: bool,
) -> torch.Tensor:
    """The U-Net's prediction; unless ``full``, the cache stands for all below its branch."""
    embedding = unet.time_embedding(unet.time_proj(time.expand(len(latents))))
    if more:
        pooled, sizes = more
        sizes = unet.add_time_proj(sizes.flatten()).reshape(len(latents), -1)
        embedding = embedding + unet.add_embedding(torch.cat([pooled, sizes], -1))
    branch = (cache.block, cache.layer)

    def layer(resnet: Any, attention: Any, hidden: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = resnet(hidden, embedding)
        return out if attention is None else attention(out, text, return_dict=False)[0]

    if hasattr(unet, "_tome_info"):  # tomesd's hook on the whole U-Net sets this
        unet._tome_info["size"] = latents.shape[2:]
    hidden = unet.conv_in(latents)
    passed = [hidden]
    for depth, block in enumerate(unet.down_blocks):
        for i, (resnet, attention) in enumerate(_layers(block)):
            if full or (depth, i) < branch:
                hidden = layer(resnet, attention, hidden)
                passed.append(hidden)
        for downsampler in block.downsamplers or ():
            if full or (depth, len(block.resnets)) < branch:
                hidden = downsampler(hidden)
                passed.append(hidden)
    if full:
        hidden = unet.mid_block(hidden, embedding, encoder_hidden_states=text)
    for depth, block in reversed(list(enumerate(reversed(unet.up_blocks)))):
        for i, (resnet, attention) in reversed(list(enumerate(reversed(list(_layers(block)))))):
            if (depth, i) == branch:
                cache.kept = hidden = hidden if full or cache.kept is None else cache.kept
            if full or (depth, i) <= branch:
                hidden = layer(resnet, attention, torch.cat([hidden, passed.pop()], 1))
        if full or depth <= cache.block:
            for upsampler in block.upsamplers or ():
                hidden = upsampler(hidden)
    out: torch.Tensor = unet.conv_out(unet.conv_act(unet.conv_norm_out(hidden)))
    return out


def _conditions(pipe: Any, prompts: tuple[str, ...]) -> tuple[tuple[torch.Tensor, ...], ...]:
    """Without and with the prompts: text, and for SDXL pooled text and the sizes of the image."""
    told, untold, *pooled = pipe.encode_prompt(
        prompt=list(prompts),
        device="cpu",
        num_images_per_prompt=1,
        do_classifier_free_guidance=True,
    )
    if not pooled:
        return (untold,), (told,)
    side = pipe.unet.config.sample_size * pipe.vae_scale_factor
    sizes = torch.tensor([[side, side, 0, 0, side, side]]).repeat(len(prompts), 1)
    return (untold, pooled[1], sizes), (told, pooled[0], sizes)


@torch.no_grad()
def by_hand(pipe: Any, parameters: Parameters, prompts: tuple[str, ...] = PROMPTS) -> Images:
    """Images with DeepCache and T-Gate, either, both or none, by their parameters."""
    never = {"gate_step": STEPS + 1, "sp_interval": 1, "fi_interval": 1, "warm_up": 0}
    gate = Gate(**parameters.get("tgate", never))
    cached = parameters.get("deepcache", {"cache_interval": 1, "cache_branch_id": 0})
    cache = Cache(
        *divmod(cached["cache_branch_id"], LAYERS_A_BLOCK),
        interval=cached["cache_interval"],
        gate=gate.gate_step,
    )
    for name, module in pipe.unet.named_modules():
        if name.endswith(("attn1", "attn2")):
            module.forward = gate.replaced(module)
    without, given = _conditions(pipe, prompts)
    pipe.scheduler.set_timesteps(STEPS)
    side = pipe.unet.config.sample_size
    noise = [
        torch.randn((1, 4, side, side), generator=torch.Generator().manual_seed(seed))
        for seed in range(len(prompts))
    ]
    latents = torch.cat(noise) * pipe.scheduler.init_noise_sigma
    for gate.step, time in enumerate(pipe.scheduler.timesteps):
        guided, full = gate.step < gate.gate_step, cache.full(gate.step)
        batch = torch.cat([latents, latents]) if guided else latents
        pairs = zip(without, given, strict=True)
        text, *more = (torch.cat(pair) for pair in pairs) if guided else without
        predicted = _unet(pipe.unet, batch, time, text, tuple(more), cache, full)
        if guided:
            untold, told = predicted.chunk(2)
            predicted = untold + GUIDANCE * (told - untold)
        latents = pipe.scheduler.step(predicted, time, latents).prev_sample
    image = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    images: Images = (image / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    return images
