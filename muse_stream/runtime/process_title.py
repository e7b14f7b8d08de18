"""What `ps` shows of the processes of a run (docs/worker-processes.md): the supervisor, and who serves which slot."""

import setproctitle


def show(kind: str, role: str, lane: str, name: str, slot: int | None = None) -> None:
    """Give this process its title; a slot's has its number."""
    setproctitle.setproctitle(
        " ".join(["muse-stream:", kind, role, lane, name, *([] if slot is None else [f"slot {slot}"])])
    )
