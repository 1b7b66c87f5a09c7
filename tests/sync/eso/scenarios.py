"""ExternalSecrets that the two operators are given side by side, and what their stores hold.

What the other controller's documents and its own tables of cases ask for, in few words: a
manifest's `spec` by name, with the objects that have to be there before.
"""

import json
from typing import Any, Final

from strongroom.kube.resource import Object

# What each store holds: by key, as text.
HELD: Final = {
    "db": json.dumps({
        "user": "app", "password": "one", "port": 5432, "on": True, "none": None, "ratio": 1.50,
        "big": 12345678901234567890, "html": "<a&b>", "accent": "ü☃", "empty": "",
        "nested": {"a": {"b": "deep"}, "list": [1, "two", {"x": "y"}], "n": None},
    }),
    "plain": "just text",
    "line": "with a line end\n",
    "encoded": "aGVsbG8=",
    "url-encoded": "_-8=",
    "list": "[1, 2]",
    "number": "42",
    "dotted": json.dumps({"a.b": "literal", "a": {"b": "path"}, "c": {"d": "only a path"}}),
    "odd": json.dumps({"a/b": "1", "c d": "2", "ü": "3", "x.y-z_0": "4"}),
    "collide": json.dumps({"a/b": "1", "a_b": "2"}),
    "nothing": "{}",
    "all-encoded": json.dumps({"x": "aGk=", "y": "eW8=", "raw": "no base64!"}),
    "found/one": "1",
    "found/two": "2",
    "found/odd name": "3",
    "json/one": json.dumps({"k": "v1"}),
    "docker": json.dumps({"auths": {"r.example.com": {"auth": "dTpw"}}}),
}  # fmt: skip


def row(key: str, name: str = "v", **ref: Any) -> Object:
    """A row of `data`; a field of another name than remoteRef's goes beside it."""
    return {"secretKey": name, "remoteRef": {"key": key, **ref}}


def data(*rows: Object, **target: Any) -> Object:
    return {"data": list(rows)} | ({"target": target} if target else {})


def extract(key: str, *rewrite: Object, **ref: Any) -> Object:
    entry: Object = {"extract": {"key": key, **ref}}
    return {"dataFrom": [entry | ({"rewrite": list(rewrite)} if rewrite else {})]}


def find(pattern: str, *rewrite: Object, **more: Any) -> Object:
    entry: Object = {"find": {"name": {"regexp": pattern}, **more}}
    return {"dataFrom": [entry | ({"rewrite": list(rewrite)} if rewrite else {})]}


def generated(name: str, kind: str = "Fake") -> Object:
    ref = {"apiVersion": "generators.external-secrets.io/v1alpha1", "kind": kind, "name": name}
    return {"dataFrom": [{"sourceRef": {"generatorRef": ref}}]}


def template(base: Object, target: Object | None = None, **made: Any) -> Object:
    return base | {"target": {**(target or {}), "template": made}}


def swap(source: str, target: str) -> Object:
    return {"regexp": {"source": source, "target": target}}


USER: Final = data(row("db", "user", property="user"), row("db", "p", property="password"))
ALL: Final = extract("db")

