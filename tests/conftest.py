"""What tests of several rooms share: the one real broker of the session, and names nobody else uses.

Where the tests run in several processes (`make test`) a module stays in one of them, with its fixtures; those that take
longest begin, so that no process is left alone with one at the end.

The broker comes from the ladder of muse_stream/testing/kafka_broker.py, and starts when the first test asks for it and
never otherwise; all processes use it at the same time (tests/shared_broker.py). Tests keep apart by names of their own
(topics, groups, transactional ids, clients), so that they run in any order and beside each other on one broker. A
module that breaks the broker, or looks at what is everybody's (open transactions in `__consumer_offsets`), is marked
`own_broker` and has one to itself.
"""

import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from hypothesis import HealthCheck, settings

from muse_stream.telemetry.logs import package_loggers
from muse_stream.testing.kafka_broker import Broker, broker
from muse_stream.testing.kafka_jars import missing_tools
from muse_stream.testing.local_kafka import LocalKafka
from muse_stream.testing.redis_server import Redis, redis_server
from muse_stream.testing.registry_server import LocalRegistry, registry_server
from tests import failure_report
from tests.patience import until
from tests.shared_broker import BrokerOfTheRun, ask, delete_topics, meet

Unique = Callable[[str], str]
MakeTopic = Callable[..., str]
Eventually = Callable[..., None]

# a busy machine may take any time for one example, and for making it up
SLOW_IS_WELL: Any = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("default", max_examples=50, derandomize=True, **SLOW_IS_WELL)
"""The same examples in every run: a gate says what a change does, and nothing that chance has found today."""
settings.load_profile("default")
settings.register_profile("hunt", max_examples=1_000, **SLOW_IS_WELL)
"""`--hypothesis-profile=hunt`: twenty times as many, and others in every run."""
settings.register_profile("long", max_examples=30_000, **SLOW_IS_WELL)
"""`--hypothesis-profile=long`: 600 times as many examples where a test has them by profile."""
LONG = (
    "tests/integration/test_security.py",
    "tests/models/test_recipes.py",
    "tests/integration/test_silence.py",
    "tests/deploy/test_install.py",
    "tests/calibrate/test_refresh.py",
    "tests/cli/test_promote_steps.py",
    "tests/commands/test_dlq_faults.py",
    "tests/deploy/test_wheel.py",
    "tests/integration/test_dead_letters.py",
    "tests/demo/test_runner.py",
    "tests/test_readme.py",
    "tests/worker/test_recovery.py",
    "tests/worker/test_first_offsets.py",
    "tests/avro/test_hostile.py",
    "tests/runtime/test_supervisor.py",
    "tests/cli/test_doctor.py",
    "tests/worker/test_unwritable_partitions.py",
    "tests/cli/test_difference.py",
    "tests/worker/test_loop_topics.py",
    "tests/worker/test_quotas.py",
    "tests/calibrate/test_role.py",
    "tests/integration/test_oauth.py",
    "tests/deploy/test_alerts.py",
    "tests/cli/test_watch_promotions.py",
    "tests/cli/test_promote.py",
    "tests/integration/test_faults.py",
    "tests/integration/test_offsets.py",
    "tests/integration/test_schema_registry.py",
    "tests/integration/test_redis_faults.py",
    "tests/cli/test_signals.py",
    "tests/cli/test_commands.py",
    "tests/cli/test_hunt.py",
    "tests/control/test_redis_store.py",
    "tests/integration/test_generations.py",
    "tests/avro/test_java.py",
    "tests/config/test_remote.py",
    "tests/integration/",
    "tests/commands/",
    "tests/test_score_readers.py",
    "tests/verify/",
    "tests/test_architecture.py",
    "tests/test_documents.py",
    "tests/test_environment.py",
    "tests/worker/",
    "tests/kafka/",
    "tests/testing/",
    "tests/deploy/",
    "tests/calibrate/",
    "tests/cli/",
    "tests/demo/",
)
"""Files that take longest, in the order in which they begin: what is short fills the gaps at the end."""

TESTS = Path(__file__).parent
BROKERS_LOG = "the broker's log"
_GIVEN: list[str] = []
"""The names that this module was given."""
_SAID = pytest.StashKey[list[str]]()
_BROKER = pytest.StashKey[BrokerOfTheRun]()
_ADDRESS = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    # a shell starts background jobs with SIGINT and SIGQUIT ignored, and children inherit that: none could be tested
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGQUIT) == signal.SIG_IGN:
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    if hasattr(config, "workerinput"):
        # Linux shares the processor between sessions first (autogroup, sched(7)). In one session with two busy loops
        # our threads, which run briefly and often, were starved: 51 tests in 160 s. In sessions of their own: 288 in
        # 180 s
        os.setsid()
    config.stash[_SAID] = []
    config.stash[_BROKER] = BrokerOfTheRun()
    config.add_cleanup(config.stash[_BROKER].close)
    # the tests start hundreds of processes: let them find compiled modules, which halves what each start costs
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # brokers that live for minutes: the JVM's second compiler would take as much of the machine as all they do
    os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")
    # threads of the training libraries wait for each other by spinning, which a machine with other work pays for
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    gc.set_threshold(50_000)  # modules and tests are no garbage, and Python would look through them a thousand times
    collect_in_another_order(config, getattr(config, "workerinput", {}))


def collect_in_another_order(config: pytest.Config, worker: dict[str, Any]) -> None:
    """Let each process of pytest-xdist collect all files from another one on: what one compiles, the others find.

    In a fresh clone each would compile all tests, which is 10 s of CPU, at the same time.
    """
    if worker and [Path(arg).resolve() for arg in config.args] == [TESTS]:
        files = sorted(map(str, TESTS.rglob("test_*.py")))
        number, count = int(worker["workerid"].removeprefix("gw")), int(worker["workercount"])
        first = len(files) * number // count
        config.args[:] = files[first:] + files[:first]


