import pytest
import torch

from pipelines.backends.buffers import BufferPool
from pipelines.batch_plan import TORCH_DTYPE, Dtype


def place(pool: BufferPool, rows: int = 4) -> int:
    return int(pool.take(rows).ctypes.data)


@pytest.mark.parametrize("dtype", list(TORCH_DTYPE))
def test_arrays_become_tensors_of_the_dtype_without_a_copy(dtype: Dtype) -> None:
    pool = BufferPool(batch_size=4, row=(2, 3), dtype=dtype, keep=2)
    array = pool.take(3)
    tensor = pool.tensor(array)
    assert tensor.shape == array.shape == (3, 2, 3)
    assert tensor.dtype == TORCH_DTYPE[dtype]
    assert tensor.data_ptr() == array.ctypes.data
    assert tensor.is_contiguous()


def test_memory_nobody_holds_is_used_again() -> None:
    pool = BufferPool(batch_size=4, row=(8,), dtype="float32", keep=2)
    assert place(pool) == place(pool) == place(pool, rows=2)


@pytest.mark.parametrize("dtype", ["uint8", "bfloat16"])
def test_memory_is_not_used_again_while_a_tensor_a_view_or_an_array_lives(dtype: Dtype) -> None:
    pool = BufferPool(batch_size=4, row=(8,), dtype=dtype, keep=8)
    tensor = pool.tensor(pool.take(4))
    view = pool.tensor(pool.take(4))[1:2, 3]
    array = pool.tensor(pool.take(4)).view(torch.uint8).numpy()
    alias = pool.tensor(pool.take(4)).detach()
    held = {tensor.data_ptr(), view.untyped_storage().data_ptr(), array.ctypes.data, alias.data_ptr()}
    assert len(held) == 4
    assert place(pool) not in held
    first = tensor.data_ptr()
    del tensor
    assert place(pool) == first


def test_beyond_what_is_kept_memory_is_fresh_and_forgotten() -> None:
    pool = BufferPool(batch_size=4, row=(8,), dtype="uint8", keep=2)
    held = [pool.take(4) for _ in range(5)]
    assert len({array.ctypes.data for array in held}) == 5
    assert len(pool._arrays) == 2
