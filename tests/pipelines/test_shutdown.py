"""However a loop ends, nothing hangs, leaks or is left half done."""

import contextlib
import gc
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch

from pipelines import PatchLoader
from tests.pipelines.conftest import MakeDataset

BACKENDS = ["reference", "auto", "dali"]  # auto: the default of this machine, with its threads


def make(shards: Path, backend: str, **options: object) -> PatchLoader:
    return PatchLoader(shards, global_batch_size=5, backend=backend, device="cpu", threads=2, **options)


@pytest.fixture(autouse=True)
def _warm(raw_shards: Path) -> None:
    """Lets thread pools that live as long as the process (torch's, Numba's) come up before anything is counted."""
    for backend in BACKENDS:
        with make(raw_shards, backend) as loader:
            next(iter(loader))
    gc.collect()


@pytest.mark.usefixtures("no_leaks")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_with_block_leaves_nothing_behind(raw_shards: Path, backend: str) -> None:
    for _ in range(5):
        with make(raw_shards, backend) as loader:
            assert len(list(loader)) == 10


@pytest.mark.usefixtures("no_leaks")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_break_leaves_nothing_behind(raw_shards: Path, backend: str) -> None:
    loader = make(raw_shards, backend, prefetch=3)
    for _ in range(5):
        for _ in loader:
            break
    loader.close()
    loader.close()
    with pytest.raises(ValueError, match="closed"):
        next(iter(loader))


@pytest.mark.usefixtures("no_leaks")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loader_that_is_only_dropped_leaves_nothing_behind(raw_shards: Path, backend: str) -> None:
    for _ in range(5):
        batches = iter(make(raw_shards, backend))
        next(batches)
        del batches


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_exception_in_the_loop_passes_through_and_the_loader_goes_on(raw_shards: Path, backend: str) -> None:
    with make(raw_shards, backend) as loader:
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the loop is what is tested
            for _ in loader:
                1 / 0  # noqa: B018
        assert loader.state_dict()["step"] == 1
        assert len(list(loader)) == 10


@pytest.mark.parametrize("backend", BACKENDS)
def test_closing_inside_the_loop_ends_it_with_an_error(raw_shards: Path, backend: str) -> None:
    loader = make(raw_shards, backend)
    with pytest.raises(ValueError, match="closed"):  # noqa: PT012 - the loop is what is tested
        for _ in loader:
            loader.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_newer_iteration_ends_an_older_one(raw_shards: Path, backend: str) -> None:
    with make(raw_shards, backend) as loader:
        old = iter(loader)
        next(old)
        new = iter(loader)
        first = next(new)
        with pytest.raises(RuntimeError, match="newer iteration"):
            next(old)
        assert len([first, *new]) == 10


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_loaders_in_one_process_do_not_disturb_each_other(raw_shards: Path, backend: str) -> None:
    alone = [batch.patches for batch in make(raw_shards, backend, seed=1)]
    with make(raw_shards, backend, seed=1) as left, make(raw_shards, backend, seed=2) as right:
        together = [batch.patches for batch, _ in zip(left, right, strict=True)]
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loader_in_another_thread_gives_the_same(raw_shards: Path, backend: str) -> None:
    expected = [batch.sample_id.tolist() for batch in make(raw_shards, backend)]
    found: list[list[int]] = []

    def run() -> None:
        with make(raw_shards, backend) as loader:
            found.extend(batch.sample_id.tolist() for batch in loader)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert found == expected


