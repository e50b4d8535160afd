"""What honest scripts do with a pipeline and its parts: whatever else is done to them is refused.

The rule is that of a guest list. A script may call what is on it, set what is on it, and do with
its own values as it likes; what it does to a pipeline, a sampler or a network by any other way, or
by a way that the syntax does not tell, is a line of which one cannot say what it generates.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

PIPE = "pipe"
"""What paths from a loaded pipeline begin with."""
ANY_PART = f"{PIPE}.*"
"""What the path of a part of a pipeline is that is not told."""


@dataclass(frozen=True)
class Known:
    """What accelerators say of themselves.

    Args:
        undone_by: path of a call -> paths of calls that it undoes.
        generates: names of methods of a pipeline that generate as calling it does.
        calls: paths of calls that put one on or take one off.
        writes: what is set on a pipeline (``name=``) and deleted from it and its parts
            (``del name``).
        definitions: dumps of the syntax trees of classes and functions that are trusted.
    """

    undone_by: Mapping[str, Collection[str]]
    generates: Collection[str]
    calls: Collection[str]
    writes: Collection[str]
    definitions: Callable[[], Collection[str]]

    @property
    def packages(self) -> frozenset[str]:
        """Packages that may do with a pipeline what they do."""
        return frozenset(path.split(".")[0] for path in self.calls) - {PIPE, "torch"}


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


SETTABLE = frozenset({"scheduler", "safety_checker", "feature_extractor", "watermark"})
"""Attributes of a pipeline that may be set; what the scheduler is set to is looked at apart."""
PARTS = frozenset({"unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"})
"""Those that may be set to what is compiled or loaded."""
DEFAULTED = frozenset({"text_model"})
"""What a part may be given where it has none: without it, diffusers cannot skip CLIP's layers."""
COMPILED = ("torch.compile", "torch.cuda.make_graphed_callables")
LOADERS = ("from_pretrained", "from_single_file", "from_pipe", "from_config")
LOADING = (
    _names(
        """
    pretrained_model_name_or_path pretrained_model_link_or_path torch_dtype dtype
    use_safetensors variant revision subfolder cache_dir local_files_only low_cpu_mem_usage
    token device_map config original_config safety_checker requires_safety_checker
    feature_extractor scheduler add_watermarker force_download proxies load_safety_checker
    image_encoder
    """
    )
    | PARTS
)
"""Arguments that say what is loaded and how, and not what is made of it."""

METHODS = _names(
    """
    to cuda cpu eval float half bfloat16 requires_grad_ compile compile_repeated_blocks
    fuse_qkv_projections unfuse_qkv_projections modules named_modules children named_children
    parameters named_parameters buffers state_dict set_timesteps scale_model_input encode_prompt
    prepare_latents check_inputs progress_bar decode encode postprocess preprocess get items
    keys values copy maybe_free_model_hooks upcast_vae numpy_to_pil set_progress_bar_config
    set_attn_processor set_default_attn_processor set_attention_backend
    set_use_memory_efficient_attention_xformers reset_device_map add_noise num_parameters
    load_lora_weights set_adapters fuse_lora unfuse_lora unload_lora_weights load_textual_inversion
    manual_seed seed type size dim numel item tolist startswith endswith
    """
)
"""Methods of a pipeline and its parts, and of what is made from them."""
PREFIXES = ("enable_", "disable_")
"""How others begin that diffusers documents."""
NUMBERS = _names(
    """
    device dtype _execution_device vae_scale_factor in_channels sample_size init_noise_sigma
    num_timesteps guidance_scale num_train_timesteps model_max_length default_sample_size
    """
)
"""Attributes that are numbers and the like: by them nothing can be set."""
MAKES = frozenset({"encode_prompt", "prepare_latents", "decode", "encode", "progress_bar"})
"""Methods that give something new, of which nothing leads back to the pipeline."""

