"""Opening a bench: pipeline, prompts and metrics of a configuration, and what identifies them."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffaccel.errors import InputError
from diffaccel.evaluation.calls import Bench
from diffaccel.evaluation.records import Baseline, Environment
from diffaccel.evaluation.scores import image_digests
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.inputs import prompts_of
from diffaccel.experiment.options import MeasureOptions
from diffaccel.experiment.prompts import as_json, repeated
from diffaccel.machine import devices, threads
from diffaccel.machine.watch import Watch
from diffaccel.plugins.accelerators import ACCELERATORS
from diffaccel.plugins.metrics import METRICS, SCORE, identities, prepared
from diffaccel.plugins.metrics.base import Images
from diffaccel.plugins.models import FAMILIES, ModelSpec, content_hash, fingerprint, resolve_dtype
from diffaccel.plugins.pipeline_tasks import SETTINGS
from diffaccel.plugins.schedulers import made, own_config
from diffaccel.store.jsonio import digest, to_json
from diffaccel.version import __version__

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def take_device(stack: contextlib.ExitStack, spec: ModelSpec, platform: str) -> devices.Device:
    """A device, made ready for a model, until the stack is closed. All that is done meanwhile is
    done with a share of it, thinking of what to do next as well: it would disturb who times.

    Raises:
        InputError: this machine is not of the platform.
    """
    devices.check_platform(platform)
    device = stack.enter_context(devices.hold_device(spec.jobs_per_gpu, spec.threads))
    stack.enter_context(device.shared())
    be_quiet()
    use_threads(spec, device)
    return device


def open_bench(
    configuration: Configuration,
    spec: ModelSpec,
    options: MeasureOptions,
    device: devices.Device,
    pipe: DiffusionPipeline | None = None,
    watch: Watch | None = None,
) -> Bench:
    """Loads everything that measuring a configuration needs; no metrics for an untrained model,
    which generates noise.

    Args:
        pipe: a pipeline that is loaded already, its scheduler set; else it is loaded here.
        watch: who is told of calls, if anybody.

    Raises:
        ModelError: the model cannot be loaded.
        PromptError, InputsError: the prompts or their images cannot be read.
    """
    found = prompts_of(spec, options.prompts, options.max_prompts or 0)
    prompts = repeated(found, options.seeds)
    be_quiet()
    use_threads(spec, device)
    with device.shared():
        if pipe is None:
            pipe = _load(configuration, spec, device.name)
        metrics = {} if spec.untrained else prepared(spec.metrics, spec.scorer, device.name)
    pipe.set_progress_bar_config(disable=True)
    return Bench(pipe, configuration, spec, options, prompts, device, metrics, watch or Watch())


def be_quiet() -> None:
    """Loading says nothing but errors, and shows no bars, so that a run shows what it measures."""
    import diffusers.utils.logging
    import transformers.utils.logging

    # Several LoRAs on one model are meant.
    warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
    for logger in (diffusers.utils.logging, transformers.utils.logging):
        logger.set_verbosity_error()
        logger.disable_progress_bar()


def _load(configuration: Configuration, spec: ModelSpec, device: str) -> DiffusionPipeline:
    family = FAMILIES[spec.family]
    family.check_scheduler(spec, configuration.sampler, configuration.steps)  # before what is large
    pipe = family.load(spec, resolve_dtype(spec.dtype, device), device)
    wanted, own = configuration.sampler, own_config(pipe.scheduler)
    options = spec.scheduler_options(wanted)
    pipe.scheduler = made(wanted, own, options, configuration.steps)
    return pipe


def use_threads(spec: ModelSpec, device: devices.Device) -> None:
    """Computes on as many CPU threads as a model wants and this process is given."""
    threads.use(threads.of(spec.threads, gpu=device.name != "cpu"))


def versions() -> dict[str, str]:
    """Versions of all that a measurement depends on."""
    packages = ["torch", "torchvision", "triton", "numpy", "pillow"]
    packages += ["diffusers", "transformers", "tokenizers", "torchmetrics"]
    packages += sorted({accelerator.package for accelerator in ACCELERATORS.values()})
    found = {"diffaccel": __version__}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found


def environment(pipe: DiffusionPipeline) -> Environment:
    """Where this process measures."""
    import torch

    name, driver = devices.describe()
    packages = versions()
    if getattr(pipe.unet, "peft_config", None):  # which computes its LoRAs
        packages["peft"] = version("peft")
    processors = {type(processor).__name__ for processor in pipe.unet.attn_processors.values()}
    return Environment(
        platform=devices.platform(),
        device=name,
        driver=driver,
        dtype=str(pipe.unet.dtype).removeprefix("torch."),
        attention="+".join(sorted(processors)),
        threads=torch.get_num_threads(),
        versions=packages,
    )


def fingerprint_of(bench: Bench, where: Environment) -> dict[str, str]:
    """All that determines images, scores and times of the baseline pipeline: a change of any of it
    is another baseline. What else a measurement depends on, is in `diffaccel.evaluation.keys`.
    `scoring` is there where the score takes images or prompts otherwise than they are."""
    spec, configuration = bench.spec, bench.configuration
    scoring = ""
    if SCORE in bench.metrics:
        scoring = METRICS[SCORE].adaptation(spec.scorer, spec.height, spec.width, bench.texts)
    return {
        **({"scoring": scoring} if scoring else {}),
        "model": fingerprint(spec),
        "scorer": content_hash(spec.scorer),
        "configuration": scheduling(spec, configuration),
        "call": of_call(spec),
        "prompts": digest(as_json(bench.prompts)),
        "seed": str(bench.options.seed),
        "environment": digest(to_json(where)),
    }


def scheduling(spec: ModelSpec, configuration: Configuration) -> str:
    """Hash of what samples and in how many steps. Where nothing is set besides the class, it is
    what it was before anything could be."""
    wanted = configuration.sampler
    options = spec.scheduler_options(wanted)
    return digest([wanted.diffusers, configuration.steps, *([options] if options else [])])


def of_call(spec: ModelSpec) -> str:
    """Hash of what a call of the pipeline is given besides prompts, seeds and steps."""
    asked = {
        "negative_prompt": spec.negative_prompt,
        "clip_skip": spec.clip_skip,
        "guidance_rescale": spec.guidance_rescale,
        **{key: getattr(spec, key) for key in SETTINGS},
    }
    said = {name: value for name, value in asked.items() if value is not None}
    own = [spec.height, spec.width, spec.guidance_scale, spec.batch_size]
    return digest([*own, said] if said else own)


def shared(fingerprint: Mapping[str, str]) -> str:
    """Hash of what all measurements beside a baseline share: all but its prompts."""
    return digest({name: value for name, value in fingerprint.items() if name != "prompts"})


def check_same(bench: Bench, baseline: Baseline) -> None:
    """Refuses to measure against a baseline of anything else than this bench.

    Raises:
        InputError: model, scorer, prompts, options or versions are others now.
    """
    now = fingerprint_of(bench, environment(bench.pipe))
    changed = [name for name, value in now.items() if value != baseline.fingerprint.get(name)]
    metrics, known = identities(bench.spec.metrics), baseline.metrics or {}
    changed += [f"metric {name}" for name in metrics if metrics[name] != known.get(name)]
    if changed:
        raise InputError(
            f"the baseline of {baseline.configuration.slug} was measured with another "
            f"{' and another '.join(changed)} than this; delete its folder to measure it again"
        )


def open_again(
    stack: contextlib.ExitStack, baseline: Baseline, folder: Path, watch: Watch | None = None
) -> tuple[Bench, Images]:
    """What a baseline was measured with, opened to measure beside it, and its images. The device is
    held until the stack is closed.

    Args:
        folder: of the images.
        watch: who is told of calls, if anybody.

    Raises:
        InputError: this is another platform, or something is not what it was measured with.
    """
    device = take_device(stack, baseline.spec, baseline.environment.platform)
    made = open_bench(baseline.configuration, baseline.spec, baseline.options, device, watch=watch)
    check_same(made, baseline)
    return made, load_images(folder, baseline)


def load_images(folder: Path, baseline: Baseline) -> Images:
    """The baseline's images, checked against its record.

    Raises:
        InputError: an image is missing or is not the one that was measured.
    """
    from PIL import Image

    paths = [folder / f"{i:03}.png" for i in range(len(baseline.prompts))]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise InputError(f"{folder}: no {missing[0]}; delete the folder to have it made again")
    try:
        images = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(
            f"{folder}: an image cannot be read ({error}); delete it to make it again"
        ) from None
    if image_digests(images) != baseline.image_digests:
        raise InputError(f"{folder}: not the images of its record; delete it to make it again")
    return images


def save_images(folder: Path, images: Images) -> None:
    """Writes the images as PNG, named by their prompt's number."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:03}.png")
