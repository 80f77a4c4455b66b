"""A simulated CUDA device for tests on a machine without one.

Its tensors say that they are on cuda:0 and compute on the CPU. What raises an error on a real device raises one here:
operators on tensors of two devices, a generator of the other device, `.numpy()`, and, under
torch.use_deterministic_algorithms, operators for which CUDA has only kernels that give other bits each time. Random
numbers are those of a CPU generator with the same seed, so that a stage's output can be compared with its output on
the CPU, byte by byte.

    with simulated_cuda() as log:
        ...
    log.syncs  # {(kind, file:line): how often the host waited for the device there}

It cannot show what depends on CUDA's own kernels: their rounding, memory, streams, compilation, or several GPUs. It
imports modules of torch that a stage may not have imported, so a missing import is only found in a fresh process.
Once a process has registered the device, it stays registered: simulate in one test module, or in a subprocess.
"""

import sys
from collections import Counter
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from unittest import mock

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

aten = torch.ops.aten
CUDA, OWN = torch.device("cuda:0"), torch.device("privateuseone:0")  # as Python sees it, as C++ does
SOURCE = "/src/"  # a wait is counted at the innermost line of a file with this in its path
# Pointwise operators accept 0-dimensional CPU tensors beside CUDA tensors. So do these.
TAKES_CPU_SCALARS = {"aten::copy_", "aten::_to_copy", "aten::fill_.Tensor", "aten::masked_fill.Tensor",
                     "aten::masked_fill_.Tensor", "aten::where.self", "aten::index_fill.int_Tensor",
                     "aten::index_fill_.int_Tensor", "aten::pow.Tensor_Tensor", "aten::index_put_", "aten::index_put",
                     "aten::_index_put_impl_"}
ACROSS = {"aten::copy_", "aten::_to_copy", "aten::set_.source_Tensor", "aten::_has_compatible_shallow_copy_type"}
# These read a result on the host, which waits for the device until the result is there.
WAITS = {
    "aten::_local_scalar_dense": "item", "aten::nonzero": "nonzero", "aten::masked_select": "masked_select",
    "aten::equal": "equal", "aten::_unique2": "unique", "aten::unique_dim": "unique",
    "aten::_linalg_check_errors": "linalg info", "aten::repeat_interleave.Tensor": "repeat_interleave",
    "aten::bincount": "bincount", "aten::is_nonzero": "bool", "aten::_linalg_eigh": "linalg info",
    "aten::_linalg_svd": "linalg info",
}
PRODUCTS = {"mm", "bmm", "addmm", "baddbmm", "baddbmm_", "addmm_", "_scaled_dot_product_flash_attention_for_cpu"}
CONVOLUTIONS = {"convolution", "convolution_backward"}
# Operators that raise under torch.use_deterministic_algorithms(True) on CUDA, as its documentation lists them.
NOT_DETERMINISTIC = {"median.dim", "nanmedian.dim", "histc", "kthvalue", "max_pool2d_with_indices_backward", "put_",
                     "adaptive_avg_pool2d_backward", "upsample_bilinear2d_backward", "upsample_bicubic2d_backward",
                     "reflection_pad2d_backward", "replication_pad2d_backward", "grid_sampler_2d_backward",
                     "nll_loss2d_forward"}


