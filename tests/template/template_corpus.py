"""The templates that are rendered by Go and by us: written by hand, and drawn with a fixed seed."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from strongroom.template.functions import FUNCTIONS
from strongroom.template.registry import Function

SEED = 20_240_229
CALLS_EACH = 16
PROGRAMS = 900
VALUES: dict[str, bytes] = {
    "user": b"ada",
    "password": b"p@ss \"word\" <&> 'x'",
    "binary": bytes(range(256)),
    "mixed": b"abc\xff\xfe def \xc3\xa9 \xe2\x82",
    "empty": b"",
    "number": b"42",
    "float": b"-7.50",
    "json": b'{"a":[1,2.5,"x<y",null,true,{"b":{}}],"c":{"d":"e"},"n":-0.0,"big":12345678901234567890}',
    "list_json": b'["b","a","c","a"]',
    "yaml": b"a: 1\nb: [x, 'y', 2.5]\nc:\n  d: yes\n  e: ~\nf: |\n  multi\n  line\n",
    "lines": b"one\ntwo\n\nthree",
    "unicode": "Grüße, 世界! ǅ ß ŉ İ ﬁ".encode(),
    "url": b"https://user:p%40ss@example.com:8443/a%20b/c;d?x=1&y=%20z#frag%20ment",
    "date": b"2024-02-29T13:04:05Z",
    "b64": b"aGVsbG8sIHdvcmxk",
}
# Random, from the clock, without an order in Go, slow, or with an answer of our own.
NOT_COMPARED = frozenset(
    [
        "randAlpha",
        "randAlphaNum",
        "randAscii",
        "randNumeric",
        "randBytes",
        "randInt",
        "uuidv4",
        "shuffle",
        "now",
        "ago",
        "bcrypt",
        "htpasswd",
        "encryptAES",
        "derivePassword",
        "genPrivateKey",
        "genCA",
        "genCAWithKey",
        "genSelfSignedCert",
        "genSelfSignedCertWithKey",
        "genSignedCert",
        "genSignedCertWithKey",
        "buildCustomCert",
        "keys",
        "values",
        "fail",
        "decryptAES",
    ]
)
# What sprig does not have; external-secrets adds it.
OURS = frozenset(
    [
        "hexdec",
        "filterPEM",
        "filterCertChain",
        "certSANs",
        "pkcs12key",
        "pkcs12keyPass",
        "pkcs12cert",
        "pkcs12certPass",
        "pemToPkcs12",
        "pemToPkcs12Pass",
        "fullPemToPkcs12",
        "fullPemToPkcs12Pass",
        "pemTruststoreToPKCS12",
        "pemTruststoreToPKCS12Pass",
        "jwkPublicKeyPem",
        "jwkPrivateKeyPem",
        "rsaDecrypt",
    ]
)

STRINGS = [
    '""', '"a"', '"hello world"', '"Hello, World"', '"a,b,,c"', '"12"', '"-7.50"', '"0x1f"', '"010"',
    '"1e3"', '"  padded\\t"', '"a\\nb\\n"', '"FooBar2Baz"', '"foo_bar-baz qux"', '"HTTPServer"',
    '"2024-02-29"', '"é日本"', '"\\xff\\xfe"', "`raw \\n`", '"true"', '"null"', '".."', '"/a/../b//c.tar.gz"',
    '"x"', '"aaa"', ".user", ".password", ".mixed", ".binary", ".unicode", ".lines", ".empty", ".number",
    '"a very long line of words that goes on and on, until it has to be wrapped somewhere or else"',
    '"<a href=\'x\'>&amp;</a>"', '"%d %s"', '"1.2.3"', '"$1 ${2}"', '"TestCASE 99Bottles ofBeer"',
]  # fmt: skip
INTS = ["0", "1", "2", "3", "5", "-1", "-3", "7", "10", "63", "100", "'a'", "0x10", "1_000", "1e1"]
FLOATS = ["0.5", "0.3", "1", "2.75", "-1.5", "1e3"]
BOOLS = ["true", "false", "(eq 1 1)", '(empty "")']
LISTS = [
    "(list)", '(list "a" "b" "c")', "(list 1 2 3)", '(list 3 1.5 "x" nil true)', "(until 4)",
    '(list "b" "a" "b" "")', '(splitList "," "x,y,z")', "(fromJson .list_json)", "(list (list 1 2) (list 3))",
    '(list 0 "" nil false 1)', "(untilStep 9 0 -3)", '(list 1 1 2 2.0 "2")',
]  # fmt: skip
MAPS = [
    "(dict)", '(dict "a" 1)', '(dict "a" 1 "b" "two" "c" (list 1 2))', "(fromJson .json)", "(fromYaml .yaml)",
    '(dict "x" (dict "y" (dict "z" "deep")) "n" nil)', '(dict "a" "" "b" 0 "z" (dict "k" "v"))',
    '(dict "host" "h:1" "scheme" "http" "path" "/p q" "query" "a=b" "userinfo" "u:p")', '(dict 1 2 true "x")',
]  # fmt: skip
OTHERS = ["nil", "1.0", "2.50", "1e6", "1e21", "1e-7", "0.1", "-0.0", "3.0", "2i", '(int64 7)', '(index "xyz" 1)',
          '(float64 "1.5")', '(toDate "2006-01-02" "2024-02-29")', '(semver "1.2.3-beta.1+b5")',
          '(split "-" "a-b")', '(atoi "9")', "(int64 -9223372036854775808)", "9223372036854775807",
          '(first (list))', '(duration "61")']  # fmt: skip
TIMES = ['(toDate "2006-01-02" "2024-02-29")', "now", '(toDate "2006-01-02T15:04:05Z07:00" .date)',
         '(dateModify "36h" now)', '(toDate "bad" "worse")']  # fmt: skip
# Without times and versions, whose fields only some verbs show.
PRINTED = STRINGS + INTS + BOOLS + LISTS + MAPS + OTHERS[:12]
ANYTHING = STRINGS + INTS + BOOLS + LISTS + MAPS + OTHERS + TIMES

DURATIONS = [
    '"1h30m"',
    '"-1.5h"',
    '"90s"',
    '"1us"',
    '"1.5"',
    '"x"',
    '"0"',
    '"240h"',
    '"1h2m3.456s"',
    '"-0"',
    '"9000h"',
]
LAYOUTS = [
    '"2006-01-02"',
    '"Mon Jan _2 15:04:05 2006"',
    '"02/01/06 03:04PM"',
    '"2006-01-02T15:04:05.000Z07:00"',
    '"January 2, 2006 3:4:5 pm MST -0700"',
    '"20060102150405"',
    '"Monday 002 __2 .999999 ,000"',
    '"Jan. 2nd 06_2006"',
]
ZONES = [
    '"UTC"',
    '"Europe/Berlin"',
    '"America/New_York"',
    '"Asia/Kolkata"',
    '"Nowhere/Land"',
    '"Local"',
    '""',
]
PATTERNS = [
    '"a+"',
    '"^[a-z]+"',
    '"(\\\\w+) (\\\\w+)"',
    '""',
    '"[^,]*"',
    '"x*"',
    '"(?i)HELLO"',
    '"(?P<first>[a-z])(?P<rest>[a-z]*)"',
    '"\\\\bb"',
    '"(a"',
    '"(?!a)"',
    '"[[:alpha:]]{2,3}"',
    '"\\\\p{L}+"',
    '"."',
    '"(?s).+"',
    '"(?m)^t.*$"',
    '"a|b|"',
    '"\\\\d"',
]
SUBSTITUTES = [
    '"$1"',
    '"${1}x"',
    '"$1x"',
    '"<$0>"',
    '"$first-$rest"',
    '"$$"',
    '"${"',
    '"plain"',
    '""',
    '"$2 $1"',
    '"$9"',
]
VERSIONS = [
    '"1.2.3"',
    '"v2.0.0-rc.1"',
    '"1.2"',
    '"0.3.1+build"',
    '"x"',
    '"1.2.3-alpha.10"',
    '"1.2.03"',
    '"10.0.0"',
    '""',
]
CONSTRAINTS = [
    '"^1.2"',
    '">=1.0 <2"',
    '"~1.2.0"',
    '"1.x"',
    '"*"',
    '"!=1.2.3"',
    '"1.0 - 2.0"',
    '"^0.3"',
    '"<2 || >9"',
    '">1.2.3-alpha.2"',
    '"=>1.0, <=3"',
    '"~>0.3"',
    '"bad one"',
    '""',
    '"^0.0.1"',
    '"<=1.2"',
    '">1"',
    '"!=1.x"',
    '"~1"',
    '"=1.2.3"',
]
FORMATS = [
    '"%d"',
    '"%5d|%-5d|%05d"',
    '"%v %v"',
    '"%s"',
    '"%q"',
    '"%x"',
    '"% X"',
    '"%#x"',
    '"%t"',
    '"%T"',
    '"%.2f"',
    '"%8.3f"',
    '"%e"',
    '"%g"',
    '"%+d"',
    '"%c"',
    '"%U"',
    '"%#U"',
    '"%o %O"',
    '"%b"',
    '"%#v"',
    '"%+v"',
    '"%%"',
    '"%z"',
    '"%[2]v %[1]v"',
    '"%*d"',
    '"%.*f"',
    '"%-10s|"',
    '"%.3s"',
    '"%10.2s|"',
    '"%+q"',
    '"%#q"',
    '"%6.2f%%"',
    '"%[3]d"',
    '"%!"',
    '"%"',
    '"%d %d %d"',
    '"no verbs"',
    '"%G"',
    '"%E"',
    '"%F"',
    '"% d"',
    '"%+.1e"',
    '"%08.3f"',
    '"%-08d|"',
    '"%x %X"',
    '"%#o"',
    '"%#b"',
    '"%#g"',
    '"%06s"',
    '"%[1]T %[1]v"',
    '"%[1]*d"',
    '"%v" ',
    '"%3c|%-3c|"',
    '"%t %d"',
    '"%20q"',
    '"%+v|%#v"',
    '"%.0f"',
    '"%100.50f"',
    '"%.10g"',
    '"%#.3x"',
    '"%x|%x"',
    '"%[5]d %[x]d"',
    '"%.d"',
    '"%2.d|"',
    '"%é"',
]
JSONS = [".json", ".list_json", '"[1, 2"', '"1e999"', '"\\"a\\\\u00e9\\\\ud83d\\\\ude00\\\\ud800\\""', '"{}"', '"null"', '" [1.0 , -2e3] "',
         '"{\\"a\\":1,\\"a\\":2}"', '"nan"', '"01"', '"\\"\\t\\""', ".mixed", '"[[[]]]"', '"true"', '""']  # fmt: skip
BASE64 = ['"aGk="', '"aGk"', '"aGk=="', '"a=b="', '"aG\\nk="', '"!!"', '"aGVs bG8="', '""', ".b64", '"YQ==YQ=="', '"YQ=\\n="', '"YQ="',
          '"NBUQ===="', '"NBUQ==="', '"nbuq"', '"NBSWY3DP"', '"A======="', '"AB======"', '"1"']  # fmt: skip
URLS = [
    ".url",
    '"http://h"',
    '"//h/p"',
    '"mailto:a@b"',
    '"/p?q#f"',
    '"a:b"',
    '":x"',
    '"http://[::1]:80/"',
    '"http://h:x/"',
    '"%zz"',
    '"http://h/%zz"',
    '"HTTP://U@H/?"',
    '"a b"',
    '"?q"',
    '"#f%"',
    '"x://u:@h"',
    '"*"',
    '"http://a%20b/"',
    '"1a:b"',
    '"a/b:c"',
    '""',
    '"http://h/a?b?c#d#e"',
    '"http://u:p:q@h/"',
    '"///x"',
    '"http://a b/"',
    '"javascript:alert(1)"',
]
PATHS = ['""', '"/"', '"//"', '"a"', '"a/b"', '"/a/b.c"', '"a/../b"', '"/../a"', '"../../a"', '"a/./b/"', '"a.tar.gz"', '".x"', '"a/.x/y"', '"..."',
         '"a//b//"', '"./"', '"x/.."', '".user"']  # fmt: skip
# Arguments worth trying for a function, by parameter; the others come from the type's pool.
SPECIAL: dict[str, Sequence[Sequence[str]]] = {
    **dict.fromkeys(
        ["regexMatch", "mustRegexMatch", "regexFind", "mustRegexFind"], (PATTERNS, STRINGS)
    ),
    **dict.fromkeys(["regexFindAll", "mustRegexFindAll"], (PATTERNS, STRINGS, ["-1", "0", "2"])),
    **dict.fromkeys(["regexSplit", "mustRegexSplit"], (PATTERNS, STRINGS, ["-1", "0", "1", "2"])),
    **dict.fromkeys(
        ["regexReplaceAll", "mustRegexReplaceAll", "regexReplaceAllLiteral", "mustRegexReplaceAllLiteral"],
        (PATTERNS, STRINGS, SUBSTITUTES),
    ),
    **dict.fromkeys(["date", "date_in_zone", "dateInZone"], (LAYOUTS, [*TIMES, "1700000000", "(int64 86399)"], ZONES)),
    **dict.fromkeys(["htmlDate", "htmlDateInZone"], ([*TIMES, "0", "(int64 -1)"], ZONES)),
    **dict.fromkeys(["dateModify", "date_modify", "mustDateModify", "must_date_modify"], (DURATIONS, TIMES)),
    **dict.fromkeys(
        ["toDate", "mustToDate"],
        (
            LAYOUTS,
            ['"2024-02-29"', '"Thu Feb 29 13:04:05 2024"', '"29/02/24 01:04PM"', '"2024-02-29T13:04:05.123+02:00"', '"2023-02-29"',
             '"February 9, 2024 3:4:5 am EST -0500"', '"20240229130405"', '"2024-02-29T13:04:05Z"', '"x"', '"Thursday 060  60 .5 ,123"',
             '"2024-02-29T13:04:05.999999999-00:30"', '"Jan. 3nd 06_2006"', '"thu feb  1 00:00:59 1999"', '"January 31, 1999 12:0:0 pm UTC +0000"'],
        ),
    ),
    "durationRound": ([*DURATIONS, "(int64 90000000000)", "5"],),
    "duration": (['"61"', "(int64 3661)", "95", '"x"', '"-5"', '"99999999999999999999"', "(int64 0)"],),
    # Go copies a version without its private fields, which leaves 0.0.0.
    **dict.fromkeys(["deepCopy", "mustDeepCopy"], (PRINTED,)),
    "semver": (VERSIONS,),
    "semverCompare": (CONSTRAINTS, VERSIONS),
    "printf": (FORMATS, PRINTED, PRINTED),
    "fromJson": (JSONS,),
    "mustFromJson": (JSONS,),
    "b64dec": (BASE64,),
    "b32dec": (BASE64,),
    "urlParse": (URLS,),
    "urlJoin": ([f"(urlParse {url})" for url in URLS[:8]] + MAPS,),
    **dict.fromkeys(
        ["base", "dir", "clean", "ext", "isAbs", "osBase", "osDir", "osClean", "osExt", "osIsAbs"], (PATHS,)
    ),
    "repeat": (["0", "1", "3", "-1"], STRINGS),
    "seq": (["0", "1", "3", "-2", "9"], ["2", "-1", "1", "5"], ["9", "0", "-4"]),
    "until": (["0", "3", "-3", "1"],),
    "untilStep": (["0", "5", "-2"], ["0", "9", "-9"], ["1", "-2", "3", "0"]),
    "round": (["1.5", "2.567", "-1.455", '"3.14159"', "1e20", "0.125"], ["0", "1", "2", "-1"], FLOATS),
    "typeIs": (['"string"', '"int"', '"[]interface {}"', '"map[string]interface {}"', '"float64"'], ANYTHING),
    "typeIsLike": (['"*semver.Version"', '"semver.Version"', '"string"'], ANYTHING),
    "kindIs": (['"slice"', '"map"', '"string"', '"int"', '"ptr"', '"invalid"'], ANYTHING),
    "substr": (["0", "1", "-1", "3"], ["0", "2", "-1", "99", "4"], STRINGS),
    "trunc": (["0", "3", "-3", "99", "-99"], STRINGS),
    "default": (ANYTHING, ANYTHING),
    "index": (LISTS + MAPS + STRINGS, ["0", "1", "-1", '"a"', '"x"', "nil", "99"], ["0", '"y"']),
    "slice": ([*LISTS, '"hello"'], ["0", "1", "2"], ["1", "2", "3", "9"]),
    "chunk": (["1", "2", "3"], LISTS),
    "mustChunk": (["1", "2", "9"], LISTS),
    "indent": (["0", "2", "-1"], STRINGS),
    "nindent": (["0", "4"], STRINGS),
    "split": (['","', '" "', '""', '"x"'], STRINGS),
    "splitList": (['","', '" "', '""', '"\\n"'], STRINGS),
    "splitn": (['","', '" "', '""'], ["-1", "0", "1", "2"], STRINGS),
    "fromYaml": ([".yaml", '"a: 1"', '"a: [b, {c: d}]"', '""', '"x: 0o17\\ny: 017\\nz: 1_000\\nw: 1e3\\nv: off\\nu: 2001-01-01\\nt: 12:30"',
                  '"1: a\\ntrue: b\\n2.5: c"', '"a: &x {k: v}\\nb: *x\\nc: {<<: *x, z: 1}"', '"a: !!str 5\\nb: \'6\'\\nc: !!binary aGk="', ".json"],),
}  # fmt: skip
SPECIAL["mustSlice"] = SPECIAL["slice"]


def pool(go_type: str) -> list[str]:
    """Arguments of a type."""
    return {
        "string": STRINGS,
        "int": INTS[:11],
        "float64": FLOATS,
        "bool": BOOLS,
        "map[string]interface {}": MAPS,
        "[]interface {}": LISTS,
        "time.Time": TIMES,
    }.get(go_type, ANYTHING)


def calls(draw: random.Random, function: Function) -> Iterator[str]:
    """Calls of one function: mostly with arguments it takes, some with others, some piped."""
    special = SPECIAL.get(function.name, ())
    for _ in range(CALLS_EACH):
        count = function.fixed
        if function.variadic:
            count += draw.choice([0, 1, 1, 2, 3])
        count = max(0, count + (draw.choice([-1, 1]) if draw.random() < 0.03 else 0))
        arguments = []
        for place in range(count):
            known = special[place] if place < len(special) else None
            choices = known or pool(function.parameter(place) if function.parameters else "")
            arguments.append(
                draw.choice(ANYTHING if not known and draw.random() < 0.04 else choices)
            )
        if arguments and arguments[-1] != "nil" and draw.random() < 0.3:
            yield f"{{{{ {arguments[-1]} | {' '.join([function.name, *arguments[:-1]])} }}}}"
        else:
            yield f"{{{{ {' '.join([function.name, *arguments])} }}}}"


class Program:
    """Whole templates drawn by chance: text, branches, loops, variables, definitions."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.variables: list[str] = []
        self.names = 0
        self.definitions = ""

    def text(self) -> str:
        body = "".join(self.node(3) for _ in range(self.draw.randint(1, 4)))
        return self.definitions + body

    def delimiters(self, inside: str) -> str:
        left = self.draw.choice(["{{", "{{ ", "{{- "])
        right = self.draw.choice(["}}", " }}", " -}}"])
        return left + inside + right

    def node(self, depth: int) -> str:
        kind = self.draw.choice(
            ["text", "text", "print", "print", "if", "with", "range", "set", "define", "comment"]
            if depth
            else ["text", "print"]
        )
        return str(getattr(self, f"a_{kind}")(depth - 1))

    def nodes(self, depth: int) -> str:
        return "".join(self.node(depth) for _ in range(self.draw.randint(0, 3)))

    def a_print(self, _: int) -> str:
        return self.delimiters(self.expression(2))

    def a_comment(self, _: int) -> str:
        return self.draw.choice(["{{/* a comment */}}", "{{- /* trimmed\n */ -}}"])

    def a_text(self, _: int) -> str:
        return self.draw.choice(["a", " b \n", "\n\t", "{", "}}", "é", "x: y\n", "  "])

    def expression(self, depth: int) -> str:
        draw = self.draw
        simple = [
            *STRINGS[:20],
            *INTS[:8],
            *OTHERS[:8],
            *LISTS[:6],
            *MAPS[:4],
            ".user",
            ".",
            "$.number",
        ]
        if self.variables:
            simple += self.variables * 6
        if not depth or draw.random() < 0.35:
            return draw.choice(simple)
        inner = self.expression(depth - 1)
        other = self.expression(depth - 1)
        form = draw.choice(
            [
                "({0} | quote)", "(printf `%v-%v` {0} {1})", "(eq {0} {0})", "(and {0} {1})", "(or {0} {1})", "(not {0})",
                "(list {0} {1})", "(dict `k` {0} `l` {1})", "(toJson {0})", "({0} | default {1})", "(print {0} {1})",
                "(ternary {0} {1} (empty {0}))", "(toString {0} | upper)", "(kindOf {0})", "(len (list {0} {1}))",
                "(dict `k` {0}).k", "(index (list {0} {1}) 1)", "(cat {0} {1})", "(coalesce {0} {1})", "(toYaml (list {0}))",
                "(lt 1 (len (list {0})))", "(println {0})", "(html {0})", "(urlquery {0})", "(js {0})", "(deepEqual {0} {1})",
            ]
        )  # fmt: skip
        return str(form.format(_bracketed(inner), _bracketed(other)))

    def a_set(self, _: int) -> str:
        if self.variables and self.draw.random() < 0.5:
            return self.delimiters(f"{self.draw.choice(self.variables)} = {self.expression(1)}")
        name = f"$v{self.draw.randint(0, 3)}"
        text = self.delimiters(f"{name} := {self.expression(1)}")
        self.variables.append(name)
        return text

    def scoped(self, depth: int, extra: tuple[str, ...] = ()) -> str:
        outside = list(self.variables)
        self.variables += extra
        text = self.nodes(depth)
        self.variables = outside
        return text

    def otherwise(self, depth: int, kind: str) -> str:
        if self.draw.random() < 0.3 and kind != "range":
            return f"{{{{ else {kind} {self.expression(1)} }}}}" + self.scoped(depth)
        return "{{ else }}" + self.scoped(depth) if self.draw.random() < 0.5 else ""

    def block(self, depth: int, kind: str, head: str, extra: tuple[str, ...] = ()) -> str:
        body = self.scoped(depth, extra)
        return self.delimiters(f"{kind} {head}") + body + self.otherwise(depth, kind) + "{{ end }}"

    def a_if(self, depth: int) -> str:
        return self.block(depth, "if", self.expression(1))

    def a_with(self, depth: int) -> str:
        if self.draw.random() < 0.4:
            return self.block(depth, "with", f"$w := {self.expression(1)}", ("$w",))
        return self.block(depth, "with", self.expression(1))

    def a_range(self, depth: int) -> str:
        over = self.draw.choice([*LISTS, *MAPS, "3", "0", "(until 3)", self.expression(1)])
        form, extra = self.draw.choice(
            [("{}", ()), ("$x := {}", ("$x",)), ("$i, $x := {}", ("$i", "$x"))]
        )
        jump = self.draw.choice(["", "", "{{ if $.user }}{{ break }}{{ end }}", "{{ continue }}"])
        body = self.scoped(depth, extra) + jump + self.scoped(depth, extra)
        return (
            self.delimiters("range " + form.format(over))
            + body
            + self.otherwise(depth, "range")
            + "{{ end }}"
        )

    def a_define(self, depth: int) -> str:
        """A block of a name of its own, or a call of one that is defined at the top level."""
        outside, self.variables = self.variables, []
        body = self.nodes(depth)
        self.variables = outside
        self.names += 1
        name = f"t{self.names}"
        value = self.expression(1)
        if self.draw.random() < 0.5:
            return f'{{{{ block "{name}" {value} }}}}{body}{{{{ end }}}}'
        self.definitions += f'{{{{ define "{name}" }}}}{body}{{{{ end }}}}'
        return f'{{{{ template "{name}" {value} }}}}'


def _bracketed(text: str) -> str:
    plain = " " not in text or text.startswith(("(", '"', "`", "'"))
    return text if plain else f"({text})"


def drawn(seed: int = SEED) -> list[str]:
    """Calls of every function, and whole programs."""
    draw = random.Random(seed)
    found = [
        text
        for function in FUNCTIONS.values()
        if function.name not in NOT_COMPARED | OURS
        for text in calls(draw, function)
    ]
    for _ in range(PROGRAMS):
        found.append(Program(draw).text())
    return found


def written() -> list[str]:
    """The hand-written cases: a template a line, with \u23ce where it has a newline."""
    lines = Path(__file__).with_name("template_corpus.txt").read_text().splitlines()
    return [line.replace("\u23ce", "\n") for line in lines if line and not line.startswith("#!")]
