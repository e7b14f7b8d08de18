"""`resume`: let the events of paused tenants be scored again, as the next generation."""

import typer

from muse_stream.cli.options import DryRun, Json, Message, SignKey, Yes
from muse_stream.cli.pause import FromStore, Tenants, change


def resume(
    context: typer.Context,
    tenants: Tenants,
    store: FromStore = None,
    message: Message = "",
    _sign_key: SignKey = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Let a tenant that was paused go on: workers read its events from where they stopped.

    Shows what waits. Where events were removed by retention meanwhile, the tenant stays paused by the workers until
    somebody says where to go on (`muse-stream offsets set`): nothing is skipped silently.

    Examples:

    ```
    muse-stream resume acme --store /var/lib/muse/store --message "mended, ticket 1234"
    muse-stream resume acme --store redis://redis:6379 --dry-run
    ```

    Exit codes: 0 done, or not paused; 1 the answer was no, or somebody else published in between; 2 refused.
    """
    change(context.obj, tenants, store, message, paused=False, dry_run=dry_run, yes=yes, as_json=as_json)
