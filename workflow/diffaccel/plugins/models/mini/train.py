"""Training a mini family from nothing: autoencoder, scorer, then U-Net with text encoder.

`python -m diffaccel.plugins.models.mini.train --family sd15 --out DIR` needs one GPU and no
network. Every stage leaves its weights in DIR/state; a run that was stopped goes on from there, and
a longer `--unet-steps` continues a finished one. DIR then holds the pipeline's and the scorer's
folders.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer

from diffaccel.plugins.models.mini.models import (
    FAMILIES,
    Family,
    Pipeline,
    build_pipeline,
    build_processor,
    build_scheduler,
    build_scorer,
    build_text_encoders,
    build_tokenizer,
    build_unet,
    build_vae,
    embed,
    encode_captions,
    save_pipeline,
    save_scorer,
)
from diffaccel.plugins.models.mini.prompts import prompt_sets
from diffaccel.plugins.models.mini.quality import all_figures, generate, pick_device, table
from diffaccel.plugins.models.mini.reading import judge, read_scenes
from diffaccel.plugins.models.mini.scenes import (
    IMAGE_SIZE,
    Scene,
    alter,
    draw_scenes,
    parse_caption,
    sample_scenes,
)

MODELS = Path("resources/models")
SCORER = "mini-clip"
WRONG_CAPTIONS = 4  # captions with one attribute changed, a scene
TRUE_COSINE = 0.9  # what the scorer gives a clean image and its caption
WRONG_MARGIN = 0.3  # by how much one wrong attribute must lower that


@dataclass(frozen=True)
class Settings:
    """How much to train; batches and steps of each stage."""

    scenes: int = 400_000
    pictures: int = 65_536
    vae_steps: int = 10_000
    vae_batch: int = 96
    scorer_steps: int = 3000
    scorer_batch: int = 384
    unet_steps: int = 20_000
    unet_batch: int = 1024
    unet_rate: float = 8e-4
    ema: float = 0.999
    report_every: int = 1000
    report_captions: int = 64
    compile: bool = False
    seed: int = 0


TOY = Settings(
    scenes=32,
    pictures=32,
    vae_steps=2,
    vae_batch=4,
    scorer_steps=2,
    scorer_batch=4,
    unet_steps=2,
    unet_batch=4,
    report_every=2,
    report_captions=2,
)


@dataclass(frozen=True)
class Data:
    """Training scenes on the training device.

    Attributes:
        scenes: N scenes of the training split.
        tokens: (N, 32) int64 captions.
        pictures: (M, 3, 128, 128) uint8, the first M scenes drawn.
    """

    scenes: list[Scene]
    tokens: Tensor
    pictures: Tensor


def log(message: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {message}", flush=True)


def trapezoid(step: int, steps: int, warmup: int = 200, fall: float = 0.35) -> float:
    """Share of the full learning rate: a short rise, a plateau, a linear fall at the end."""
    rise = (step + 1) / min(warmup, steps)
    return max(0.0, min(1.0, rise, (steps - step) / (fall * steps)))


class Optimiser:
    """AdamW whose rate lives on the device, so that a captured graph sees it change."""

    def __init__(self, parameters: Iterable[nn.Parameter], rate: float, decay: float = 0.01):
        self.parameters = list(parameters)
        cuda = self.parameters[0].is_cuda
        self.full = rate
        self.rate = torch.tensor(rate, device=self.parameters[0].device) if cuda else rate
        self.inner = torch.optim.AdamW(
            self.parameters, lr=self.rate, weight_decay=decay, fused=cuda, capturable=cuda
        )

    def set_share(self, share: float) -> None:
        if isinstance(self.rate, Tensor):
            self.rate.fill_(self.full * share)
        else:
            self.inner.param_groups[0]["lr"] = self.full * share

    def update(self, loss: Tensor) -> Tensor:
        """Step down the gradient of `loss`; returns it detached."""
        self.inner.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.inner.step()
        return loss.detach()


def captured(step: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
    """On a GPU, record one training step as a CUDA graph: nets this small are launch-bound.

    The first calls, before the recording, are ordinary steps.
    """
    if device.type != "cuda":
        return step
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(4):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()

    def replay() -> Tensor:
        graph.replay()
        return loss

    # The graph knows addresses only: what `step` holds must live as long as the replays.
    replay.keeps = step  # type: ignore[attr-defined]
    return replay


def half_precision(device: torch.device) -> torch.autocast:
    """bfloat16 arithmetic on a GPU; no weight cache, which a captured graph would outlive."""
    enabled = device.type == "cuda"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=False)


def to_unit(pictures: Tensor) -> Tensor:
    """uint8 pictures as float32 in [-1, 1]."""
    return pictures.float() / 127.5 - 1


def prepare_data(settings: Settings, tokenizer: CLIPTokenizer, device: torch.device) -> Data:
    """Draw the training scenes."""
    scenes = sample_scenes(settings.scenes, settings.seed, held_out=False)
    tokens = encode_captions(tokenizer, [scene.caption for scene in scenes])
    pictures = draw_scenes(scenes[: settings.pictures], settings.seed, device)
    return Data(scenes, tokens.to(device), pictures)


def picture_loss(out: Tensor, target: Tensor) -> Tensor:
    """Absolute difference of pixels and of their neighbours' steps, which keeps edges sharp."""
    loss = (out - target).abs().mean()
    for axis in (2, 3):
        loss = loss + (out.diff(dim=axis) - target.diff(dim=axis)).abs().mean()
    return loss