VALUES: Final = {
    "whole": data(row("plain")),
    "line-end": data(row("line")),
    "whole-object": data(row("db")),
    **{
        f"property-{name}": data(row("db", property=name))
        for name in ("user", "port", "on", "none", "ratio", "big", "html", "accent", "empty")
    },
    "property-object": data(row("db", property="nested")),
    "property-deep": data(row("db", property="nested.a.b")),
    "property-index": data(row("db", property="nested.list.1")),
    "property-count": data(row("db", property="nested.list.#")),
    "property-each": data(row("db", property="nested.list.#.x")),
    "property-list": data(row("db", property="nested.list")),
    "property-null": data(row("db", property="nested.n")),
    "property-query": data(row("db", property='nested.list.#(x=="y").x')),
    "property-modifier": data(row("db", property="nested|@ugly")),
    "dotted-literal": data(row("dotted", property="a.b")),
    "dotted-escaped": data(row("dotted", property="a\\.b")),
    "dotted-path": data(row("dotted", property="c.d")),
    "number-whole": data(row("number")),
    "number-property": data(row("number", property="a")),
    "no-property": data(row("db", property="gone")),
    "no-key": data(row("gone")),
    "one-of-two-keys": data(row("plain", "a"), row("gone", "b")),
    "no-key-merge": data(row("plain", "a"), row("gone", "b"), deletionPolicy="Merge"),
    "no-key-delete": data(row("gone"), deletionPolicy="Delete"),
    "one-of-two-delete": data(row("plain", "a"), row("gone", "b"), deletionPolicy="Delete"),
    "twice": data(row("plain"), row("encoded")),
    "version-1": data(row("versions", version="v1")),
    "version-gone": data(row("versions", version="v3")),
    "version-none": data(row("versions")),
    "decode-base64": data(row("encoded", decodingStrategy="Base64")),
    "decode-url": data(row("url-encoded", decodingStrategy="Base64URL")),
    "decode-auto": data(
        row("encoded", "a", decodingStrategy="Auto"),
        row("url-encoded", "b", decodingStrategy="Auto"),
        row("plain", "c", decodingStrategy="Auto"),
        row("number", "d", decodingStrategy="Auto"),
    ),
    "decode-wrong": data(row("plain", decodingStrategy="Base64")),
    "decode-none": data(row("encoded", decodingStrategy="None")),
}
MAPS: Final = {
    "extract": ALL,
    "extract-property": extract("db", property="nested"),
    "extract-deep": extract("db", property="nested.a"),
    "extract-text": extract("plain"),
    "extract-list": extract("list"),
    "extract-number": extract("number"),
    "extract-no-object": extract("db", property="user"),
    "extract-nothing": extract("nothing"),
    "extract-gone": extract("gone"),
    "extract-gone-delete": extract("gone") | {"target": {"deletionPolicy": "Delete"}},
    "extract-odd": extract("odd"),
    "extract-odd-default": extract("odd", conversionStrategy="Default"),
    "extract-odd-unicode": extract("odd", conversionStrategy="Unicode"),
    "extract-collide": extract("collide"),
    "extract-decoded": extract("all-encoded", decodingStrategy="Auto"),
    "extract-decode-wrong": extract("all-encoded", decodingStrategy="Base64"),
    "rewrite": extract("db", swap("^(.*)$", "db_$1")),
    "rewrite-named": extract("db", swap("(?P<n>user|port)", "x-${n}-y")),
    "rewrite-twice": extract("db", swap("^", "a_"), swap("a_(p.*)", "$1")),
    "rewrite-odd": extract("odd", swap("[^-._a-zA-Z0-9]", "_")),
    "rewrite-keeps-odd": extract("odd", swap("q", "z")),
    "rewrite-collide": extract("collide", swap("[/_]", "-")),
    "rewrite-transform": extract("db", {"transform": {"template": "t_{{ .value | upper }}"}}),
    "find": find("^found/o"),
    "find-some": find("one$"),
    "find-rewrite": find("^found", swap("found/([a-z]*).*", "f_$1")),
    "find-nothing": find("^nowhere"),
    "find-nothing-delete": find("^nowhere") | {"target": {"deletionPolicy": "Delete"}},
    "find-unicode": find("odd name", conversionStrategy="Unicode"),
    "find-decoded": find("^encoded$", decodingStrategy="Base64"),
    "find-versions": find("^versions$"),
    "later-wins": {"dataFrom": [*ALL["dataFrom"], *extract("json/one")["dataFrom"],
                                *extract("db", swap("user", "k"))["dataFrom"]]},
    "rows-win": ALL | data(row("plain", "user")),
    "generated": generated("fixed"),
    "generated-cluster": generated("fixed-cluster", "ClusterGenerator"),
    "generated-named-by-kind": generated("gone"),
    "generated-rewrite": {"dataFrom": [
        {**generated("fixed")["dataFrom"][0], "rewrite": [swap("^", "g_")]}]},
    "sources": {"dataFrom": [
        {**ALL["dataFrom"][0], "sourceRef": {"storeRef": {"name": "other"}}}]},
    "row-source": data({**row("only-there"), "sourceRef": {"storeRef": {"name": "other"}}}),
}  # fmt: skip
DOCKER: Final = "kubernetes.io/dockerconfigjson"
SHAPES: Final = {
    "template": template(USER, data={"url": "pg://{{ .user }}:{{ .p }}@h"}),
    "template-empty": template(USER),
    "template-metadata": template(
        USER, metadata={"labels": {"a": "{{ .user }}"}, "annotations": {"b": "{{ .p }}"}}
    ),
    "template-type": template(
        USER, type="kubernetes.io/basic-auth", data={"username": "{{ .user }}", "password": "x"}
    ),
    "template-merge": template(USER, mergePolicy="Merge", data={"p": "{{ .p }}!", "z": "1"}),
    "template-replace": template(USER, mergePolicy="Replace", data={"z": "1"}),
    "template-no-value": template(USER, data={"z": "{{ .gone }}"}),
    "template-bad": template(USER, data={"z": "{{ .user | nothing }}"}),
    "template-of-object": template(
        data(row("db", "whole")), data={"p": '{{ (.whole | fromJson).nested.a.b }}'}
    ),
    "template-from": template(
        USER,
        templateFrom=[
            {"configMap": {"name": "texts", "items": [{"key": "file"}]}},
            {"secret": {"name": "texts", "items": [{"key": "secret-file"}]}},
        ],
        data={"file": "wins over {{ .p }}"},
    ),
    "template-from-maps": template(
        USER,
        templateFrom=[
            {"configMap": {"name": "texts", "items": [
                {"key": "map", "templateAs": "KeysAndValues"}]}},
            {"target": "Labels", "literal": "of: {{ .user }}"},
            {"target": "Annotations", "literal": "note: {{ .p | quote }}"},
            {"literal": "{{ range $k, $v := dict \"a\" \"1\" }}{{ $k }}-l: {{ $v | quote }}{{ end }}"},
        ],
    ),
    "template-from-all": template(
        USER,
        templateFrom=[{
            "configMap": {"name": "texts", "items": [{"key": "file"}]},
            "secret": {"name": "texts", "items": [{"key": "secret-file"}]},
            "literal": "file: last\nl: {{ .user }}",
        }],
    ),
    "template-from-gone": template(
        USER, templateFrom=[{"configMap": {"name": "gone", "items": [{"key": "k"}]}}]
    ),
    "template-from-no-key": template(
        USER, templateFrom=[{"configMap": {"name": "texts", "items": [{"key": "gone"}]}}]
    ),
    "template-labels-and-own": template(USER, data={"z": "1"}),
    "docker": template(
        data(row("docker", "cfg")), type=DOCKER, data={".dockerconfigjson": "{{ .cfg }}"}
    ),
    "docker-plain": data(row("docker", ".dockerconfigjson"), template={"type": DOCKER}),
    "docker-invalid": data(row("plain", ".dockerconfigjson"), template={"type": DOCKER}),
    "of-extract": template(ALL, data={"all": "{{ .user }}/{{ .port }}/{{ .on }}/{{ .nested }}"}),
    "ranged": template(ALL, data={"names": "{{ range $k, $v := . }}{{ $k }};{{ end }}"}),
}  # fmt: skip
POLICIES: Final = {
    "owner": USER | {"target": {"creationPolicy": "Owner"}},
    "orphan": USER | {"target": {"creationPolicy": "Orphan"}},
    "orphan-before": USER | {"target": {"creationPolicy": "Orphan"}},
    "merge-before": USER | {"target": {"creationPolicy": "Merge"}},
    "merge-conflict": data(row("plain", "mine"), creationPolicy="Merge"),
    "merge-missing": USER | {"target": {"creationPolicy": "Merge"}},
    "merge-template": template(
        USER, {"creationPolicy": "Merge"}, data={"z": "{{ .p }}"},
        metadata={"labels": {"made": "yes"}},
    ),
    "merge-template-before": template(
        USER, {"creationPolicy": "Merge"}, mergePolicy="Merge", data={"mine": "{{ .p }}"}
    ),
    "merge-none-left": data(row("gone"), creationPolicy="Merge", deletionPolicy="Merge"),
    "none": USER | {"target": {"creationPolicy": "None"}},
    "orphan-delete": USER | {"target": {"creationPolicy": "Orphan", "deletionPolicy": "Delete"}},
    "orphan-delete-gone": data(row("gone"), creationPolicy="Orphan", deletionPolicy="Delete"),
    "twice": data(row("plain"), row("db", property="user"), deletionPolicy="Merge"),
    "twice-gone": data(row("plain"), row("gone"), deletionPolicy="Delete"),
    "immutable": USER | {"target": {"immutable": True}},
    "other-name": USER | {"target": {"name": "named-otherwise"}},
    "with-a-name-of-more-than-sixty-three-characters-as-some-people-have-them": USER,
    "created-once": USER | {"refreshPolicy": "CreatedOnce"},
    "on-change": USER | {"refreshPolicy": "OnChange"},
    "never-again": USER | {"refreshInterval": "0"},
    "no-store": USER | {"secretStoreRef": {"name": "gone"}},
    "no-cluster-store": USER | {"secretStoreRef": {"name": "gone", "kind": "ClusterSecretStore"}},
    "broken-store": USER | {"secretStoreRef": {"name": "broken"}},
    "class-of-others": USER | {"secretStoreRef": {"name": "of-others"}},
    **{
        f"cluster-{name}": USER | {"secretStoreRef": {"name": name, "kind": "ClusterSecretStore"}}
        for name in ("open", "here", "elsewhere", "labelled", "not-labelled", "one-of-two", "regex")
    },
}  # fmt: skip
# What the mount `secret` holds, and what Secrets of another namespace and a web server hold.
IN_VAULT: Final[dict[str, Object]] = {
    "db": {
        "user": "app", "url": "pg://h?a=1&b=<2>", "port": 5432, "ratio": 1.25, "on": True,
        "none": None, "nested": {"z": {"y": "<&>"}, "a": [1, "two"]}, "a.b": "exact",
        "text": '{"in": "text"}', "encoded": "aGk=",
    },
    "found/one": {"k": "1"},
    "found/deep/two": {"k": "<2>"},
    "odd name": {"a/b": "1"},
}  # fmt: skip
IN_CLUSTER: Final[dict[str, dict[str, str]]] = {
    "db": {"user": "app", "file.json": '{"k": {"d": "<v>"}}', "json": '{"k": {"d": "<v>"}}'},
    "other": {"k": "&", "flat": '{"t": "x", "n": 1}'},
}
ON_THE_WEB: Final[dict[str, Any]] = {
    "text": "plain", "object": {"z": "<", "a": {"c": 1.5, "b": [1]}, "n": None, "t": True},
    "list": [{"k": "first"}, "second"], "number": 42, "none": None, "inner": '{"k": "v"}',
    "empty": [],
}  # fmt: skip


