"""`status` of workers that run: what they serve, what they refuse, what waits; gone when they have drained."""

from collections.abc import Callable
from pathlib import Path

from muse_stream.commands.status import Status, TenantLine, look
from muse_stream.control import DirectoryStore, rollback
from muse_stream.testing.kafka_broker import Broker
from tests.integration.bank import Bank
from tests.integration.fleet import Fleet, publish
from tests.patience import until


def tenant(found: Status, name: str) -> TenantLine:
    return next(one for one in found.tenants if one.tenant == name)


def test_what_workers_tell_of_themselves(bank: Bank, kafka: Broker, tmp_path: Path) -> None:
    """They agree on a generation, count what they refuse, go on where one is broken, and are gone when they drain."""
    folder = tmp_path / "store"
    publish(bank.document(), folder)
    store = DirectoryStore(folder)

    def until_told(holds: Callable[[Status], object], what: str) -> Status:
        """Return the very status that holds: the next one may be another."""
        looks: list[Status] = []

        def told() -> bool:
            looks[:] = [look(store)]
            return bool(holds(looks[0]))

        until(told, 60, lambda: f"{what}: {looks[0]}")
        return looks[0]

    with Fleet(kafka.bootstrap, folder, "live", bank.name, tmp_path / "live.log") as live:
        bank.produce(kafka.bootstrap, bank.events(500))
        bank.produce(kafka.bootstrap, [("t0", 0, b"no event")])
        found = until_told(lambda one: not one.findings and one.convergence == "2 of 2 workers on 1", "all is well")
        until(lambda: {one.pid for one in found.workers} == set(live.slots().values()), 20, lambda: str(live.slots()))
        assert all(one.memory_bytes > 10_000_000 for one in found.workers)
        until_told(lambda one: sum(sum(each.dead_letters.values()) for each in one.tenants) == 1, "a dead letter")
        until_told(lambda one: all((each.lag, each.age_s) == (0, 0.0) for each in one.tenants), "nothing waits")

        spoilt = publish(bank.document(live="retrained", shadow=("plain",)), folder, spoil="retrained.onnx")
        until_told(
            lambda one: (
                any("retrained.onnx" in each.text for each in one.findings)
                and one.convergence == f"0 of 2 workers on {spoilt}; 2 on 1"
            ),
            "it is refused",
        )
        rollback(store)
        until_told(lambda one: not one.findings and one.converged == 2, "all is well again")

        before = live.kill(0)
        until_told(lambda one: before not in {each.pid for each in one.workers} and one.converged == 2, "replaced")
        assert live.stop() == 0
    assert look(store).workers == (), "who drains takes its heartbeat away"
