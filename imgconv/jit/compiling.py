"""From a loop's Python to LLVM IR by Numba: imported only where the store misses a loop.

Numba is asked by what it documents: `cfunc`, `njit`, `intrinsic`, a compiler pipeline of one's
own. Two shortcuts build on names that are private to it; Numba 0.61 to 0.68 have them, and without
them the results are the same. `CFunc._compile_uncached` returns the code library before it makes
machine code (`_stopped_at_ir`): a first run takes an eighth less than by `_by_cfunc`. The pass that
merges helpers is told not to copy them (`_MergeHelpers`): a matrix product compiles in half the
time.
"""

import contextlib
import gc
import types
from collections.abc import Callable, Iterator
from typing import Any

import numba
from llvmlite import ir
from numba import types as nb
from numba.core.ccallback import CFunc
from numba.core.codegen import CPUCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.inline_closurecall import InlineWorker, callee_ir_validator
from numba.core.untyped_passes import InlineInlinables
from numba.extending import intrinsic

from imgconv.jit import cache, simd
from imgconv.jit.callees import Helper, Part
from imgconv.jit.record_lowering import type_of

simd.for_numba()
# Passes for `with`, closures, raised exceptions, literal loops, array expressions and parfors.
_IDLE = frozenset({
    "WithLifting", "InlineClosureLikes", "MakeFunctionToJitFunction", "RewriteDynamicRaises",
    "FindLiterallyCalls", "LiteralUnroll", "LiteralPropagationSubPipelinePass",
    "NopythonRewrites", "NoPythonSupportedFeatureValidation", "DumpParforDiagnostics",
})  # fmt: skip

# Whether Numba has the two private names that `_stopped_at_ir` needs.
_STOPS_AT_IR = hasattr(CFunc, "_compile_uncached") and hasattr(
    CPUCodeLibrary, "_finalize_final_module"
)


def widen() -> None:
    """Tell Numba to use vectors as wide as the CPU has.

    Only where this process imported it for its loops: the features are part of the keys of other
    code's caches. LLVM takes half of AVX-512's vectors, for the sake of CPUs that slow down under
    whole ones; those with VBMI2 (Ice Lake and later) hardly do. 5×5 under u8: 63 ms of 12 MP RGB
    at 256 bits, 30 ms at 512.
    """
    if numba.config.CPU_FEATURES is None:
        numba.config.CPU_FEATURES = cache.wide_features()


def compile_ir(
    signature: str, body: Callable[..., None], disjoint: bool = False
) -> tuple[str, str]:
    """Return (entry point's symbol, LLVM IR) of a loop's body.

    signature: its arguments' types. disjoint: whether no two pointers reach the same element.
    """
    arguments = [_apart(type_of(word)) for word in signature.split()]
    # contract allows fused multiply-add and nothing that assumes NaN or Inf away.
    options = {"error_model": "numpy", "fastmath": {"contract"}}
    inlined: dict[int, Any] = {}

    def replace(value: Any) -> Any:
        if isinstance(value, Part):
            if id(value) not in inlined:
                inlined[id(value)] = _calling(value)
            return inlined[id(value)]
        if not isinstance(value, Helper):
            return value
        if id(value) not in inlined:
            # Merged before compilation: a third of the time of a compiled callee, and no call whose
            # status would need Numba's runtime to report.
            inlined[id(value)] = numba.njit(rebuild(value.function), inline="always", **options)
        return inlined[id(value)]

    def rebuild(function: Callable[..., Any]) -> types.FunctionType:
        assert isinstance(function, types.FunctionType)
        names = _global_names(function.__code__)
        scope = {
            name: replace(value) if name in names else value
            for name, value in function.__globals__.items()
        }
        cells = tuple(
            types.CellType(replace(cell.cell_contents)) for cell in function.__closure__ or ()
        )
        return types.FunctionType(
            function.__code__, scope, function.__name__, function.__defaults__, cells
        )

    with global_compiler_lock, _uncollected():
        wanted = rebuild(body), (tuple(arguments), nb.void), _pipeline(disjoint), options
        return _stopped_at_ir(*wanted) if _STOPS_AT_IR else _by_cfunc(*wanted)


def _apart(kind: Any) -> Any:
    """A record's type whose fields are arguments of their own wherever they are passed.

    Numba makes an array of a record of equal fields, which 64-bit ARM passes whole: all of it on
    the stack where not all of it fits in registers. Those who call pass fields.
    """
    same = isinstance(kind, nb.NamedUniTuple)
    return nb.NamedTuple(kind.types, kind.instance_class) if same else kind