def train_vae(
    family: Family, data: Data, settings: Settings, device: torch.device
) -> AutoencoderKL:
    """Train the autoencoder and bring its latents to SD1.5's scale."""
    vae = build_vae(family).to(device).train()
    optimiser = Optimiser(vae.parameters(), 1e-3)
    pictures = data.pictures

    def loss_of(target: Tensor) -> Tensor:
        with half_precision(device):
            posterior = vae.encode(target).latent_dist
            mean, spread = posterior.mean.float(), posterior.logvar.float()
            out = vae.decode(mean + torch.randn_like(mean) * (spread / 2).exp()).sample
        divergence = 0.5 * (mean**2 + spread.exp() - 1 - spread).mean()
        return picture_loss(out.float(), target) + 1e-5 * divergence

    compiled = torch.compile(loss_of, dynamic=False) if settings.compile else loss_of

    def step() -> Tensor:
        rows = torch.randint(len(pictures), (settings.vae_batch,), device=device)
        return optimiser.update(compiled(to_unit(pictures[rows])))

    run = captured(step, device)
    for k in range(settings.vae_steps):
        optimiser.set_share(trapezoid(k, settings.vae_steps))
        loss = run()
        if k % 1000 == 0 or k == settings.vae_steps - 1:
            log(f"vae {k}: loss {loss.item():.4f}")
    normalise_latents(vae.eval(), pictures[:4096])
    return vae


@torch.no_grad()
def normalise_latents(vae: AutoencoderKL, pictures: Tensor) -> None:
    """Fold a shift and a scale into the autoencoder's 1x1 convolutions.

    Afterwards each latent channel, times its scaling factor, has mean 0 and deviation 1.
    """
    latents = torch.cat(
        [vae.encode(to_unit(chunk)).latent_dist.mean for chunk in pictures.split(256)]
    )
    shift = latents.mean((0, 2, 3))
    scale = latents.std((0, 2, 3)) * vae.config.scaling_factor
    before, after = vae.quant_conv, vae.post_quant_conv
    after.bias += after.weight[:, :, 0, 0] @ shift
    after.weight *= scale[None, :, None, None]
    before.weight[:4] /= scale[:, None, None, None]
    before.bias[:4] = (before.bias[:4] - shift) / scale
    before.bias[4:] -= 2 * scale.log()


@torch.no_grad()
def encode_scenes(
    vae: AutoencoderKL, data: Data, settings: Settings, device: torch.device
) -> Tensor:
    """Latents of all training scenes at the U-Net's scale, (N, 4, 16, 16) bfloat16."""
    parts = []
    for start in range(0, len(data.scenes), 1024):
        scenes = data.scenes[start : start + 1024]
        pictures = draw_scenes(scenes, settings.seed + 1 + start, device)
        with half_precision(device):
            latents = vae.encode(to_unit(pictures)).latent_dist.mean
        parts.append((latents * vae.config.scaling_factor).bfloat16())
    return torch.cat(parts)


def degrade(latents: Tensor) -> tuple[Tensor, Tensor]:
    """Harm some of the latents as a failing sampler would: noise, ghosts of others, blur.

    Returns:
        The latents and how badly each is harmed, (N,), 0 for untouched to 0.7.
    """
    n = len(latents)
    kind = torch.randint(6, (n, 1, 1, 1), device=latents.device)
    much = torch.rand(n, 1, 1, 1, device=latents.device) * (kind < 3)
    noisy = latents + much * torch.randn_like(latents)
    ghost = torch.lerp(latents, latents.roll(1, 0), much / 2)
    blurred = torch.lerp(latents, F.avg_pool2d(latents, 5, 1, 2, count_include_pad=False), much)
    harmed = torch.where(kind == 0, noisy, torch.where(kind == 1, ghost, blurred))
    return harmed, 0.7 * much.flatten()