class SimulatedTensor(torch.Tensor):
    """A tensor on cuda:0 whose numbers are in `held`, a tensor on the CPU.

    To C++ it is on `privateuseone:0`, because for a tensor on cuda autograd would ask the driver.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held, requires_grad=False):
        self = torch.Tensor._make_wrapper_subclass(cls, held.size(), strides=held.stride(),
                                                   storage_offset=held.storage_offset(), dtype=held.dtype,
                                                   layout=held.layout, device=OWN, requires_grad=requires_grad)
        self.held = held
        return self

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return dispatch(function, args, kwargs or {})

    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def get_device(self):
        return 0

    def cuda(self, *_, **__):
        return self

    def to(self, *args, **kwargs):  # for C++, cuda:0 would be another device
        def here(a):
            return OWN if isinstance(a, str | torch.device) and is_cuda(a) else a

        return torch._C.TensorBase.to(self, *map(here, args), **{key: here(value) for key, value in kwargs.items()})

    @property
    def data(self):
        return torch._C.TensorBase.data.__get__(self)

    @data.setter
    def data(self, value):
        if not isinstance(value, SimulatedTensor):
            raise RuntimeError("incompatible tensor type: .data of a cuda tensor set to one of the CPU")
        torch._C.TensorBase.data.__set__(self, value)
        self.held = value.held

    def numpy(self, **_):
        raise TypeError(
            f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host "
            "memory first."
        )

    def __array__(self, *_, **__):
        return self.numpy()

    def tolist(self):
        LOG.wait("tolist")
        return self.detach().held.tolist()

    def data_ptr(self):
        return self.held.data_ptr()

    def __reduce_ex__(self, protocol):
        return self.held.__reduce_ex__(protocol)

    def __repr__(self, **_):
        return f"cuda:0 {self.held!r}"

    __str__ = __repr__

    def __format__(self, how):
        return format(self.item() if self.ndim == 0 else repr(self), how)


class Generator(torch.Generator):
    """A torch.Generator that may be on cuda. C++ knows only its address, by which those on cuda are remembered."""

    on_cuda = {}  # noqa: RUF012

    def __new__(cls, device="cpu"):
        kind = torch.device(device).type
        self = super().__new__(cls, "cpu" if kind == "cuda" else device)
        if kind == "cuda":
            cls.on_cuda[self._cdata] = self
        return self

    @property
    def device(self):
        return CUDA if self._cdata in self.on_cuda else torch.device("cpu")

    def clone_state(self):
        raise NotImplementedError


class Log:
    """What a real device would have done differently: counts of waits, operators and arithmetic."""

    rounding = False

    def __init__(self):
        self.clear()

    def clear(self):
        self.syncs, self.operators, self.arithmetic, self.autocast = Counter(), Counter(), Counter(), Counter()

    def wait(self, kind):
        self.syncs[kind, self.where()] += 1

    @staticmethod
    def where():
        frame, found = sys._getframe(1), []
        while frame is not None and len(found) < 2:
            name = frame.f_code.co_filename
            if SOURCE in name and __file__ != name:
                found.append(f"{name.split(SOURCE)[-1]}:{frame.f_lineno}")
            frame = frame.f_back
        return " < ".join(found) or "?"


LOG = Log()


def tf32(x):
    """x rounded to the 10 bits of mantissa of TF32 where it is a simulated float32 tensor, else x."""
    if not isinstance(x, SimulatedTensor) or x.dtype != torch.float32:
        return x
    with torch.inference_mode(False):
        bits = x.held.contiguous().view(torch.int32)
        bits = bits + 0xFFF + ((bits >> 13) & 1) & ~0x1FFF
        return SimulatedTensor(bits.view(torch.float32).reshape(x.shape))


def is_cuda(device):
    return device is not None and torch.device(device).type in ("cuda", "simulated", "privateuseone")


def held(x):
    return x.held if isinstance(x, SimulatedTensor) else x


def wrapped(x):
    return SimulatedTensor(x) if isinstance(x, torch.Tensor) and not isinstance(x, SimulatedTensor) else x


def views(function, args):
    """Whether an operator returns a view of a tensor made outside of inference mode; the view belongs there too."""
    returns = function._schema.returns
    viewing = any(entry.alias_info is not None and not entry.alias_info.is_write for entry in returns)
    return viewing and isinstance(args[0], SimulatedTensor) and not args[0].is_inference()


def on_cpu(x):
    return isinstance(x, torch.Tensor) and not isinstance(x, SimulatedTensor) and x.device.type == "cpu"


def check_devices(function, name, args, kwargs):
    """Raise RuntimeError where CUDA would, for an operator that was given a tensor on cuda."""
    if name in ACROSS:
        return
    given = args
    if name.startswith(("aten::index.", "aten::index_put", "aten::_index_put", "aten::_unsafe_index")):
        if on_cpu(args[0]):
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        given = (args[0], *args[2:])  # indices may be on the CPU
    scalars = name in TAKES_CPU_SCALARS or torch.Tag.pointwise in function.tags
    for entry, value in zip(function._schema.arguments, given, strict=False):
        written = entry.alias_info is not None and entry.alias_info.is_write
        for x in tree_flatten(value)[0]:
            if on_cpu(x) and (x.ndim or written or not scalars):
                raise RuntimeError(
                    "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
                    f"(argument {entry.name} of {name}, shape {list(x.shape)}, at {LOG.where()})"
                )
    for key, x in kwargs.items():
        if on_cpu(x) and (x.ndim or not scalars or key == "out"):
            raise RuntimeError(
                f"Expected all tensors to be on the same device: {key} of {name} is on cpu, at {LOG.where()}"
            )


def check_generator(random, cuda):
    if random is not None and (random._cdata in Generator.on_cuda) != cuda:
        expected, found = ("cuda", "cpu") if cuda else ("cpu", "cuda")
        raise RuntimeError(f"Expected a '{expected}' device type for generator but found '{found}' at {LOG.where()}")


@contextmanager
def default_generator_of_cuda(function, kwargs):
    """Make a random operator without a generator draw from CUDA's default generator instead of the CPU's."""
    if torch.Tag.nondeterministic_seeded not in function.tags or kwargs.get("generator") is not None:
        yield
        return
    before, own = torch.default_generator.get_state(), torch.cuda.default_generators[0]
    torch.default_generator.set_state(own.get_state())
    try:
        yield
    finally:
        own.set_state(torch.default_generator.get_state())
        torch.default_generator.set_state(before)


def note(function, name, args, kwargs, tensors):
    short = name.split("::")[-1]
    LOG.operators[short] += 1
    if kind := WAITS.get(name):
        LOG.wait(kind)
    if name.startswith(("aten::index.", "aten::index_put", "aten::_index_put")):
        for index in args[1]:
            if index is not None and index.dtype in (torch.bool, torch.uint8):
                LOG.wait("boolean index")
            if on_cpu(index):
                LOG.wait("host to device (index)")
    base = short.split(".")[0]
    if torch.are_deterministic_algorithms_enabled() and {base, short} & NOT_DETERMINISTIC:
        raise RuntimeError(
            f"{short} does not have a deterministic implementation, but you set "
            f"'torch.use_deterministic_algorithms(True)'; at {LOG.where()}"
        )
    if base in CONVOLUTIONS | PRODUCTS and any(x.dtype == torch.float32 for x in tensors):
        allowed = torch.backends.cudnn.allow_tf32 if base in CONVOLUTIONS else torch.backends.cuda.matmul.allow_tf32
        kind = "convolution" if base in CONVOLUTIONS else "product"
        LOG.arithmetic[kind, "tf32" if allowed else "float32", LOG.where()] += 1


def dispatch(function, args, kwargs):  # noqa: PLR0911, PLR0912 (one kind of operator after another)
    name = function.name()
    flat = tree_flatten((args, kwargs))[0]
    tensors = [x for x in flat if isinstance(x, SimulatedTensor)]
    device = kwargs.get("device")
    random = next((x for x in flat if isinstance(x, torch._C.Generator)), None)
    if not tensors and not is_cuda(device):
        check_generator(random, False)
        pinned = kwargs.get("pin_memory", False)
        result = function(*args, **{key: value for key, value in kwargs.items() if key != "pin_memory"})
        if pinned:
            result.pinned = True  # its copies to the device need no waiting
        return result
    if name in ("aten::detach", "aten::alias", "aten::lift_fresh", "aten::lift") and tensors:
        with torch.inference_mode(torch.is_inference_mode_enabled() and args[0].is_inference()):
            return SimulatedTensor(function(args[0].held))
    if name == "aten::_efficientzerotensor":  # it has no memory, which the CPU's kernels would read
        function = aten.zeros.default
    if tensors:
        check_devices(function, name, args, kwargs)
    check_generator(random, True)
    note(function, name, args, kwargs, tensors)
    if name == "aten::_local_scalar_dense":
        return function(args[0].held)
    to_host = device is not None and not is_cuda(device) and tensors
    if is_cuda(device):
        kwargs = kwargs | {"device": torch.device("cpu")}
    kwargs = {key: value for key, value in kwargs.items() if key != "pin_memory" or not value}
    if name == "aten::_to_copy" and (to_host or not tensors):
        without_waiting = not to_host and kwargs.get("non_blocking") and getattr(args[0], "pinned", False)
        if not without_waiting and (not to_host or torch.device(device).type == "cpu"):  # to `meta` nothing is copied
            LOG.wait("device to host" if to_host else "host to device")
    if name == "aten::copy_" and isinstance(args[0], SimulatedTensor) != isinstance(args[1], SimulatedTensor):
        LOG.wait("host to device" if isinstance(args[0], SimulatedTensor) else "device to host")
    base = function._schema.name.split("::")[-1]
    if LOG.rounding and base in CONVOLUTIONS | PRODUCTS:
        allowed = torch.backends.cudnn if base in CONVOLUTIONS else torch.backends.cuda.matmul
        args = tree_map(tf32, args) if allowed.allow_tf32 else args
    with default_generator_of_cuda(function, kwargs), torch.inference_mode(False):
        result = function(*tree_map(held, args), **tree_map(held, kwargs))
    if to_host or (name == "aten::copy_" and not isinstance(args[0], SimulatedTensor)):
        return args[0] if name == "aten::copy_" else result
    mutated = [given for entry, given in zip(function._schema.arguments, args, strict=False)
               if entry.alias_info is not None and entry.alias_info.is_write]
    mutated += [kwargs[e.name] for e in function._schema.arguments if e.kwarg_only and e.is_out and e.name in kwargs]
    if mutated and len(function._schema.returns) == 1 and not isinstance(result, list | tuple):
        if result.shape != mutated[0].shape or result.stride() != mutated[0].stride():
            raise NotImplementedError(f"{name} changes the shape of a simulated tensor")
        return mutated[0]
    if mutated and not function._schema.returns:
        return result
    with torch.inference_mode(torch.is_inference_mode_enabled() and not views(function, args)):
        return tree_map(wrapped, result)


class Mode(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name, kwargs = function.name(), kwargs or {}
        has = torch._C._dispatch_has_kernel_for_dispatch_key
        if has(name, "CompositeImplicitAutograd") and not has(name, "CUDA"):  # not decomposed in inference mode
            with self:
                if (result := function.decompose(*args, **kwargs)) is not NotImplemented:
                    return result
        return dispatch(function, args, kwargs)


def attention(original):
    """Attention of simulated tensors by the CPU's fused kernel, or by the plain one where a program asks for it."""

    def scaled_dot_product_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **options):
        if not any(is_cuda(x.device) for x in (query, key, value)):
            return original(query, key, value, attn_mask, dropout_p, is_causal, **options)
        fused = torch.backends.cuda.flash_sdp_enabled() or torch.backends.cuda.mem_efficient_sdp_enabled()
        if fused and not dropout_p and not torch._C._functorch.peek_interpreter_stack():
            LOG.operators["fused attention"] += 1
            if attn_mask is not None and attn_mask.dtype == torch.bool:
                attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill(~attn_mask, -torch.inf)
            return aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, dropout_p, is_causal,
                                                                    attn_mask=attn_mask)[0]
        LOG.operators["plain attention"] += 1
        return aten._scaled_dot_product_attention_math(query, key, value, attn_mask, dropout_p, is_causal)[0]

    return scaled_dot_product_attention


