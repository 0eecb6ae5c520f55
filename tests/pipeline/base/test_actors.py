"""Crews on Ray, on a stand-in for it; on Ray itself they are tested with captures, see tests/pipeline/cache/test_workers.py."""

import pickle
import socket
import sys
from functools import partial
from types import SimpleNamespace

import pytest

import crews
from pipeline.base.crew import Workers, open_crew
from pipeline.base.errors import InputError


class RayError(Exception):
    pass


class Ray:
    """As much of Ray as a crew asks for. Its actors do tasks by themselves; of `mortal` ones they die once each.

    log: what was done, in order. resources: of each node of the cluster.
    """

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self, *nodes: dict[str, float], mortal: tuple[str, ...] = (), prints: bool = True):
        self.resources, self.mortal, self.log = nodes, set(mortal), []
        self.printed: list[str] = []
        self._private = SimpleNamespace(worker=SimpleNamespace())
        if prints:
            self._private.worker.print_to_stdstream = self.printed.append

    def is_initialized(self):
        return False

    def init(self, address, **settings):
        self.log.append(f"init {address}")

    def shutdown(self):
        self.log.append("shutdown")

    def nodes(self):
        return [{"Resources": node, "Alive": True} for node in self.resources]

    def cluster_resources(self):
        return {name: sum(node.get(name, 0) for node in self.resources) for node in self.resources for name in node}

    def remote(self, kind):
        return self

    def options(self, **settings):
        self.settings = settings
        return SimpleNamespace(remote=self.actor)

    def actor(self, post):
        def started():
            return None

        def done(task):
            if task in self.mortal:
                self.mortal.remove(task)
                getattr(self._private.worker, "print_to_stdstream", print)("a page")
                raise RayError("The actor died.\nAnd a page.")
            return f"{task} done"

        self.log.append("hired")
        reference = lambda function: SimpleNamespace(remote=lambda *given: Reference(function, given))  # noqa: E731
        return SimpleNamespace(start=reference(started), do=reference(done))

    def wait(self, references, timeout, num_returns=1):
        return references[:num_returns], references[num_returns:]

    def get(self, reference):
        return pickle.dumps((pickle.dumps(reference.function(*reference.given)), None, []))

    def kill(self, actor):
        self.log.append("killed")


class Reference:
    def __init__(self, function, given):
        self.function, self.given = function, given


@pytest.fixture
def on(monkeypatch, tmp_path):
    """Opens a crew on such a Ray."""

    def opened(ray: Ray, **workers):
        monkeypatch.setitem(sys.modules, "ray", ray)
        return open_crew(Workers("ray", **workers), partial(crews.begin, tmp_path), depth=2)

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return opened


def test_an_actor_that_dies_is_replaced_and_ray_is_left_as_it_was(on, caplog):
    ray, tasks = Ray({"CPU": 2.0}, mortal=("b", "e")), list("abcdefg")
    said = ray._private.worker.print_to_stdstream
    with on(ray) as crew:
        assert dict(crew.run(tasks)) == {task: f"{task} done" for task in tasks}
    assert ray.log[:3] == ["init local", "hired", "hired"]
    assert ray.log.count("hired") == ray.log.count("killed") == 2 + 2  # who died, and who was left at the end
    assert ray.log[-1] == "shutdown"
    assert [text for text in caplog.messages if "died: The actor died.; what it had in hand" in text]
    assert ray.printed == []
    assert ray._private.worker.print_to_stdstream == said
    with on(Ray({"CPU": 1.0}, prints=False)) as crew:  # a Ray of another version
        assert dict(crew.run("x")) == {"x": "x done"}


@pytest.mark.parametrize(
    ("workers", "gpus", "count"),
    [
        ({}, 1, 2),
        ({"device": "cuda", "gpus": 0.5}, 0.5, 4),
        ({"device": "cpu"}, 0, 6),  # as in a sweep whose own machine has no GPU
        ({"device": "cpu", "gpus": 1.0}, 0, 6),
        ({"device": "cuda:1"}, 0, 1),
        ({"device": "cuda:1", "count": 3}, 0, 3),
    ],
)
def test_an_actor_takes_a_gpu_where_it_may_use_any(on, workers, gpus, count):
    ray = Ray({"CPU": 2.0}, {"CPU": 4.0, "GPU": 2.0})
    with on(ray, **workers) as crew:
        assert ray.settings["num_gpus"] == gpus
        assert crew._agency.wanted() == count


def test_an_address_where_nobody_answers_is_one_message_at_once(on, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        ray = Ray({"CPU": 1.0})
        with on(ray, address=address):
            assert ray.log == [f"init {address}"]
    ray = Ray()
    said = ray._private.worker.print_to_stdstream
    with pytest.raises(InputError, match=f"--address {address}: expected a Ray cluster, found .*refused. Start one"):
        on(ray, address=address).__enter__()
    assert ray.log == []
    assert ray._private.worker.print_to_stdstream == said


def test_a_machine_that_is_too_small_for_an_actor_ends_its_cluster(on):
    ray = Ray({"CPU": 2.0})
    with pytest.raises(InputError, match="--cpus-per-worker: expected 2 at most, which this machine has, found 3"):
        on(ray, cpus=3.0).__enter__()
    assert ray.log == ["init local", "shutdown"]


def test_without_ray_it_says_what_to_install(on):
    with pytest.raises(InputError, match=r"--on ray: expected the library ray, found none\. .*pip install .softcache\[ray\]"):
        on(None).__enter__()