def of(store: str, **cases: Object) -> dict[str, Object]:
    """Cases with their store; names by its first letter."""
    return {
        f"{store[0]}-{name.replace('_', '-')}": {**each, "secretStoreRef": {"name": store}}
        for name, each in cases.items()
    }


FETCHED: Final = {"metadataPolicy": "Fetch"}
ELSEWHERE: Final = {
    **of(
        "vault",
        whole=data(row("db")), text=data(row("db", property="user")),
        escaped=data(row("db", property="url")), nested=data(row("db", property="nested")),
        deep=data(row("db", property="nested.z")), leaf=data(row("db", property="nested.z.y")),
        item=data(row("db", property="nested.a.1")), number=data(row("db", property="port")),
        fraction=data(row("db", property="ratio")), true=data(row("db", property="on")),
        none=data(row("db", property="none")), exact=data(row("db", property="a.b")),
        gone=data(row("gone")), no_property=data(row("db", property="gone")),
        gone_delete=data(row("gone"), deletionPolicy="Delete"),
        mount=data(row("secret/db", property="user")),
        data=data(row("secret/data/db", property="user")),
        first=data(row("db", property="user", version="1")),
        later=data(row("db", property="user", version="7")),
        tags=data(row("db", **FETCHED)), tag=data(row("db", property="team", **FETCHED)),
        decoded=data(row("db", property="encoded", decodingStrategy="Base64")),
        extract=extract("db"), extract_part=extract("db", property="nested"),
        extract_text=extract("db", property="text"), extract_gone=extract("gone"),
        extract_tags=extract("db", **FETCHED), extract_odd=extract("odd name"),
        extract_unicode=extract("odd name", conversionStrategy="Unicode"),
        find=find("one$"), find_path=find(".*", path="found"),
        find_rewrite=find(".*", swap("found/(.*)", "f-$1"), path="found"),
        find_none=find("nowhere"),
        find_tags={"dataFrom": [{"find": {"tags": {"team": "blue"}}}]},
        find_nowhere=find(".*", path="nowhere"),
        find_nowhere_merge={
            "dataFrom": [*extract("found/one")["dataFrom"], *find(".*", path="nowhere")["dataFrom"]],
            "target": {"deletionPolicy": "Merge"},
        },
        find_other_tags={"dataFrom": [{"find": {"tags": {"team": "red"}}}]},
    ),
    **of(
        "kubernetes",
        whole=data(row("db")), key=data(row("db", property="user")),
        dotted=data(row("db", property="file.json")),
        inside=data(row("db", property="json.k")), leaf=data(row("db", property="json.k.d")),
        gone=data(row("gone")), no_property=data(row("db", property="gone")),
        metadata=data(row("db", **FETCHED)),
        labels=data(row("db", property="labels", **FETCHED)),
        label=data(row("db", property="labels.team", **FETCHED)),
        extract=extract("db"), extract_key=extract("db", property="json"),
        extract_text=extract("other", property="flat"),
        extract_metadata=extract("db", **FETCHED),
        find=find("^(db|other)$"),
        find_tags={"dataFrom": [{"find": {"tags": {"team": "blue"}}}]},
    ),
    **of(
        "webhook",
        **{f"{key}_all": data(row(key)) for key in ON_THE_WEB},
        **{f"{key}_map": extract(key) for key in ON_THE_WEB},
        property=data(row("object", property="z")), gone=data(row("gone")),
        gone_delete=data(row("gone"), deletionPolicy="Delete"),
    ),
}  # fmt: skip
SCENARIOS: Final[dict[str, Object]] = {**VALUES, **MAPS, **SHAPES, **POLICIES, **ELSEWHERE}