def load(original):
    def torch_load(file, map_location=None, **options):
        if not is_cuda(map_location):
            return original(file, map_location=map_location, **options)
        found = original(file, map_location="cpu", **options)
        return tree_map(lambda x: x.to(CUDA) if isinstance(x, torch.Tensor) else x, found)

    return torch_load


def compile_(function=None, **_):
    """torch.compile, which is counted and does nothing."""
    LOG.operators["torch.compile"] += 1
    return function if function is not None else compile_


# What autocast on CUDA computes in half precision, in float32, and in the widest type among the arguments.
LOWER = ("conv2d", "convolution", "linear", "matmul", "mm", "bmm", "addmm", "baddbmm")
FULL = ("layer_norm", "group_norm", "softmax.int", "log_softmax.int", "exp", "log", "pow.Tensor_Scalar", "rsqrt",
        "sum", "sum.dim_IntList", "cumsum", "norm.Scalar", "norm.ScalarOpt_dim", "mse_loss")
WIDEST = ("cat", "stack", "addcmul", "addcdiv", "index_put", "dot", "scatter_add")


def autocasting(operator, kind):
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def run(*args, **kwargs):
        given = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
        half = torch.get_autocast_dtype("simulated")
        widest = torch.float32 if any(x.dtype == torch.float32 for x in given) else half
        wanted = {"lower": half, "full": torch.float32, "widest": widest}[kind]
        LOG.autocast[str(operator), str(wanted)] += 1

        def cast(x):
            eligible = isinstance(x, torch.Tensor) and x.is_floating_point() and x.dtype != torch.float64
            return x.to(wanted) if eligible else x

        with torch._C._ExcludeDispatchKeyGuard(keys):
            return operator(*tree_map(cast, args), **tree_map(cast, kwargs))

    return run