def pytest_collection_finish() -> None:
    """Let no search for garbage walk through what is there until the end."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, None, None]:
    """Mark what needs the broker, so that `make test-unit` can leave it out: nobody has to remember to."""
    for item in items:
        if "kafka" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.broker)
    items.sort(key=lambda item: str(item.path))  # in all processes the same, before others shuffle it
    yield
    if hasattr(config, "workerinput"):  # a worker of pytest-xdist; the order is random otherwise
        items.sort(key=lambda item: next((n for n, path in enumerate(LONG) if item.nodeid.startswith(path)), len(LONG)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the ends of the logs of what a failed test ran: a run of CI leaves nothing but its output."""
    report = yield
    if report.failed:
        met = "kafka" in getattr(item, "fixturenames", ())
        report.sections += [one for one in failure_report.sections() if met or BROKERS_LOG not in one[0]]
    if call.when == "teardown":
        failure_report.forget()
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # a worker of pytest-xdist: the summary is another process's
        session.config.workeroutput["said"] = session.config.stash[_SAID]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist, before it begins, where the run's broker is asked for."""
    stash = node.config.stash
    if not stash.get(_ADDRESS, ""):
        stash[_ADDRESS] = stash[_BROKER].serve()
    node.workerinput["broker"] = stash[_ADDRESS]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Hear what a worker of pytest-xdist had to say."""
    node.config.stash[_SAID] += getattr(node, "workeroutput", {}).get("said", [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in [*config.stash[_BROKER].said, *config.stash[_SAID]]:
        terminalreporter.write_line(line)


@pytest.fixture(scope="module")
def kafka(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Iterator[Broker]:
    """The run's real broker (`kafka.bootstrap`), started on first use; the summary says from which rung.

    In a module that is marked `own_broker`, one that only this module uses: it may be killed, paused and restarted.
    """
    ended = Event()
    with ExitStack() as stack:
        stack.callback(ended.set)
        if request.node.get_closest_marker("own_broker"):
            running = stack.enter_context(broker(say=lambda _line: None))
            log = running.log if isinstance(running, LocalKafka) else None
        else:
            found = ask(address) if (address := _address(pytestconfig)) else pytestconfig.stash[_BROKER].find()
            running, log = meet(found), Path(found["log"]) if found.get("log") else None
        if log:
            failure_report.on_failure(BROKERS_LOG, partial(failure_report.tail, log), over=ended.is_set)
        yield running
        if not request.node.get_closest_marker("own_broker"):
            delete_topics(running.bootstrap, _GIVEN)
        _GIVEN.clear()


def _address(config: pytest.Config) -> str:
    return str(getattr(config, "workerinput", {}).get("broker", ""))


@pytest.fixture(scope="session")
def redis(pytestconfig: pytest.Config) -> Iterator[Redis]:
    """The session's Redis (`redis.url`), started on first use; tests keep apart by prefixes, and break their own."""
    with redis_server(say=pytestconfig.stash[_SAID].append) as running:
        yield running


@pytest.fixture(scope="session")
def schema_registry(pytestconfig: pytest.Config) -> Iterator[LocalRegistry]:
    """The session's Schema Registry, started on first use: 4 s of CPU. Tests keep apart by subjects.

    It is paused and resumed by tests, which therefore stand in one module.
    """
    if lacking := missing_tools():
        pytest.skip(f"no Schema Registry: {lacking}")
    with registry_server(say=pytestconfig.stash[_SAID].append) as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Copies of generations go where the tests clear up, in this process and in those that it starts."""
    folder, before = tmp_path_factory.mktemp("cache"), os.environ.get("MUSE_CACHE_DIR")
    os.environ["MUSE_CACHE_DIR"] = str(folder)
    yield folder
    if before is None:
        os.environ.pop("MUSE_CACHE_DIR", None)
    else:
        os.environ["MUSE_CACHE_DIR"] = before


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Begin with the package's loggers as they are made: what one test configures, no other meets."""
    for ours in package_loggers():
        ours.__class__, ours.disabled = logging.Logger, False
        ours.handlers[:], ours.propagate = [], True
        ours.setLevel(logging.NOTSET)
    yield


@pytest.fixture(scope="session")
def unique() -> Unique:
    """`unique("group")` -> a name that no other test has: "group-1f0c...". Legal for topics, groups and ids."""

    def name(prefix: str) -> str:
        _GIVEN.append(f"{prefix}-{uuid4().hex[:12]}")
        return _GIVEN[-1]

    return name


@pytest.fixture(scope="session")
def eventually() -> Eventually:
    """`eventually(condition, 10.0)` returns when `condition()` is true, and fails the test after `PATIENCE` x 10 s."""

    def wait(condition: Callable[[], object], within_s: float = 10.0) -> None:
        until(condition, within_s)

    return wait


@pytest.fixture(scope="module")
def make_topic(kafka: Broker, unique: Unique) -> MakeTopic:
    """`make_topic("events", partitions=4, **{"max.message.bytes": "1000"})` creates a topic, returns its unique name.

    `name=` asks for an exact name instead.
    """
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})

    def there(topic: str) -> bool:
        return admin.list_topics(topic, timeout=60).topics[topic].error is None

    def make(prefix: str = "topic", *, partitions: int = 1, name: str | None = None, **config: str) -> str:
        topic = name or unique(prefix)
        created = admin.create_topics([NewTopic(topic, partitions, 1, config=config)], operation_timeout=60)
        created[topic].result(timeout=60)
        until(lambda: there(topic), 20, lambda: f"{topic} is made and not listed")  # of this one alone: less to list
        return topic

    return make