def scorer_loss(image: Tensor, true: Tensor, wrong: Tensor, harm: Tensor, scale: Tensor) -> Tensor:
    """Contrast captions over the batch and over near misses, and calibrate the cosine.

    Args:
        image, true: (N, D) unit embeddings of images and of their captions.
        wrong: (N, K, D) unit embeddings of captions with one attribute changed.
        harm: (N,) how badly each image is degraded; the cosine must fall with it.
        scale: the contrast's inverse temperature.
    """
    across = image @ true.T
    near = (image[:, None] * wrong).sum(-1)
    own = torch.arange(len(image), device=image.device)
    contrast = F.cross_entropy(scale * torch.cat([across, near], 1), own, reduction="none")
    contrast = contrast + F.cross_entropy(scale * across.T, own, reduction="none")
    aim = TRUE_COSINE * (1 - harm)
    calibration = (across.diagonal() - aim) ** 2
    misses = F.relu(near - aim[:, None] + WRONG_MARGIN).mean(1)
    return ((1 - harm) * contrast + 5 * calibration + 2 * misses).mean()


def train_scorer(
    data: Data,
    latents: Tensor,
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    settings: Settings,
    device: torch.device,
) -> CLIPModel:
    """Train the scorer on drawn, reconstructed and degraded scenes."""
    model = build_scorer(tokenizer).to(device).train()
    optimiser = Optimiser(model.parameters(), 1e-3, decay=0.05)
    rng = random.Random(settings.seed)
    scenes = data.scenes[: settings.pictures]
    wrong = [alter(scene, rng).caption for scene in scenes for _ in range(WRONG_CAPTIONS)]
    wrong_tokens = (
        encode_captions(tokenizer, wrong).view(len(scenes), WRONG_CAPTIONS, -1).to(device)
    )

    def step() -> Tensor:
        rows = torch.randint(len(scenes), (settings.scorer_batch,), device=device)
        drawn = to_unit(data.pictures[rows])
        harmed, harm = degrade(latents[rows].float())
        tokens = torch.cat([data.tokens[rows][:, None], wrong_tokens[rows]], 1)
        with half_precision(device):
            with torch.no_grad():
                decoded = vae.decode(harmed / vae.config.scaling_factor).sample.float().clamp(-1, 1)
            plain = torch.rand(len(rows), device=device) < 0.3
            harm = harm * ~plain
            pixels = torch.where(plain[:, None, None, None], drawn, decoded)
            seen = model.visual_projection(model.vision_model(pixels).pooler_output)
            text = model.text_model(tokens.flatten(0, 1)).pooler_output
            said = model.text_projection(text).unflatten(0, tokens.shape[:2])
        seen, said = F.normalize(seen.float(), dim=-1), F.normalize(said.float(), dim=-1)
        scale = model.logit_scale.exp().clamp(max=100)
        return optimiser.update(scorer_loss(seen, said[:, 0], said[:, 1:], harm, scale))

    run = captured(step, device)
    for k in range(settings.scorer_steps):
        optimiser.set_share(trapezoid(k, settings.scorer_steps))
        loss = run()
        if k % 500 == 0 or k == settings.scorer_steps - 1:
            log(f"scorer {k}: loss {loss.item():.4f}")
    return model.eval()


def loss_weights(alphas: Tensor, prediction_type: str, limit: float = 5.0) -> Tensor:
    """Min-SNR weights of the squared error at each timestep (Hang et al., arXiv:2303.09556)."""
    ratio = alphas / (1 - alphas)
    clipped = ratio.clamp(max=limit)
    return clipped / (ratio + 1 if prediction_type == "v_prediction" else ratio)


