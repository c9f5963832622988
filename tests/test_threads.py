"""Threads, forks, fresh processes, Ctrl-C, and processes that end: right figures or one refusal."""

import ast
import asyncio
import concurrent.futures
import gc
import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
import weakref
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info

import onnx_geed
from onnx_geed import GeedError
from onnx_geed.run.executor import in_order
from onnx_geed.threads import Threads, with_idle
from onnx_geed.whole import whole

DEMO = Path(str(files("onnx_geed.demo")))
ROOT = Path(onnx_geed.__file__).parents[1]
FIT = {"output_action": {"block5": "fit:orthogonal"}, "measures": ["unexplained@block5"]}

compiled = pytest.mark.skipif(
    os.environ.get("NUMBA_DISABLE_JIT", "0") != "0", reason="nothing is compiled"
)
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


def figures(group="C4", **options):
    """What a small run measures, as JSON has it."""
    result = onnx_geed.measure(
        DEMO / "digits_cnn.onnx",
        str(DEMO / "digits.npz"),
        group,
        samples=6,
        norm_samples=8,
        provider="cpu",
        **options,
    )
    return json.loads(
        json.dumps([[m["measure"], m["value"], m["deviations"]] for m in result["measurements"]])
    )


@pytest.fixture(scope="module")
def alone():
    return figures()


def python(code, *arguments, timeout=120, **environment):
    """Run code in a process of its own, in which ``figures`` is there."""
    start = "import sys; sys.path.insert(0, sys.argv[1]); from test_threads import figures\n"
    return subprocess.run(
        [sys.executable, "-c", start + textwrap.dedent(code), str(Path(__file__).parent)]
        + [str(a) for a in arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": str(ROOT), **{k: str(v) for k, v in environment.items()}},
    )


def test_several_threads_measure_at_once(alone):
    groups = ["C4", "flip-h", "C4", "C8", "C4"]
    single = {g: figures(g) for g in set(groups)}
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        assert list(pool.map(figures, groups)) == [single[g] for g in groups]
    assert single["C4"] == alone


def test_several_threads_fit_at_once_and_leave_the_number_of_threads_as_it_was():
    single = figures(**FIT)

    def threads():
        return sorted(i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas")

    before = threads()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: figures(**FIT), range(8)):
            assert got == single
    assert threads() == before


def test_several_threads_bootstrap_at_once_and_leave_the_filters_of_warnings():
    single = figures(interval="bootstrap")
    before = list(warnings.filters)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: figures(interval="bootstrap"), range(8)):
            assert got == single
    assert warnings.filters == before


def test_an_event_loop_measures_in_its_executor(alone):
    async def main():
        return await asyncio.gather(*(asyncio.to_thread(figures) for _ in range(3)))

    # In a thread of its own: what was tested before may have left a loop running in this one.
    with concurrent.futures.ThreadPoolExecutor(1) as other:
        assert other.submit(lambda: asyncio.run(main())).result() == [alone] * 3


def put_figures(queue):
    try:
        queue.put(figures())
    except GeedError as error:
        queue.put(str(error))


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_a_child_measures_whatever_starts_it(method, alone):
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    child = context.Process(target=put_figures, args=(queue,), daemon=True)
    child.start()
    got = queue.get()
    child.join(60)
    assert (child.exitcode, got) == (0, alone)


@forks
def test_children_forked_while_another_thread_measures(alone):
    done = threading.Event()
    context = multiprocessing.get_context("fork")

    def go_on():
        while not done.is_set():
            figures()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        for pause in np.random.default_rng(0).uniform(0, 0.2, 12):
            time.sleep(pause)
            queue = context.SimpleQueue()
            child = context.Process(target=put_figures, args=(queue,), daemon=True)
            child.start()
            got = queue.get()
            child.join(60)
            assert got == alone or "was forked while another thread" in got
            assert child.exitcode == 0
    finally:
        done.set()
        thread.join()


@forks
def test_a_child_that_keeps_the_locks_of_another_thread_refuses():
    inside, done = threading.Event(), threading.Event()

    def load():
        with whole():
            inside.set()
            done.wait()

    thread = threading.Thread(target=load)
    thread.start()
    inside.wait()
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=put_figures, args=(queue,), daemon=True)
    child.start()
    got = queue.get()
    child.join(60)
    done.set()
    thread.join()
    assert "was forked while another thread" in got
    assert "spawn" in got
    assert figures()  # the parent goes on


@forks
def test_a_fork_from_inside_a_step_is_no_reason_to_refuse():
    with whole():
        pid = os.fork()
        if not pid:
            with whole():
                os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


