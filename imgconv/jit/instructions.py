"""LLVM instructions on vectors of float32 that several emitters share."""

from typing import Any

LINE = 16  # floats of a cache line


def across(builder: Any, value: Any, lanes: int) -> Any:
    """Emit the sum of a vector's elements: halves added to halves."""
    from llvmlite import ir

    i32 = ir.IntType(32)
    while lanes > 1:
        lanes //= 2
        parts = [
            ir.Constant(ir.VectorType(i32, lanes), list(range(start, start + lanes)))
            for start in (0, lanes)
        ]
        low, high = (builder.shuffle_vector(value, value, part) for part in parts)
        value = builder.fadd(low, high)
    return builder.extract_element(value, i32(0))


def vector_at(builder: Any, pointer: Any, index: Any, lanes: int) -> Any:
    from llvmlite import ir

    vector = ir.VectorType(ir.FloatType(), lanes)
    return builder.bitcast(builder.gep(pointer, [index]), vector.as_pointer())


def phi(builder: Any, *incoming: tuple[Any, Any]) -> Any:
    phi = builder.phi(incoming[0][0].type)
    for value, block in incoming:
        phi.add_incoming(value, block)
    return phi


def fmuladd(module: Any, vector: Any) -> Any:
    from llvmlite import ir

    suffix = f"v{vector.count}f32" if isinstance(vector, ir.VectorType) else "f32"
    name = f"llvm.fmuladd.{suffix}"
    found = module.globals.get(name)
    return found or ir.Function(module, ir.FunctionType(vector, [vector] * 3), name)


def prefetch(builder: Any, address: Any, write: bool = False, near: bool = False) -> None:
    """Ask for a line to be read into the second level of cache; near, write: into the first."""
    from llvmlite import ir

    name, i32 = "llvm.prefetch.p0", ir.IntType(32)
    found = builder.module.globals.get(name)
    kinds = [address.type, i32, i32, i32]
    function = found or ir.Function(builder.module, ir.FunctionType(ir.VoidType(), kinds), name)
    address = builder.bitcast(address, function.args[0].type)
    builder.call(function, [address, i32(int(write)), i32(3 if write or near else 2), i32(1)])


def not_under(builder: Any, value: Any, floor: Any) -> Any:
    """Emit a vector's lanes, or the floor's where they are less; NaN is not."""
    return builder.select(builder.fcmp_ordered("<", value, floor), floor, value)


def splat(builder: Any, value: Any, lanes: int) -> Any:
    from llvmlite import ir

    i32 = ir.IntType(32)
    blank = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    one = builder.insert_element(blank, value, i32(0))
    return builder.shuffle_vector(one, blank, ir.Constant(ir.VectorType(i32, lanes), [0] * lanes))


def opaque(builder: Any, pointer: Any) -> Any:
    """Emit a pointer of which the compiler does not know that it is the same."""
    from llvmlite import ir

    kind = ir.FunctionType(pointer.type, [pointer.type])
    return builder.asm(kind, "", "=r,0", [pointer], False)