def become_accelerator():
    """Make `simulated` a device to autograd's engine and to autocast, once in a process and for good."""
    if hasattr(torch, "simulated"):
        return
    from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

    class Backend(_DummyBackendModule):
        def get_amp_supported_dtype(self):
            return [torch.bfloat16, torch.float16]

    _setup_privateuseone_for_python_backend("simulated", Backend())
    rest = torch.library.Library("_", "IMPL")
    rest.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    library = torch.library.Library("aten", "IMPL")
    for kind, names in (("lower", LOWER), ("full", FULL), ("widest", WIDEST)):
        for name in names:
            packet, _, overload = name.partition(".")
            operator = getattr(getattr(aten, packet), overload or "default")
            library.impl(name, autocasting(operator, kind), "AutocastPrivateUse1")
    # CPU and CUDA have a kernel for this, other devices decompose it. The mode handles it before it is called.
    library.impl("silu_backward", aten.silu_backward, "PrivateUse1")
    torch.simulated_libraries = library, rest


class Autocast(torch.autocast):
    """torch.autocast in which `cuda` is the simulated device."""

    def __init__(self, device_type, dtype=None, enabled=True, cache_enabled=None):
        super().__init__("simulated" if device_type == "cuda" else device_type, dtype, enabled, cache_enabled)


