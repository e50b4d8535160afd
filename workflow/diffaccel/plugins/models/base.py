"""What a model family is, and how any of its models is checked, fetched and loaded."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from diffaccel.plugins import sources
from diffaccel.plugins.models import ModelSpec, _additions, _controlnet, _hub
from diffaccel.plugins.models._folder import INDEX, check_index, check_parts
from diffaccel.plugins.models._layout import Layout, sampling_told
from diffaccel.plugins.models._memory import check_memory
from diffaccel.plugins.models._parts import (
    check_network,
    check_single_file,
    download_config,
    download_network,
)
from diffaccel.plugins.models._spec import Addition
from diffaccel.plugins.models._untrained import Sizes, build, build_like
from diffaccel.plugins.models._weights import (
    ModelError,
    check_weights,
    naming,
    read_header,
    read_json,
    weight_files,
)
from diffaccel.plugins.pipeline_tasks import PIPELINE_TASKS, class_for, text_to_image
from diffaccel.plugins.schedulers import SchedulerSpec, made

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

SCHEDULER = "scheduler/scheduler_config.json"
Beside = Mapping[str, Path]
"""Folders of networks that are no part of the pipeline's own folder, by field of a spec."""
NOTHING: Beside = {}


@dataclass(frozen=True)
class Fetched:
    """A model whose files are all on this machine.

    Args:
        spec: the model, with the commit of everything that comes from a hub.
        source: folder or single file of the pipeline.
        config: folder of a single file's configuration.
        vae: folder of the VAE that replaces the pipeline's own.
        controlnet: folder of the ControlNet beside it.
        lora: file of each LoRA.
        textual_inversion: file of each added token.
    """

    spec: ModelSpec
    source: Path
    config: Path | None
    vae: Path | None
    controlnet: Path | None = None
    lora: Sequence[Path] = ()
    textual_inversion: Sequence[Path] = ()


@dataclass(frozen=True)
class _Want:
    """What is needed of a folder or of a repository.

    Args:
        probe: a small file that a folder must have.
        parts: subfolders that must have weights.
        variant: of these.
    """

    source: str
    probe: str | None
    download: _hub.Download
    parts: Sequence[str]
    variant: str | None = None


