"""`streamrec status`: pipeline health, for people and for scripts."""

from __future__ import annotations

from streamrec.cli.addresses import resolved_settings
from streamrec.cli.output import DataTable, Json, console, print_json
from streamrec.monitor.groups import GroupState
from streamrec.monitor.look import look_once
from streamrec.monitor.words import duration


def status(as_json: Json = False) -> int:
    """Check pipeline health, and print each cause and warning with a next step.

    Works without the monitor, by the same rule as the monitor's /readyz, dashboard and alerts. The exit code is 0 if
    the pipeline is healthy, also with warnings; otherwise it is 1.

    Examples: streamrec status; streamrec status --json; until streamrec status; do sleep 1; done
    """
    seen = look_once(resolved_settings())
    causes = seen.causes
    if as_json:
        groups = [
            {"group": group.name, "members": group.members, "lag": group.lag, "behind_s": group.behind_s}
            for group in seen.groups
        ]
        lists = seen.lists and {"facts": seen.lists.facts, "census": seen.lists.census}
        others = {"dead_letters": seen.refused, "lists": lists, "restarts": seen.restarts}
        print_json(seen.verdict | {"groups": groups} | others)
        return int(bool(causes))
    output = console()
    output.print("not healthy" if causes else "healthy", style="bold red" if causes else "bold green", highlight=False)
    for found in [*causes, *seen.warnings]:
        output.print(f"- {'' if found in causes else 'warning: '}{found.text}")
        output.print(f"  {found.next_step}", style="dim")
    if seen.refused:
        counts = ", ".join(f"{count:,} of {topic}" for topic, count in seen.refused.items())
        output.print(f"dead letters: {'' if seen.refused_are_all else 'at least '}{counts} (streamrec dlq list)")
    output.print(group_table(seen.groups))
    if seen.restarts:
        died = ", ".join(f"{process} {count}" for process, count in seen.restarts.items())
        output.print(f"restarts after a crash: {died}")
    return int(bool(causes))


def group_table(groups: list[GroupState]) -> DataTable:
    """Return the lag of each group as a table."""
    table = DataTable("group")
    for name in ("members", "lag", "behind", "lost"):
        table.add_column(name, justify="right")
    for group in groups:
        table.add_row(group.name, str(group.members), f"{group.lag:,}", duration(group.behind_s), f"{group.lost:,}")
    return table
