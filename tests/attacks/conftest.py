"""At the end of `pytest tests/attacks`: a table of all attacks, and what came of each."""

WIDTH = 110


def pytest_terminal_summary(terminalreporter):
    rows = [
        (report.nodeid.partition("::")[0].rpartition("test_")[2].removesuffix(".py"), outcome, *entry)
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        for name, entry in getattr(report, "user_properties", [])
        if name == "attack"
    ]
    if not rows:
        return
    terminalreporter.section("attacks")
    for kind, outcome, name, status, line, cpu_s, peak_bytes in sorted(rows):
        about = f"{kind:<12} {'' if outcome == 'passed' else 'FAILED '}{name}: "
        numbers = f"{status} {cpu_s:5.2f} s {peak_bytes / 1e6:4.0f} MB"
        terminalreporter.write_line(f"{numbers}  {about}{line}"[: WIDTH + len(numbers)])
    refused = sum(row[3] != 0 for row in rows)
    terminalreporter.write_line(
        f"{len(rows)} attacks: {refused} refused in one line, {len(rows) - refused} answered rightly; "
        f"{sum(row[1] == 'failed' for row in rows)} failed; {sum(row[5] for row in rows):.0f} s of CPU, "
        f"at most {max(row[6] for row in rows) / 1e6:.0f} MB"
    )
