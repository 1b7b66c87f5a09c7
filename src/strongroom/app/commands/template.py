"""`strongroom template`: render a template offline, or list what templates may call.

Exit status: 0 rendered, 2 refused; the refusal says line and column.
"""

import argparse
import base64
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from strongroom.model.errors import Invalid

if TYPE_CHECKING:
    from strongroom.sync.render import Rendered

EXAMPLE: Final = """example:
  strongroom template render greeting.tpl --set user=ada
  strongroom template render externalsecret.yaml --data values.yaml
  strongroom template render externalsecret.yaml --data secret.yaml --key config.json
  strongroom template functions

exit status: 0 done, 2 refused
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its verbs."""
    parser = commands.add_parser(
        "template",
        help="render a template or a manifest's target.template offline",
        epilog=EXAMPLE,
    )
    verbs = parser.add_subparsers(dest="template_verb", metavar="VERB", required=True)
    render = verbs.add_parser(
        "render",
        help="print what a template gives for values",
        description="FILE is a template, or YAML with an ExternalSecret, ClusterExternalSecret,"
        " PushSecret or ClusterPushSecret and the ConfigMaps and Secrets its templateFrom names.",
        epilog=EXAMPLE,
    )
    render.add_argument("file", type=Path, metavar="FILE", help="the template; - is standard input")
    render.add_argument(
        "--data", type=Path, action="append", default=[], metavar="FILE",
        help="values: a YAML or JSON map, or a Secret manifest; may be repeated",
    )  # fmt: skip
    render.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="one value; may be repeated"
    )
    render.add_argument(
        "--set-file", action="append", default=[], metavar="KEY=PATH", help="a file's bytes"
    )
    render.add_argument("--key", help="of a manifest: print this key of the data alone, as it is")
    render.add_argument(
        "--format",
        choices=("text", "json"),
        default="text",
        help="json: the result, or the refusal, as one object",
    )
    render.set_defaults(run=run_render)
    functions = verbs.add_parser(
        "functions",
        help="list the functions, with their Go signatures",
        epilog=EXAMPLE,
    )
    functions.add_argument(
        "--format", choices=("text", "json"), default="text", help="how the list is shown"
    )
    functions.set_defaults(run=run_functions)


def run_render(args: argparse.Namespace) -> int:
    """Render and print."""
    from strongroom.app.template_files import pairs, read_manifests, read_text, read_values
    from strongroom.template import engine

    values: dict[str, bytes] = {}
    for path in args.data:
        values |= read_values(path)
    values |= pairs(args.set, files=False) | pairs(args.set_file, files=True)
    text = sys.stdin.buffer.read() if str(args.file) == "-" else read_text(args.file)
    manifests = read_manifests(args.file, text)
    if manifests is None:
        made = engine.compile(text, args.file.name).render(values)
        if args.format == "json":
            print(json.dumps({"output": base64.b64encode(made).decode()}))
        else:
            _write(made)
        return 0
    from strongroom.model.clock import SystemClock
    from strongroom.sync.render import render_template
    from strongroom.sync.template_spec import parse_template
    from strongroom.sync.templates import GoTemplates

    shown = []
    for name, spec in manifests.templates:
        template = parse_template(spec)
        if template is None:
            raise Invalid("no-template", f"{name} has no template")
        rendered = render_template(template, values, manifests.inputs, GoTemplates(SystemClock()))
        shown.append((name, rendered))
    return _print(shown, args)


def _print(shown: "list[tuple[str, Rendered]]", args: argparse.Namespace) -> int:
    if args.key is not None:
        found = [rendered.data[args.key] for _, rendered in shown if args.key in rendered.data]
        if not found:
            raise Invalid("no-key", f"no template gives the key {args.key}")
        _write(found[0])
    elif args.format == "json":
        print(json.dumps([_as_json(name, rendered) for name, rendered in shown], indent=2))
    else:
        from strongroom.app.template_files import readable

        print(readable([_as_yaml(rendered) for _, rendered in shown]), end="")
    return 0


def _as_json(name: str, rendered: "Rendered") -> dict[str, Any]:
    data = {key: base64.b64encode(value).decode() for key, value in rendered.data.items()}
    return {"object": name, "data": data, **_metadata(rendered)}


def _as_yaml(rendered: "Rendered") -> dict[str, Any]:
    """As a person reads it: text is text, bytes are `!!binary`."""
    return {"data": {key: _readable(each) for key, each in rendered.data.items()}} | {
        key: value for key, value in _metadata(rendered).items() if value
    }


def _metadata(rendered: "Rendered") -> Mapping[str, Any]:
    return {
        "labels": rendered.labels,
        "annotations": rendered.annotations,
        "type": rendered.type,
        "finalizers": list(rendered.finalizers),
        "paths": rendered.paths,
    }


def _readable(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _write(content: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def run_functions(args: argparse.Namespace) -> int:
    """List the functions by group."""
    from strongroom.template.functions import TABLES

    groups = {table.group: sorted(table, key=lambda each: each.name) for table in TABLES}
    if args.format == "json":
        found = [
            {"name": each.name, "group": group, "signature": each.signature, "help": each.help}
            for group, functions in groups.items()
            for each in functions
        ]
        print(json.dumps(found, indent=2))
        return 0
    for group, functions in groups.items():
        print(f"{group}:")
        for each in functions:
            print(f"  {each.name + ' ' + each.signature:<44} {each.help}".rstrip())
    return 0