# PushSecrets to the store `kubernetes`, each to a Secret of its own name, from one source.
SOURCE: Final[Object] = {
    "metadata": {"labels": {"squad": "blue", "of": "s"}, "annotations": {"why": "made"}},
    "type": "kubernetes.io/basic-auth",
    "data": {"username": "app", "password": "<one>"},
}
# What is there before, where something is.
PUSHED_ON: Final = {"metadata": {"labels": {"of": "t", "own": "t"}}, "data": {"mine": "kept"}}


def pushed(name: str, *rows: tuple[str, str], **spec: Any) -> Object:
    """Rows of a key of the source ("" for all of it) and a property; `meta` is every row's."""
    meta = spec.pop("meta", None)
    made: list[Object] = []
    for key, prop in rows:
        remote = {"remoteKey": name} | ({"property": prop} if prop else {})
        match = {"remoteRef": remote} | ({"secretKey": key} if key else {})
        made.append({"match": match} | ({"metadata": meta} if meta else {}))
    return {"data": made, **spec}


def marks(**spec: Any) -> Object:
    """A push's metadata."""
    group = "kubernetes.external-secrets.io/v1alpha1"
    own = {"labels": {"of": "p"}, "annotations": {"row": "p"}}
    return {"apiVersion": group, "kind": "PushSecretMetadata", "spec": {**own, **spec}}