@dataclass
class Denoiser:
    """The jointly trained networks, the running mean of their weights, and steps done."""

    unet: UNet2DConditionModel
    text_encoders: nn.ModuleList
    means: list[Tensor]
    steps: int = 0

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [*self.unet.parameters(), *self.text_encoders.parameters()]

    def state(self) -> dict[str, object]:
        """What a later run needs to go on; the optimiser warms up anew."""
        live = [p.detach().cpu() for p in self.parameters]
        return {"steps": self.steps, "live": live, "means": [m.cpu() for m in self.means]}

    @torch.no_grad()
    def load(self, state: dict[str, object]) -> None:
        self.steps = int(state["steps"])  # type: ignore[call-overload]
        for target, name in ((self.parameters, "live"), (self.means, "means")):
            for mine, stored in zip(target, state[name], strict=True):  # type: ignore[call-overload]
                mine.copy_(stored)

    @torch.no_grad()
    def averaged(self, family: Family, tokenizer: CLIPTokenizer) -> Denoiser:
        """A copy whose networks hold the mean weights."""
        device = self.means[0].device
        texts = build_text_encoders(family, tokenizer).to(device).eval()
        copy = Denoiser(build_unet(family).to(device).eval(), texts, self.means, self.steps)
        for mine, mean in zip(copy.parameters, self.means, strict=True):
            mine.copy_(mean)
        return copy


def conditions(
    family: Family, encoders: nn.ModuleList, tokens: Tensor, dropped: Tensor, empty: Tensor
) -> tuple[Tensor, dict[str, Tensor] | None]:
    """Words and added conditions of captions, some of them dropped, as the pipelines would.

    Without a caption, SD1.5's and SD2.1's pipelines encode an empty one and SDXL's takes zeros.

    Args:
        tokens: (N, 32) int64 captions; dropped: (N, 1) bool; empty: (1, 32) the empty caption.
    """
    if not family.xl:
        return embed(encoders, torch.where(dropped, empty, tokens))[0], None
    words, pooled = embed(encoders, tokens)
    size = torch.full((len(tokens), 2), float(IMAGE_SIZE), device=tokens.device)
    ids = torch.cat([size, torch.zeros_like(size), size], 1)
    kept = ~dropped
    return words * kept[:, None], {"text_embeds": pooled * kept, "time_ids": ids}


def denoising_step(
    family: Family,
    model: Denoiser,
    optimiser: Optimiser,
    data: Data,
    latents: Tensor,
    empty: Tensor,
    settings: Settings,
) -> Callable[[], Tensor]:
    """One training step on random scenes, noises and timesteps; a tenth of the captions dropped."""
    device = latents.device
    alphas = build_scheduler(family).alphas_cumprod.to(device)
    weights = loss_weights(alphas, family.prediction_type)
    unet = torch.compile(model.unet, dynamic=False) if settings.compile else model.unet
    live = [p.data for p in model.parameters]

    def step() -> Tensor:
        rows = torch.randint(len(latents), (settings.unet_batch,), device=device)
        clean = latents[rows].float()
        dropped = torch.rand(len(rows), 1, device=device) < 0.1
        noise = torch.randn_like(clean)
        times = torch.randint(len(alphas), (len(rows),), device=device)
        signal = alphas[times].sqrt()[:, None, None, None]
        sigma = (1 - alphas[times]).sqrt()[:, None, None, None]
        target = signal * noise - sigma * clean if family.prediction_type != "epsilon" else noise
        with half_precision(device):
            words, added = conditions(
                family, model.text_encoders, data.tokens[rows], dropped, empty
            )
            noisy = signal * clean + sigma * noise
            out = unet(noisy, times, words, added_cond_kwargs=added).sample
        errors = ((out.float() - target) ** 2).mean((1, 2, 3))
        loss = optimiser.update((weights[times] * errors).mean())
        torch._foreach_lerp_(model.means, live, 1 - settings.ema)
        return loss

    return step


def scenes_right(pipe: Pipeline, captions: Sequence[str], steps: int) -> float:
    """Share of captions whose DDIM image shows exactly what they say."""
    readings = read_scenes(generate(pipe, captions, "DDIM", steps, batch=len(captions)))
    pairs = zip(captions, readings, strict=True)
    return sum(judge(parse_caption(c), r).right for c, r in pairs) / len(captions)