INTERRUPTED = """
import _thread, threading, time
for delay in map(float, sys.argv[2:]):
    timer = threading.Timer(delay, _thread.interrupt_main)
    begun = time.monotonic()
    try:
        timer.start()
        figures()
        timer.join()
        time.sleep(0.05)
        print("lost")
    except KeyboardInterrupt:
        print("interrupted")
    assert time.monotonic() - begun < 60
    again = figures()
    print("same" if json.dumps(again) == WANTED else again)
"""


def interrupted(alone, *delays, **environment):
    code = INTERRUPTED.replace("WANTED", repr(json.dumps(alone)))
    return python("import json\n" + code, *delays, **environment)


def test_a_run_that_was_interrupted_is_called_again(alone):
    delays = np.random.default_rng(1).uniform(0, 0.2, 25).round(4)
    run = interrupted(alone, *delays)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["interrupted", "same"] * len(delays)


@pytest.mark.slow
@pytest.mark.parametrize("delay", np.arange(0, 1.5, 0.05).round(2))
def test_a_first_run_that_was_interrupted_while_it_loads_is_called_again(alone, delay):
    run = interrupted(alone, delay)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.split() == ["interrupted", "same"]


@pytest.mark.slow
@compiled
@pytest.mark.parametrize("delay", [1, 3, 6])
def test_a_first_run_that_was_interrupted_while_it_compiles_is_called_again(alone, delay, tmp_path):
    run = interrupted(alone, delay, NUMBA_CACHE_DIR=tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["interrupted", "same"]


def test_a_library_is_loaded_to_its_end_before_a_ctrl_c_is_told():
    steps = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        with whole():
            with whole():
                signal.raise_signal(signal.SIGINT)
                steps.append("inner")
            steps.append("outer")
        steps.append("after")
    assert steps == ["inner", "outer"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_picture_is_drawn_to_its_end_before_a_ctrl_c_is_told(monkeypatch):
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    from onnx_geed.report.svg import drawing

    drawn, save = [], Figure.savefig

    def interrupted(*arguments, **named):
        signal.raise_signal(signal.SIGINT)
        save(*arguments, **named)
        drawn.append(True)

    monkeypatch.setattr(Figure, "savefig", interrupted)
    with pytest.raises(KeyboardInterrupt), drawing(1, 1):
        pass
    assert drawn


#: Libraries that do not work again once their loading was cut.
FRAGILE = {"h5py", "matplotlib", "numba", "onnx", "onnxruntime", "scipy"}


def bare_imports(text):
    """Lines in functions that load a fragile library where it could be cut."""
    tree = ast.parse(text)
    safe = {
        id(inner)
        for block in ast.walk(tree)
        if isinstance(block, ast.With) and "whole()" in map(ast.unparse, block.items)
        for inner in ast.walk(block)
    }
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                module = (
                    (node.module or "")
                    if isinstance(node, ast.ImportFrom)
                    else node.names[0].name
                    if isinstance(node, ast.Import)
                    else ""
                )
                if module.partition(".")[0] in FRAGILE and id(node) not in safe:
                    yield node.lineno


def test_functions_load_libraries_to_their_end():
    bare = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in (ROOT / "onnx_geed").rglob("*.py")
        if path.name != "jit.py"  # once they are made; and making is whole
        for line in bare_imports(path.read_text())
    }
    assert not bare
    assert list(bare_imports("def f():\n    import h5py")) == [2]
    assert not list(bare_imports("def f():\n    with whole():\n        import h5py"))


def test_a_handler_of_ones_own_is_left_alone():
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        with whole():
            signal.raise_signal(signal.SIGINT)
            assert heard == [1]
    finally:
        signal.signal(signal.SIGINT, before)


ENDING = """
import threading, time
if sys.argv[2] == "warm":
    figures()
def go_on():
    while True:
        figures()
threading.Thread(target=go_on, daemon=True).start()
time.sleep(float(sys.argv[3]))
"""


def ends(run):
    """Hold a process that left a thread behind to its end: nothing hangs, nothing is told."""
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("delay", [0, 0.05, 0.11, 0.2])
def test_a_process_ends_while_a_daemon_thread_measures(delay):
    ends(python(ENDING, "warm", delay))


@pytest.mark.parametrize("step", ["awaited", "whole"])
def test_a_process_that_ends_waits_for_a_thread_inside_a_library_and_lets_it_begin_no_more(step):
    code = f"""
    import threading, time
    from onnx_geed.whole import {step} as step
    inside = threading.Event()
    def go_on():
        with step():
            inside.set()
            time.sleep(0.3)
            with step():
                print("back", flush=True)
        with step():
            print("again", flush=True)
    threading.Thread(target=go_on, daemon=True).start()
    inside.wait()
    """
    run = python(code)
    assert (run.returncode, run.stdout, run.stderr) == (0, "back\n", "")


@forks
def test_a_forked_child_does_not_wait_for_threads_that_it_has_not():
    code = """
    import os, threading, time
    from onnx_geed.whole import awaited
    inside, done = threading.Event(), threading.Event()
    def go_on():
        with awaited():
            inside.set()
            done.wait()
    threading.Thread(target=go_on, daemon=True).start()
    inside.wait()
    begun = time.monotonic()
    if not (pid := os.fork()):
        sys.exit(7)
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    done.set()
    print(ended, time.monotonic() - begun < 20)
    """
    run = python(code)
    assert (run.returncode, run.stdout, run.stderr) == (0, "7 True\n", "")


def test_a_thread_that_is_no_daemon_goes_on_after_the_main_one(alone):
    code = """
    import json, threading
    figures()
    started = threading.Event()
    def go_on():
        started.set()
        for _ in range(3):
            last = figures()
        print(json.dumps(last))
    threading.Thread(target=go_on).start()
    started.wait()
    """
    run = python(code)
    assert (run.returncode, run.stderr) == (0, "")
    assert json.loads(run.stdout) == alone


@pytest.mark.slow
@pytest.mark.parametrize("delay", np.arange(0, 2, 0.1).round(1))
def test_a_process_ends_while_a_daemon_thread_loads(delay):
    ends(python(ENDING, "cold", delay))


def test_hdf5_asks_for_python_no_more_where_it_is_loaded_while_the_process_ends():
    code = """
    import threading, time
    from onnx_geed.whole import whole
    inside = threading.Event()
    def go_on():
        with whole():
            inside.set()
            time.sleep(0.3)
            import h5py
    threading.Thread(target=go_on, daemon=True).start()
    inside.wait()
    """
    ends(python(code))


@pytest.mark.slow
@compiled
def test_four_first_runs_at_once_compile_at_once(alone, tmp_path):
    code = "import json; print(json.dumps(figures(sys.argv[2])))"
    groups = ["C4", "C4", "flip-h", "C8"]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        runs = list(
            pool.map(
                lambda g: python(code, g, timeout=600, NUMBA_CACHE_DIR=tmp_path),
                groups,
            )
        )
    assert [run.stderr for run in runs] == [""] * 4
    assert [json.loads(run.stdout) for run in runs] == [figures(g) for g in groups]
    after = python(code, "C4", NUMBA_CACHE_DIR=tmp_path)
    assert json.loads(after.stdout) == alone
    assert not list(tmp_path.rglob("*.tmp.*"))


@compiled
def test_several_threads_compile_at_once(tmp_path):
    code = """
    import json, threading
    import numpy as np, onnx_geed
    got = []
    def work(dtype):
        got.append(onnx_geed.normaliser("latent-l2", np.asarray([[0, 3], [4, 0]], dtype)))
    threads = [threading.Thread(target=work, args=(d,)) for d in ("f4", "f8", "i8", "f4", "f8")]
    [t.start() for t in threads]
    [t.join() for t in threads]
    print(got)
    """
    run = python(code, NUMBA_CACHE_DIR=tmp_path)
    assert (run.stdout, run.stderr) == ("[5.0, 5.0, 5.0, 5.0, 5.0]\n", "")


@compiled
class TestMachineCode:
    """Files of machine code."""

    def files(self, folder, stamp=(1.0, 10)):
        from onnx_geed.machine_code import _Files

        return _Files(str(folder), "kernels.f-1.py311", stamp)

    def test_two_processes_that_save_at_once_keep_both(self, tmp_path):
        # Every order in which two processes can look for a name and write.
        for turn, (one, two) in enumerate(itertools.permutations(("float32", "float64"))):
            folder = tmp_path / str(turn)
            folder.mkdir()
            first, second = self.files(folder), self.files(folder)
            write = first._save_data

            def late(name, data, write=write, second=second, two=two):
                second.save(two, f"code for {two}")
                write(name, data)

            first._save_data = late
            first.save(one, f"code for {one}")
            for key in (one, two):
                assert self.files(folder).load(key) == f"code for {key}"

    def test_a_file_that_is_cut_or_junk_is_not_read(self, tmp_path):
        kept = self.files(tmp_path)
        kept.save("float32", list(range(1000)))
        (file,) = tmp_path.iterdir()
        whole_file = file.read_bytes()
        for content in (b"", b"junk", whole_file[:-1], whole_file[:40], whole_file[::-1]):
            file.write_bytes(content)
            assert kept.load("float32") is None
        kept.save("float32", "new")
        assert kept.load("float32") == "new"

    def test_code_of_a_former_source_is_removed_and_not_read(self, tmp_path):
        (tmp_path / "kernels.f-1.py311.1.nbc").touch()
        (tmp_path / "kernels.f-10.py311.1.nbc").touch()
        self.files(tmp_path).save("float32", "old")
        newer = self.files(tmp_path, (2.0, 11))
        assert newer.load("float32") is None
        newer.save("float32", "new")
        assert len(list(tmp_path.iterdir())) == 2
        assert (tmp_path / "kernels.f-10.py311.1.nbc").exists()

    def test_a_folder_that_is_full_does_no_harm(self, tmp_path):
        kept = self.files(tmp_path / "none")
        kept.save("float32", "new")
        assert kept.load("float32") is None


def test_a_pool_that_the_end_of_a_process_has_closed_leaves_work_to_who_asks(monkeypatch):
    with Threads(2) as pool:
        monkeypatch.setattr("concurrent.futures.thread._shutdown", True)
        pool._shutdown = True  # as one of its own threads does then
        assert list(pool.map(lambda n: 2 * n, range(3))) == [0, 2, 4]
    monkeypatch.undo()
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(print)


def by_thread(pool, items, together=1):
    """Who does each item, so many side by side at first."""
    done, barrier = {}, threading.Barrier(together)

    def work(item):
        if item < together:
            barrier.wait(60)
        assert item not in done
        done[item] = threading.get_ident()

    pool.submit(with_idle, work, range(items)).result()
    return done


@pytest.mark.parametrize(("count", "helping"), [(1, 1), (2, 2), (4, 4), (4, 3)])
def test_idle_threads_of_a_pool_take_part(count, helping):
    with Threads(count) as pool:
        go = threading.Event()
        blocked = [pool.submit(go.wait, 60) for _ in range(count - helping)]
        done = by_thread(pool, 50, helping)
        assert not go.is_set()
        go.set()
        assert all(future.result() for future in blocked)
        assert sorted(done) == list(range(50))
        assert len(set(done.values())) <= helping
        assert len({done[i] for i in range(helping)}) == helping
    assert pool._idle == count  # once its threads have told that they are done


def test_outside_a_pool_items_are_done_in_order_by_who_asks():
    done = []
    with_idle(lambda item: done.append((item, threading.get_ident())), range(5))
    assert done == [(item, threading.get_ident()) for item in range(5)]


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize("kind", ["error", "interrupt"])
def test_a_pool_that_ends_in_the_midst_waits_for_nobody_for_ever(workers, kind):
    """What is cancelled then is done with, while the pool holds what submitting waits for."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def job(number):
        if number == 2 * workers and kind == "error":
            raise ValueError("job")
        with_idle(lambda item: sum(range(2000)), range(30))
        return number

    def run():
        for _ in range(20):
            results = in_order(range(8 * workers), job, workers)
            if kind == "error":
                with pytest.raises(ValueError, match="job"):
                    list(results)
            else:
                next(results)
                results.close()  # as Ctrl-C does
        ended.set()

    ended = threading.Event()
    try:
        threading.Thread(target=run, daemon=True).start()
        assert ended.wait(60)
    finally:
        sys.setswitchinterval(interval)


def test_of_several_items_that_fail_the_first_is_told():
    barrier = threading.Barrier(3)

    def work(item):
        barrier.wait(60)
        time.sleep(0.02 * (2 - item))
        raise ValueError(f"item {item}")

    with Threads(3) as pool, pytest.raises(ValueError, match="item 0"):
        pool.submit(with_idle, work, range(3)).result()


@pytest.mark.parametrize("in_pool", [False, True])
def test_an_item_that_failed_holds_nothing_that_it_worked_on(in_pool):
    class Worked:
        pass

    made = []

    def work(item):
        worked = Worked()
        made.append(weakref.ref(worked))
        raise ValueError("failed")

    gc.disable()
    try:
        with Threads(1) as pool, pytest.raises(ValueError, match="failed"):
            pool.submit(with_idle, work, range(2)).result() if in_pool else with_idle(work, [0])
        assert [one() for one in made] == [None]
    finally:
        gc.enable()


@pytest.mark.parametrize("failing", [0, 1])
def test_an_item_that_fails_ends_all(failing):
    done, barrier = [], threading.Barrier(2)

    def work(item):
        done.append(item)
        if item < 2:
            barrier.wait(60)
        if item == failing:
            raise ValueError(f"item {item}")
        time.sleep(0.002)

    with Threads(2) as pool:
        with pytest.raises(ValueError, match=f"item {failing}"):
            pool.submit(with_idle, work, range(1000)).result()
        assert len(done) < 1000
        assert pool.submit(int, "3").result() == 3
