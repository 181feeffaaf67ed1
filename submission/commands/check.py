"""`check`: what can be known of a submission before its tag is pushed."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from submission.commands import options
from submission.runtime.limits import Limit, parse_bytes
from submission.server.preflight import repository_checks
from submission.server.resources import resource_checks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    options.add_bindings(parser)
    add("--tag", help="the tag to be pushed; default: what is checked out (HEAD)")
    add("--remote", help="where to; default: origin, if there is one")
    options.add_data(parser)
    add("--config", type=Path, default=Path("public.gin"), help="gin file")
    add("--memory", default="8g", help="the server's (assumed: %(default)s)")
    add("--hours", type=float, default=8.0, help="the server's limit (assumed: %(default)s)")
    add("--json", action="store_true", help="print the list as JSON")


def run(args: argparse.Namespace) -> None:
    """Prints the list; ends with exit code 1 if anything fails.

    Raises:
        UserError: there is no git repository, tag, remote or data set of that name to check.
    """
    limit = Limit(parse_bytes(args.memory), "--memory")
    asked = (args.config, args.bindings, args.data, args.dataset, limit, args.hours)
    checks = [*repository_checks(args.tag, args.remote), *resource_checks(*asked)]
    if args.json:
        print(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        for check in checks:
            remedy = check.remedy and f"\n    {check.remedy}"
            print(f"{'✓' if check.passed else '✗'} {check.name}: {check.detail}{remedy}")
    if failed := sum(not check.passed for check in checks):
        sys.exit(f"\n{failed} of {len(checks)} checks failed")