def as_tensor(original):
    def torch_as_tensor(data, dtype=None, device=None):
        if isinstance(data, SimulatedTensor) and (device is None or is_cuda(device)):
            return data if dtype is None else data.to(dtype)
        return original(data, dtype=dtype, device=device)

    return torch_as_tensor


@contextmanager
def simulated_cuda(free=2**30, rounding=False):
    """Provide one CUDA device, cuda:0, for the length of the block, and yield the Log.

    free: how many bytes of memory it reports as free. rounding: round the arguments of convolutions and products for
    which TF32 is allowed to its 10 bits.
    """
    torch._C._ensureCUDADeviceGuardSet()  # C++ asks for the streams and devices of any tensor that says cuda
    become_accelerator()
    torch._C._set_only_lift_cpu_tensors(True)
    properties = SimpleNamespace(name="simulated", major=8, minor=0, total_memory=free * 2, multi_processor_count=108,
                                 warp_size=32)
    LOG.clear()
    LOG.rounding = rounding
    cuda = {
        "is_available": lambda: True, "device_count": lambda: 1, "current_device": lambda: 0,
        "_lazy_init": lambda: None,
        "is_initialized": lambda: True, "mem_get_info": lambda device=None: (free, 2 * free),
        "get_device_name": lambda device=None: "simulated", "get_device_capability": lambda device=None: (8, 0),
        "get_device_properties": lambda device=None: properties, "is_bf16_supported": lambda *_, **__: True,
        "synchronize": lambda device=None: None, "empty_cache": lambda: None, "set_device": lambda device: None,
        "is_current_stream_capturing": lambda: False, "max_memory_allocated": lambda device=None: 0,
        "memory_allocated": lambda device=None: 0, "reset_peak_memory_stats": lambda device=None: None,
        "default_generators": (Generator("cuda"),),
    }
    with ExitStack() as stack:
        for name, value in cuda.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, value))
        for place, name, value in (
            (torch, "Generator", Generator), (torch, "load", load(torch.load)), (torch, "compile", compile_),
            (torch.accelerator, "current_accelerator", lambda check_available=False: torch.device("cuda")),
            (torch, "autocast", Autocast), (torch, "as_tensor", as_tensor(torch.as_tensor)),
            (F, "scaled_dot_product_attention", attention(F.scaled_dot_product_attention)),
        ):
            stack.enter_context(mock.patch.object(place, name, value))
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))  # a thread would need a context
        stack.enter_context(Mode())
        flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        deterministic = torch.are_deterministic_algorithms_enabled()
        try:
            yield LOG
        finally:
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = flags
            torch.use_deterministic_algorithms(deterministic)
            torch._C._set_only_lift_cpu_tensors(False)