class Family(ABC):
    """Models of one architecture. The instance ``PLUGIN`` of a file is the plugin."""

    name: ClassVar[str]
    """As in config's ``family``; also the name of the family's original model."""
    pipeline_class: ClassVar[str]
    text_encoders: ClassVar[tuple[str, ...]] = ("text_encoder",)
    """Names of these parts of the pipeline."""
    sizes: ClassVar[Sizes]
    """Of the original model."""
    known: ClassVar[tuple[ModelSpec, ...]]
    """Models that need no more than their name, the family's own first: a model that a user
    adds takes what he leaves out from it."""

    def fits(self, layout: Layout) -> bool:
        """Whether a model of this layout belongs here where no family is named."""
        return text_to_image(layout.pipeline_class) == self.pipeline_class

    def class_of(self, spec: ModelSpec) -> str:
        """diffusers' pipeline class that a model is run in."""
        return class_for(spec.task, self.pipeline_class)

    def load_arguments(self) -> dict[str, Any]:
        """What diffusers takes on top when it loads a pipeline."""
        return {}

    def parts(self, spec: ModelSpec) -> tuple[str, ...]:
        """The parts of the pipeline that have weights in its source."""
        return ("unet", *self.text_encoders, *(() if spec.vae else ("vae",)))

    def check(self, spec: ModelSpec) -> None:
        """Says what is wrong with local files before any long work.

        Raises:
            ModelError: no such folder or file, not a pipeline, another pipeline class, a part that
                is missing, a U-Net that needs more than text, a file that is no whole model or of
                another family, or weights that are pickled, missing or not whole.
        """
        with naming(f"model {spec.name!r}"):
            if spec.untrained:
                self._check_pipeline(Path(spec.source), spec)
                return
            for field in ("vae", "scorer", "controlnet"):
                source = vars(spec)[field]
                if source is not None and sources.is_local(source):
                    check_network(field, Path(source))
            if sources.is_single_file(spec.source):
                self._check_single_file(spec)
            elif sources.is_local(spec.source):
                self._check_folder(spec)

    def _check_found(self, spec: ModelSpec, folder: Path, label: str, beside: Beside) -> None:
        """Looks at the pipeline, or at the configuration of a single file, once it is here."""
        with naming(label):
            self._check_pipeline(folder, spec, beside)

    def _check_single_file(self, spec: ModelSpec) -> None:
        layout = check_single_file(Path(spec.source), vae_given=spec.vae is not None)
        if not self.fits(layout):
            raise ModelError(
                f"{spec.source} is a {layout.pipeline_class} for text of width {layout.context}, "
                f"and not of the family {self.name!r}: name the right `family`, or leave it out"
            )
        if spec.config is not None and sources.is_local(spec.config):
            self._check_pipeline(Path(spec.config), spec)

    def _check_folder(self, spec: ModelSpec) -> None:
        folder = Path(spec.source)
        self._check_pipeline(folder, spec)
        names = [path.relative_to(folder).as_posix() for path in folder.glob("*/*")]
        for name in check_weights(str(folder), names, self.parts(spec), spec.variant):
            read_header(folder / name)

    def _check_pipeline(self, folder: Path, spec: ModelSpec, beside: Beside = NOTHING) -> None:
        """Whether a folder has what is needed beside weights.

        Args:
            beside: folders of another VAE and of a ControlNet, where they are fetched.
        """
        self._check_index(folder, spec)
        tokenizers = [name.replace("text_encoder", "tokenizer") for name in self.text_encoders]
        parts = (*self.parts(spec), *tokenizers, "scheduler")
        vae = beside.get("vae") if spec.vae else folder / "vae"
        channels = PIPELINE_TASKS[spec.task].channels if spec.task else ()
        check_parts(folder, parts, self.sizes.unet, vae, channels)
        controlnet = beside.get("controlnet")
        if spec.controlnet and sources.is_local(spec.controlnet):
            controlnet = Path(spec.controlnet)
        if controlnet is not None:
            unet = folder / "unet/config.json"
            _controlnet.check_controlnet(controlnet, read_json(unet), unet)

    def _check_index(self, folder: Path, spec: ModelSpec) -> None:
        check_index(folder, self.name, self.pipeline_class, spec.task)

    def fetch(self, spec: ModelSpec) -> Fetched:
        """Brings everything to this machine that is not there, and names the commit of what comes
        from a hub. All of it is looked at before the first weights are loaded.

        Raises:
            ModelError: something is missing, gated, pickled or out of reach; or there is no room.
        """
        self.check(spec)
        wanted = self._wanted(spec)
        labels = {field: f"model {spec.name!r}: {field}" for field in wanted}
        labels["source"] = f"model {spec.name!r}"
        found = {
            field: _hub.find(want.source, want.probe or "", labels[field])
            for field, want in wanted.items()
        }
        for field, there in found.items():
            want = wanted[field]
            with naming(labels[field]):
                if want.probe == INDEX:
                    self._check_index(there.folder, spec)
                if there.files:
                    names = check_weights(there.source, there.files, want.parts, want.variant)
                    _hub.check_space(there, names)
        field = "config" if "config" in found else "source"
        pipeline = found[field]
        beside: Beside = {
            name: found[name].folder for name in ("vae", "controlnet") if name in found
        }
        if pipeline.files:  # its small files, before any large one
            _hub.get(pipeline, labels[field], download_config)
        if pipeline.files or pipeline.local:
            self._check_found(spec, pipeline.folder, labels[field], beside)
        lora = [_additions.fetch(each, spec.name) for each in spec.lora]
        words = [_additions.fetch(each, spec.name) for each in spec.textual_inversion]
        if lora or words or spec.clip_skip:
            configs = _hub.get(pipeline, labels[field], download_config)
            self._check_fitting(spec, configs, [*lora, *words])
        folders = {
            field: _hub.get(there, labels[field], wanted[field].download)
            for field, there in found.items()
        }
        # What was in the cache may have been wanting, and is whole by now.
        self._check_found(spec, folders[field], labels[field], beside)
        pins: dict[str, Any] = {field: there.source for field, there in found.items()}
        pins["scheduler_config"] = dict(read_json(folders[field] / SCHEDULER))
        told = sampling_told(spec.source)  # by the tensors of a single file
        pins |= {name: value for name, value in told.items() if vars(spec)[name] is None}
        pins["lora"] = tuple(each for each, _ in lora)
        pins["textual_inversion"] = tuple(each for each, _ in words)
        return Fetched(
            spec=replace(spec, **pins),
            source=folders["source"],
            config=folders.get("config"),
            vae=folders.get("vae"),
            controlnet=folders.get("controlnet"),
            lora=[path for _, path in lora],
            textual_inversion=[path for _, path in words],
        )

    def check_scheduler(self, spec: ModelSpec, wanted: SchedulerSpec, steps: int) -> None:
        """Says whether a model can be sampled by a scheduler, as far as its own is known: once it
        was fetched.

        Raises:
            SchedulerError: it cannot; says why.
        """
        if spec.scheduler_config is not None:
            made(wanted, spec.scheduler_config, spec.scheduler_options(wanted), steps)

    def _check_fitting(
        self, spec: ModelSpec, configs: Path, added: Sequence[tuple[Addition, Path]]
    ) -> None:
        """Says what does not fit a pipeline, by the configurations in its folder."""
        from diffaccel.plugins.models import FAMILIES

        known = {each.sizes.unet["cross_attention_dim"]: name for name, each in FAMILIES.items()}
        fitting = _additions.Fitting.of(self.name, self.text_encoders, configs, known)
        with naming(f"model {spec.name!r}"):
            if spec.clip_skip:
                fitting.check_clip_skip(spec.clip_skip)
        for each, path in added:
            with naming(_additions.label(each, spec.name)):
                fitting.check(each, path)

    def _wanted(self, spec: ModelSpec) -> dict[str, _Want]:
        """What a model consists of, by field of its spec."""
        wanted = {
            "source": _Want(
                spec.source,
                None if sources.is_single_file(spec.source) else INDEX,
                partial(self._download, spec),
                self.parts(spec),
                spec.variant,
            ),
            "scorer": _Want(spec.scorer, "config.json", download_network, [""]),
        }
        for field in ("vae", "controlnet"):
            if (part := vars(spec)[field]) is not None:
                wanted[field] = _Want(part, "config.json", download_network, [""])
        if sources.is_single_file(spec.source):
            config = spec.config or self.known[0].source
            wanted["config"] = _Want(config, INDEX, download_config, [])
        return wanted

    def _download(self, spec: ModelSpec, name: str, commit: str, cached: bool) -> str:
        """The files that ``from_pretrained`` would take, and no others."""
        import diffusers

        folder: str = getattr(diffusers, self.pipeline_class).download(
            name,
            revision=commit,
            variant=spec.variant,
            use_safetensors=True,
            local_files_only=cached,
            **self.load_arguments(),
            # A part that is passed is not downloaded.
            **({"vae": None} if spec.vae else {}),
        )
        return folder

    def load(self, spec: ModelSpec, dtype: str, device: str) -> DiffusionPipeline:
        """The pipeline on a device, ready to call, with the safety checker off.

        Args:
            dtype: torch's name of it.
            device: torch's name of it.

        Raises:
            ModelError: it cannot be loaded, or does not fit.
        """
        if spec.untrained:
            pipe = self._build(spec, dtype, device)
        else:
            pipe = self._load_fetched(self.fetch(spec), dtype, device)
        if spec.clip_skip:
            _additions.mend_clip_skip(pipe)
        return pipe

    def _load_fetched(self, fetched: Fetched, dtype: str, device: str) -> DiffusionPipeline:
        import torch

        spec = fetched.spec
        count = self.parameters(spec, fetched.source)
        count += _controlnet.network_parameters(fetched.controlnet) if fetched.controlnet else 0
        check_memory(spec.name, count, dtype, device)
        try:
            return self._load(fetched, getattr(torch, dtype)).to(device)
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(
                f"model {spec.name!r} cannot be loaded from {spec.source!r}: {error}"
            ) from error

    def _load(self, fetched: Fetched, dtype: Any) -> DiffusionPipeline:
        """Loads as the generated scripts do; see `diffaccel.recipes.codegen`."""
        pipe, spec = self._load_pipeline(fetched, dtype), fetched.spec
        for each, path in zip(spec.textual_inversion, fetched.textual_inversion, strict=True):
            _additions.load_inversion(pipe, each, path)
        if spec.lora:
            _additions.load_loras(pipe, spec.lora, fetched.lora, fused=spec.fused)
        return pipe

    def _load_pipeline(self, fetched: Fetched, dtype: Any) -> DiffusionPipeline:
        import diffusers

        kind = getattr(diffusers, self.class_of(fetched.spec))
        arguments = {"dtype": dtype, **self.load_arguments()}
        if fetched.controlnet is not None:
            arguments["controlnet"] = _controlnet.load(fetched.controlnet, dtype)
        if fetched.vae is not None:
            arguments["vae"] = diffusers.AutoencoderKL.from_pretrained(
                fetched.vae, dtype=dtype, use_safetensors=True
            )
        if fetched.config is not None:
            return kind.from_single_file(fetched.source, config=str(fetched.config), **arguments)
        return kind.from_pretrained(
            fetched.source, variant=fetched.spec.variant, use_safetensors=True, **arguments
        )

    def parameters(self, spec: ModelSpec, source: Path) -> int:
        """Numbers in all weights of a model.

        Args:
            source: its folder or single file on this machine.

        Raises:
            ModelError: a file of weights is missing, or not whole.
        """
        if sources.is_single_file(spec.source):
            return read_header(source).parameters
        names = [path.relative_to(source).as_posix() for path in source.glob("*/*")]
        chosen = [
            name for part in self.parts(spec) for name in weight_files(names, part, spec.variant)
        ]
        return sum(read_header(source / name).parameters for name in chosen)

    def _build(self, spec: ModelSpec, dtype: str, device: str) -> DiffusionPipeline:
        if spec.source:
            self.check(spec)
            arguments = self.load_arguments()
            return build_like(Path(spec.source), self.pipeline_class, arguments, dtype, device)
        if device != "meta":
            check_memory(spec.name, self.sizes.parameters, dtype, device)
        return build(self.sizes, dtype, device)


class StableDiffusion(Family):
    """The families of one text encoder."""

    pipeline_class = "StableDiffusionPipeline"

    def load_arguments(self) -> dict[str, Any]:
        return {"safety_checker": None, "requires_safety_checker": False}