def _by_cfunc(body: Any, types_: Any, pipeline: Any, options: Any) -> tuple[str, str]:
    """(entry, IR) by Numba's public way, which makes machine code too."""
    compiled = numba.cfunc(types_[1](*types_[0]), pipeline_class=pipeline, **options)(body)
    return compiled.native_name, compiled.inspect_llvm()


def _stopped_at_ir(body: Any, types_: Any, pipeline: Any, options: Any) -> tuple[str, str]:
    """What `_by_cfunc` returns, without machine code for this process: the store makes its own."""
    function: Any = CFunc(body, types_, {}, options, pipeline)
    compiled = function._compile_uncached()
    library = compiled.library
    library._finalize_final_module = lambda: None
    library.finalize()
    return compiled.fndesc.llvm_cfunc_wrapper_name, library.get_llvm_str()


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without searching for garbage: a tenth of a compilation goes into going through its IR."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _calling(part: Part) -> Any:
    """What bodies call for another loop; it casts its arguments to the loop's."""
    words, symbol = part.compiled()
    cache.define(symbol)
    wanted = [type_of(word) for word in words.split()]

    def typed(context, *arguments):  # type: ignore[no-untyped-def]
        # A record may hold what was given: an integer of another width, a truth, a literal.
        given = [
            argument if isinstance(kind, nb.BaseNamedTuple) else kind
            for kind, argument in zip(wanted, arguments, strict=True)
        ]

        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
            # One argument, the tuple of all that the call gave.
            flat: list[Any] = []
            for place, kind in enumerate(wanted):
                value = builder.extract_value(values[0], place)
                flat += _fields(context, builder, value, given[place], kind)
            kind = ir.FunctionType(ir.VoidType(), [value.type for value in flat])
            known = builder.module.globals.get(symbol)
            builder.call(known or ir.Function(builder.module, kind, symbol), flat)

        return nb.void(nb.StarArgTuple(given)), generate

    return intrinsic(typed)


def _fields(context: Any, builder: Any, value: Any, given: Any, wanted: Any) -> list[Any]:
    """A record's fields, each as the type that is wanted; a value that is none by itself."""
    if not isinstance(wanted, nb.BaseNamedTuple):
        return [value]
    if getattr(given, "instance_class", None) is not wanted.instance_class:
        raise TypeError(f"a loop's body gives {given}, expected {wanted}")
    return [
        context.cast(builder, builder.extract_value(value, place), *kinds)
        for place, kinds in enumerate(zip(given, wanted, strict=True))
    ]


class _Merger(InlineWorker):  # type: ignore[misc]
    """Merges a helper into its caller without copies of it.

    Numba copies a callee twice, to keep what its own caller may still need: half of a compilation
    of helpers that call helpers. Here it was made for this one call.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._compiler_pipeline = lambda state: _managed(
            DefaultPassBuilder.define_untyped_pipeline(state)
        )

    def inline_function(
        self, caller_ir: Any, block: Any, i: int, function: Any, arg_typs: Any = None
    ) -> Any:
        callee = self.run_untyped_passes(function)
        blocks = list(callee.blocks.values())
        for own in blocks:
            own.__deepcopy__ = lambda memo, own=own: own
        try:
            return self.inline_ir(
                caller_ir, block, i, callee, function.__code__.co_freevars, arg_typs=arg_typs
            )
        finally:
            for own in blocks:
                del own.__deepcopy__


@register_pass(mutates_CFG=True, analysis_only=False)
class _MergeHelpers(InlineInlinables):  # type: ignore[misc]
    """Numba's pass that merges helpers into a loop, by a worker of ours."""

    _name = "merge_helpers"

    def _do_work(
        self, state: Any, work_list: Any, block: Any, i: int, expr: Any, inline_worker: Any
    ) -> Any:
        worker = _Merger(
            state.typingctx, state.targetctx, state.locals, state.pipeline, state.flags,
            callee_ir_validator,
        )  # fmt: skip
        return super()._do_work(state, work_list, block, i, expr, worker)


def _managed(usual: Any) -> PassManager:
    """Numba's passes without those that find nothing in a loop, and with our merging."""
    manager = PassManager("loop")
    for kind, description in usual.passes:
        if kind.__name__ not in _IDLE:
            manager.passes.append(
                (_MergeHelpers if kind is InlineInlinables else kind, description)
            )
    return manager


def _pipeline(disjoint: bool) -> Any:
    """Numba's compiler with passes for loops.

    disjoint: whether each pointer argument is marked `noalias`.
    """

    class Pipeline(CompilerBase):  # type: ignore[misc]
        def define_pipelines(self) -> list[Any]:
            self.state.flags.noalias = disjoint
            manager = _managed(DefaultPassBuilder.define_nopython_pipeline(self.state))
            manager.finalize()
            return [manager]

    return Pipeline


def _global_names(code: types.CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _global_names(constant)
    return names