def run_script(body: str, *, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(body)], capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_process_that_ends_with_a_loader_under_way_ends(raw_shards: Path, backend: str) -> None:
    done = run_script(f"""
        from pipelines import PatchLoader
        loader = PatchLoader({str(raw_shards)!r}, global_batch_size=5, backend={backend!r}, device="cpu", threads=2)
        batches = iter(loader)
        next(batches)
        print("done")
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.parametrize("backend", BACKENDS)
def test_ctrl_c_ends_the_process_at_once(make_dataset: MakeDataset, backend: str) -> None:
    shards = make_dataset(samples=200)
    body = f"""
        from pipelines import PatchLoader
        loader = PatchLoader({str(shards)!r}, global_batch_size=5, backend={backend!r}, device="cpu", threads=2)
        first = True
        while True:
            for batch in loader:
                if first:
                    print("running", flush=True)
                    first = False
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(body)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert "KeyboardInterrupt" in errors
    assert process.returncode in (-signal.SIGINT, 130)


@pytest.mark.parametrize("backend", BACKENDS)
def test_ctrl_c_caught_anywhere_in_the_loop_lets_the_loader_go_on(raw_shards: Path, backend: str) -> None:
    with make(raw_shards, backend) as loader:
        expected = [batch.sample_id.tolist() for batch in loader]
        for attempt in range(20):
            loader.set_epoch(0)
            timer = threading.Timer(0.0005 * attempt, signal.raise_signal, [signal.SIGINT])
            seen = []
            with contextlib.suppress(KeyboardInterrupt):
                timer.start()
                for batch in loader:
                    seen.append(batch.sample_id.tolist())
                timer.join()
                time.sleep(0.01)
            state = loader.state_dict()
            loader.load_state_dict(state)
            step = len(expected) if state["epoch"] == 1 else int(state["step"])
            rest = [batch.sample_id.tolist() for batch in loader] if state["epoch"] == 0 else []
            assert rest == expected[step:]
            assert seen in (expected[:step], expected[: step - 1])  # Ctrl-C between the hand-over and the append


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("backend", BACKENDS)
def test_fork_after_import(raw_shards: Path, backend: str) -> None:
    """A child forked after the import, before anything ran, makes its own loader."""
    done = run_script(f"""
        import os
        from pipelines import PatchLoader
        def stream():
            shards = {str(raw_shards)!r}
            with PatchLoader(shards, global_batch_size=5, backend={backend!r}, device="cpu", threads=2) as loader:
                return [batch.sample_id.tolist() for batch in loader]
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.write(writing, repr(stream()).encode())
            os._exit(0)
        os.wait()
        assert os.read(reading, 1 << 16).decode() == repr(stream())
        print("equal")
    """)
    assert done.stdout == "equal\n", done.stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loader_under_way_at_a_fork_goes_on_in_both_processes(raw_shards: Path, backend: str) -> None:
    """Its threads are not in the child, which starts its own; a new iteration works there too."""
    done = run_script(f"""
        import os
        from pipelines import PatchLoader
        loader = PatchLoader({str(raw_shards)!r}, global_batch_size=5, backend={backend!r}, device="cpu", threads=2)
        batches = iter(loader)
        next(batches)
        reading, writing = os.pipe()
        if os.fork() == 0:
            ids = [batch.sample_id.tolist() for batch in batches]
            iter(loader), next(iter(loader))
            os.write(writing, repr(ids).encode())
            os._exit(0)
        ids = [batch.sample_id.tolist() for batch in batches]
        assert os.wait()[1] == 0
        assert os.read(reading, 1 << 16).decode() == repr(ids)
        reading, writing = os.pipe()
        next(iter(loader))
        if os.fork() == 0:  # a new iteration, with plans of the parent's still under way
            os.write(writing, str(len(list(loader))).encode())
            os._exit(0)
        assert os.wait()[1] == 0
        assert os.read(reading, 1 << 16) == b"10"
        print("equal")
    """)
    assert done.stdout == "equal\n", done.stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_and_descriptors_stay_flat(raw_shards: Path, backend: str) -> None:
    process = psutil.Process()
    with make(raw_shards, backend) as loader:
        for _ in range(3):
            list(loader)
        gc.collect()
        before, files = process.memory_info().rss, process.num_fds()
        for _ in range(30):
            for _ in loader:
                pass
        gc.collect()
        assert process.memory_info().rss - before < 20e6
        assert process.num_fds() == files