def train_unet(
    family: Family,
    data: Data,
    latents: Tensor,
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    settings: Settings,
    state_file: Path,
) -> Denoiser:
    """Train U-Net and text encoder; every report writes `state_file`, from which it goes on."""
    device = latents.device
    texts = build_text_encoders(family, tokenizer).to(device)
    model = Denoiser(build_unet(family).to(device).train(), texts.train(), [])
    model.means = [p.detach().clone() for p in model.parameters]
    if state_file.exists():
        model.load(torch.load(state_file, weights_only=True))
        log(f"unet: going on from step {model.steps}")
    begun = model.steps
    optimiser = Optimiser(model.parameters, settings.unet_rate)
    empty = encode_captions(tokenizer, [""]).to(device)
    captions = prompt_sets()["mini-heldout.txt"][: settings.report_captions]
    run = denoising_step(family, model, optimiser, data, latents, empty, settings)
    if model.steps < settings.unet_steps:
        run = captured(run, device)
    clock = time.perf_counter()
    while model.steps < settings.unet_steps:
        warm = min(1.0, (model.steps - begun + 1) / 200)
        optimiser.set_share(warm * trapezoid(model.steps, settings.unet_steps))
        loss = run()
        model.steps += 1
        if model.steps % settings.report_every == 0 or model.steps == settings.unet_steps:
            value, seconds = loss.item(), time.perf_counter() - clock
            torch.save(model.state(), state_file.with_suffix(".part"))
            state_file.with_suffix(".part").replace(state_file)
            mean = model.averaged(family, tokenizer)
            pipe = build_pipeline(family, vae, mean.text_encoders, mean.unet, tokenizer)
            pipe.set_progress_bar_config(disable=True)
            save_pipeline(pipe, state_file.parent.parent / family.name)
            right = scenes_right(pipe, captions, 20)
            log(f"unet {model.steps}: loss {value:.4f}, {seconds:.0f} s, right at 20: {right:.3f}")
    return model.averaged(family, tokenizer)


def stage(file: Path, model: nn.Module, train: Callable[[], nn.Module]) -> nn.Module:
    """Load a finished stage's weights into `model`, or train it and keep them."""
    if file.exists():
        log(f"{file.stem}: from {file}")
        model.load_state_dict(torch.load(file, weights_only=True))
        return model
    trained = train()
    torch.save(trained.state_dict(), file)
    return trained


def base_vae(family: Family, base: Path, data: Data, device: torch.device) -> AutoencoderKL:
    """Another family's autoencoder, at this one's scale."""
    vae = build_vae(family)
    vae.load_state_dict(AutoencoderKL.from_pretrained(base / "vae").state_dict())
    vae = vae.to(device)
    normalise_latents(vae.eval(), data.pictures[:4096])
    return vae


def train_family(
    family: Family, out: Path, settings: Settings, device: torch.device, base: Path = MODELS
) -> None:
    """Train everything of one family that `out` does not hold yet, and save the folders.

    Args:
        base: folder of the models whose parts the family takes over.
    """
    torch.manual_seed(settings.seed)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = True
    state = out / "state"
    state.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer()
    data = prepare_data(settings, tokenizer, device)
    log(f"data: {len(data.scenes)} scenes")
    vae = stage(
        state / "vae.pt",
        build_vae(family).to(device),
        lambda: (
            base_vae(family, base / family.base, data, device)
            if family.base
            else train_vae(family, data, settings, device)
        ),
    ).eval()
    vae.requires_grad_(False)
    latents = encode_scenes(vae, data, settings, device)
    log(f"latents: std {latents.float().std().item():.3f}")
    if family.base:
        scorer = CLIPModel.from_pretrained(base / SCORER, dtype=torch.float32).to(device).eval()
    else:
        scorer = stage(
            state / "scorer.pt",
            build_scorer(tokenizer).to(device),
            lambda: train_scorer(data, latents, vae, tokenizer, settings, device),
        ).eval()
        save_scorer(scorer, build_processor(tokenizer), out / SCORER)
    captions = prompt_sets()["mini.txt"][: settings.report_captions]
    model = train_unet(family, data, latents, vae, tokenizer, settings, state / "unet.pt")
    pipe = build_pipeline(family, vae, model.text_encoders, model.unet, tokenizer)
    pipe.set_progress_bar_config(disable=True)
    save_pipeline(pipe, out / family.name)
    log(f"saved {out / family.name}")
    print(table(all_figures(pipe, scorer, captions, runs=(("DDIM", 20),))), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", choices=tuple(FAMILIES), default="sd15")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", type=Path, default=MODELS, help="where finished models lie")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--unet-steps", type=int)
    parser.add_argument("--compile", action="store_true", help="torch.compile the U-Net")
    parser.add_argument("--toy", action="store_true", help="a few steps, to see that all runs")
    args = parser.parse_args()
    settings = replace(TOY if args.toy else Settings(), seed=args.seed, compile=args.compile)
    if args.unet_steps is not None:
        settings = replace(settings, unet_steps=args.unet_steps)
    train_family(FAMILIES[args.family], args.out, settings, pick_device(args.device), args.base)


if __name__ == "__main__":
    main()