BUILTINS = _names(
    """
    print len isinstance issubclass hasattr getattr type id str repr list tuple set frozenset
    dict zip enumerate iter next sorted reversed map filter callable vars any all min max sum
    int float bool setattr delattr format
    """
)
SETTERS = frozenset({"setattr", "delattr"})
"""Those that may only be called, since what they do elsewhere is not told."""
LIBRARIES = ("copy.", "contextlib.", "functools.", "itertools.", "typing.", "logging.", "time.")
TORCH = ("torch.cuda.", "torch.backends.", "torch.amp.")
"""Functions that may be given a pipeline or its parts; of torch also those that lie at its top."""
SETTINGS = (
    "torch.backends.",
    "torch._dynamo.config.",
    "torch._inductor.config.",
    "PIL.Image.MAX_IMAGE_PIXELS",
    "types.SimpleNamespace.",
    "argparse.",
    "threading.local.",
)
"""What may be set that is not of the script itself."""

IMPORTED = _names(
    """
    __future__ abc argparse array asyncio base64 bisect collections concurrent contextlib copy csv
    dataclasses datetime decimal enum functools gc glob hashlib heapq inspect io itertools json
    logging math numbers operator os pathlib platform pprint queue random re secrets shutil signal
    statistics string struct subprocess sys tempfile textwrap threading time traceback types typing
    typing_extensions unicodedata uuid warnings weakref
    PIL accelerate cv2 diffusers einops huggingface_hub imageio matplotlib numpy packaging pandas
    peft psutil safetensors scipy torch torchvision tqdm transformers xformers
    """
)
"""Packages that may be imported, besides those of accelerators; what others do is not known."""
EVALUATING = _names("exec eval compile __import__ globals locals breakpoint")
"""Builtin functions by which a script may do what its text does not say."""
FORBIDDEN = _names(
    """
    importlib ctypes ctypeslib marshal pickle pickling runpy cffi f2py cpp_extension load_library
    load_inline get_type_hints sympy dictConfig read_pickle hub package dynamic_modules_utils
    """
)
"""Modules and functions by which it may."""
UNREAD = _names("torch.load torch.jit.load numpy.load pandas.eval pandas.query")
"""Functions that run what they read."""
INSIDE = frozenset({"sys", "builtins", "gc", "inspect", "types", "operator", "weakref", "__main__"})
"""Modules of which some is harmless, and that no other package is asked for."""
HARMLESS = _names(
    """
    sys.exit sys.argv sys.stdout sys.stderr sys.version sys.version_info sys.platform
    sys.executable sys.byteorder sys.maxsize gc.collect gc.disable gc.enable gc.freeze
    types.SimpleNamespace types.TracebackType types.ModuleType types.NoneType
    inspect.signature operator.itemgetter operator.mul operator.add weakref.ref
    """
)
ATTRIBUTES = _names(
    """
    __dict__ __globals__ __code__ __closure__ __wrapped__ __subclasses__ __bases__ __base__
    __mro__ __builtins__ __getattribute__ __setattr__ __delattr__ __self__ __func__ __loader__
    __path__ __spec__ __reduce__ __reduce_ex__ __setstate__ __init_subclass__ __defaults__
    __kwdefaults__ f_back f_globals f_locals tb_frame gi_frame cr_frame ag_frame
    _modules _parameters _buffers
    """
)
"""Attributes that lead to what is behind a value."""


def is_forbidden(path: str) -> bool:
    """Whether a path leads to what does things that a script's text does not say."""
    first, *rest = path.split(".")
    if first in EVALUATING or FORBIDDEN.intersection([first, *rest]) or INSIDE.intersection(rest):
        return True
    if path in UNREAD:
        return True
    return first in INSIDE and bool(rest) and f"{first}.{rest[0]}" not in HARMLESS


def is_imported(path: str, known: Known) -> bool:
    """Whether a package may be imported."""
    root = path.split(".")[0]
    return root in IMPORTED or root in known.packages


def may_be_given_parts(path: str, known: Known) -> bool:
    """Whether a function of another package may be given a pipeline or its parts."""
    first, _, last = path.rpartition(".")
    if path in BUILTINS or path in known.calls or path.startswith((*LIBRARIES, *TORCH)):
        return True
    root = path.split(".")[0]
    if root in known.packages:
        return True
    if root in ("diffusers", "transformers"):
        return first == root or last in METHODS or last in LOADERS
    return first == "torch" and not last.endswith("_")


def is_known_method(path: str, known: Known) -> bool:
    """Whether a method of a pipeline, of its parts or of what is made from them is on the list."""
    last = path.rpartition(".")[2]
    if path in known.calls or path.split(".")[0] in known.packages:
        return True
    return last in METHODS or last.startswith(PREFIXES) or last in LOADERS