PUSHES: Final[dict[str, Object]] = {
    "p-key": pushed("p-key", ("username", "user")),
    "p-two": pushed("p-two", ("username", "u"), ("password", "p")),
    "p-whole": pushed("p-whole", ("", "")),
    "p-whole-before": pushed("p-whole-before", ("", "")),
    "p-json": pushed("p-json", ("", "all")),
    "p-before": pushed("p-before", ("username", "user")),
    "p-marks": pushed("p-marks", ("username", "user"), meta=marks()),
    "p-marks-before": pushed("p-marks-before", ("username", "user"), meta=marks()),
    **{
        f"p-{source}-{target}-before".lower(): pushed(
            f"p-{source}-{target}-before".lower(), ("username", "user"),
            meta=marks(sourceMergePolicy=source, targetMergePolicy=target),
        )
        for source in ("Merge", "Replace") for target in ("Merge", "Replace", "Ignore")
    },
    "p-template": pushed(
        "p-template", ("url", "url"), ("username", "user"),
        template={
            "data": {"url": "pg://{{ .username }}"},
            "metadata": {"labels": {"made": "{{ .username }}"}, "annotations": {"a": "b"}},
        },
    ),
    "p-template-whole": pushed(
        "p-template-whole", ("", ""),
        template={"type": "Opaque", "data": {"password": "{{ .password | upper }}"}},
    ),
    "p-no-key": pushed("p-no-key", ("gone", "user")),
    "p-unknown": pushed("p-unknown", ("username", "user"), meta=marks(lables={})),
}  # fmt: skip

# Labels and annotations of the ExternalSecrets that have them.
MARKED: Final = {
    name: {"labels": {"team": "blue"}, "annotations": {"why": "asked"}}
    for name in ("owner", "merge-before", "template-labels-and-own", "merge-template", "orphan")
}
OTHERS: Final = {"labels": {"theirs": "l"}, "annotations": {"theirs": "a"}}
# Secrets that are there before.
BEFORE: Final = {
    name: {"metadata": OTHERS, "data": {"mine": "kept"}}
    for name in (
        "merge-before", "merge-conflict", "merge-template", "merge-template-before",
        "merge-none-left", "orphan-before",
    )
}  # fmt: skip
CONDITIONS: Final[dict[str, list[Object]]] = {
    "open": [],
    "here": [{"namespaces": ["apps", "b"]}],
    "elsewhere": [{"namespaces": ["a"]}, {"namespaces": ["b"]}],
    "labelled": [{"namespaceSelector": {"matchLabels": {"env": "test"}}}],
    "not-labelled": [{"namespaceSelector": {"matchLabels": {"env": "test", "no": "no"}}}],
    "one-of-two": [{"namespaces": ["a"]}, {"namespaceSelector": {"matchLabels": {"env": "test"}}}],
    "regex": [{"namespaceRegexes": ["^ap+s$"]}],
}
