"""Bodies that people and attackers send: grown from a model's own signature, damaged on purpose or by chance. Seeded."""

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

RAW = {  # texts that json.dumps would not write, by the placeholder that stands for them
    "@nan@": b"NaN",
    "@inf@": b"Infinity",
    "@-inf@": b"-Infinity",
    "@1e999@": b"1e999",
    "@huge@": b"9" * 400,
    "@surrogate@": b'"\\ud800"',
    "@nul@": b'"a\x00b"',
    "@utf8@": b'"\xc3\x28\xff"',
    "@deep@": b"[" * 100_000,
    "@deep1000@": b"[" * 1000 + b"]" * 1000,
    "@cut@": b'"abc',
}
ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        -1,
        0,
        1,
        7,
        2**31 - 1,
        2**31,
        2**53 + 1,
        2**63 - 1,
        2**63,
        2**64 - 1,
        -(2**63),
        0.5,
        -0.0,
        1e308,
        -1e-320,
    ),
    *(
        "",
        "x",
        "NaN",
        "1",
        "JFK",
        "\0",
        "\ud7ff",
        "\U0001f600",
        '"',
        "%s%n",
        "]],",
        "a" * 5000,
        "FP32",
        "BYTES",
        "INT64",
        "BOOL",
        "FP8",
    ),
    *(
        [],
        [[]],
        [None],
        [1],
        [1, 1],
        ["a", 1],
        [[1], [1, 2]],
        {},
        {"a": 1},
        {"name": "distance"},
        [2147483647] * 8,
        [1] * 9,
        [-1],
        [1.0],
    ),
    *RAW,
)
INTEGERS = {"INT64": "<i8", "INT32": "<i4", "UINT8": "u1"}
FLOATS = {"FP32": "<f4", "FP64": "<f8", "FP16": "<f2"}
EXTREMES = (0.0, -1.0, 0.5, 3e38, float("nan"), float("inf"), float("-inf"), 255.0, 1e10, 65504.0)


@dataclass(frozen=True)
class Case:
    """One request. wrong: it has to be refused. names: one of these has to be in the error, if there is one."""

    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    wrong: bool = False
    names: tuple[str, ...] = ()


@dataclass
class Grammar:
    """Requests for the model that these metadata describe. ids: of real predictions."""

    random: Random
    metadata: dict[str, Any]
    tabular: bool
    ids: list[str] = field(default_factory=list)
    damaged: bool = False  # whether the last blob was, by chance

    @property
    def inputs(self) -> list[dict[str, Any]]:
        return self.metadata["inputs"]

    def value(self, datatype: str) -> Any:
        match datatype:
            case "BYTES":
                return self.random.choice(["JFK", "LGA", "", "ü", "x" * 20])
            case "BOOL":
                return self.random.random() < 0.5
            case _ if datatype in INTEGERS:
                return self.random.randrange(100)
        return round(self.random.uniform(-5, 5), 3)

    def shape(self, one: dict[str, Any], rows: int) -> list[int]:
        shape = [rows if size == -1 else size for size in one["shape"]]
        return shape[:1] if shape[1:] == [1] and self.random.random() < 0.5 else shape

    def tensors(self, rows: int) -> list[dict[str, Any]]:
        found = []
        for one in self.inputs:
            shape = self.shape(one, rows)
            data = [self.value(one["datatype"]) for _ in range(int(np.prod(shape)))]
            found.append({"name": one["name"], "shape": shape, "datatype": one["datatype"], "data": data})
        self.random.shuffle(found)
        return found

    def row(self) -> dict[str, Any]:
        """One row as an object: nested lists for tensors."""
        row = {}
        for one in self.inputs:
            sizes = one["shape"][1:]
            if self.tabular or sizes in ([], [1]):
                row[one["name"]] = self.value(one["datatype"])
            else:
                row[one["name"]] = (
                    np.array([self.value(one["datatype"]) for _ in range(int(np.prod(sizes)))]).reshape(sizes).tolist()
                )
        return row

    def odd(self) -> Any:
        return self.random.choice(ODD)

    # ---- Open Inference Protocol, JSON

    def v2(self) -> Case:  # noqa: C901, PLR0912  one branch for each kind of damage
        path = f"/v2/models/{self.metadata['name']}/infer"
        random, tensors = self.random, self.tensors(self.random.choice([1, 1, 1, 2, 5]))
        request: dict[str, Any] = {"inputs": tensors}
        one = random.choice(tensors)
        name, wrong, names = one["name"], False, ()
        match random.randrange(16):
            case 0:
                one["name"], wrong = random.choice(["distanze", "", "input", "\0", "x" * 3000, "'", "a.b"]), True
                names = ("unknown column", "unknown input")
            case 1:
                one[random.choice(["shape", "datatype", "data"])], names = self.odd(), (name,)
            case 2:
                key = random.choice(["name", "shape", "datatype", "data"])
                del one[key]
                wrong, names = True, (name, f"`{key}`")
            case 3:
                one["data"], wrong = [*one["data"], self.value(one["datatype"])], True
                names = (name, "tensor", "rows")
            case 4:
                one["data"][random.randrange(len(one["data"]))], names = self.odd(), (name,)
            case 5:
                tensors.append(dict(one))
                wrong, names = True, (name,)
            case 6:
                tensors.remove(one)
                wrong, names = True, (name, "`inputs`")
            case 7:
                request["outputs"], wrong, names = (
                    [{"name": random.choice(["x", "", None, 5])}],
                    True,
                    ("unknown output",),
                )
            case 8:
                key = random.choice(["id", "parameters", "outputs", "inputs"])
                request[key], names = self.odd(), (f"`{key}`", "output", "input", "timeout", "JSON", "column")
            case 9:
                one["shape"], wrong, names = (
                    random.choice(([2147483647] * 8, [2**62, 2], [0], [-1], [3, 3, 3, 3], [1] * 9, ["1"], [1e300])),
                    True,
                    (name,),
                )
            case 10:
                tensors[random.randrange(len(tensors))] = self.odd()
                wrong, names = True, ("input", "column", "JSON")
            case 11:
                request["parameters"] = {
                    random.choice(["timeout", "binary_data_output", "x", "classification"]): self.odd()
                }
                if type(request["parameters"].get("timeout")) is int:  # so many microseconds may pass: 504
                    request["parameters"] = {}
            case 12:
                request["outputs"] = [{"name": self.metadata["outputs"][0]["name"], "parameters": self.odd()}]
        body = encoded(request)
        if random.random() < 0.05:  # the same key twice
            body = b'{"inputs":[],' + body[1:] if random.random() < 0.5 else body[:-1] + b',"inputs":5}'
            wrong = wrong or body.endswith(b":5}")
            names = ()
        return Case(path, body, wrong=wrong, names=names)

    # ---- Open Inference Protocol, binary

    def binary(self) -> Case:  # noqa: C901
        path = f"/v2/models/{self.metadata['name']}/infer"
        random, tensors = self.random, self.tensors(self.random.choice([1, 2, 3]))
        one, blobs = random.choice(tensors), []
        name, wrong, names = one["name"], False, ()
        self.damaged = False
        for tensor in tensors:
            if random.random() < 0.1:
                continue  # some as JSON between the others
            data = tensor.pop("data")
            if tensor["datatype"] != "BYTES" and random.random() < 0.3:
                tensor["datatype"] = random.choice([*FLOATS, *INTEGERS, "BF16", "BOOL"])
            blobs.append(self.blob(tensor["datatype"], data))
            tensor["parameters"] = {"binary_data_size": len(blobs[-1])}
        request: dict[str, Any] = {"inputs": tensors}
        match random.randrange(9):
            case 0 if "parameters" in one:
                one["parameters"]["binary_data_size"] = random.choice(
                    [-1, 0, 2**31, 2**63, 3.0, "4", None, True, 10**6]
                )
                names = (name, "bytes", "column", "input")
            case 1:
                one[random.choice(["shape", "datatype", "parameters"])], names = (
                    self.odd(),
                    (name, "bytes", "input", "column"),
                )
            case 2 if blobs:
                blobs[random.randrange(len(blobs))] += random.choice([b"\0", b"\xff" * 4, b"\0\0\0\x7f"])
                wrong = True
            case 3 if blobs:
                place = random.randrange(len(blobs))
                blobs[place], wrong = blobs[place][:-1], True
            case 4:
                one["shape"], names = (
                    random.choice(([2147483647] * 8, [2**62, 2], [0], [-1], [], [1] * 9, [1, 2])),
                    (name, "bytes"),
                )
            case 5:
                one["name"], wrong, names = "distanze", True, ("distanze",)
            case 6:
                request["outputs"] = [
                    {"name": o["name"], "parameters": {"binary_data": True}} for o in self.metadata["outputs"]
                ]
        head, rest = encoded(request), b"".join(blobs)
        size = str(len(head))
        if random.random() < 0.1:
            size = random.choice(
                ["-1", "0", "x", "", str(len(head) + len(rest) + 1), "9" * 20, "1e3", str(len(head) - 1), "+5"]
            )
            wrong, names = True, ("inference-header-content-length", "JSON", "bytes", "binary_data_size", "data")
        return Case(
            path, head + rest, (("inference-header-content-length", size),), wrong, () if self.damaged else names
        )

    def blob(self, datatype: str, data: list[Any]) -> bytes:
        if datatype == "BYTES":
            good = [text.encode() for text in data]
            texts = [
                self.random.choice([text, b"\xff\xfe", b"\0"]) if self.random.random() < 0.1 else text for text in good
            ]
            sizes = [
                self.random.choice([2**32 - 1, 0, len(t) + 1]) if self.random.random() < 0.03 else len(t) for t in texts
            ]
            self.damaged = self.damaged or texts != good or sizes != [len(t) for t in texts]
            return b"".join(size.to_bytes(4, "little") + text for size, text in zip(sizes, texts, strict=True))
        if self.random.random() < 0.1 and (datatype in FLOATS or datatype == "BF16"):
            data, self.damaged = [self.random.choice(EXTREMES) for _ in data], True
        with np.errstate(all="ignore"):
            if datatype == "BOOL":
                good = bytes(int(v) & 1 for v in data)
                found = bytes(self.random.choice([0, 2, 255]) if self.random.random() < 0.1 else v for v in good)
                self.damaged = self.damaged or found != good
                return found
            if datatype == "BF16":
                return (np.array(data, "<f4").view("<u4") >> 16).astype("<u2").tobytes()
            return np.array(data).astype(INTEGERS.get(datatype) or FLOATS[datatype]).tobytes()

    # ---- KServe v1

    def v1(self) -> Case:
        path = f"/v1/models/{self.metadata['name']}:predict"
        random, key = self.random, self.random.choice(["instances", "instances", "inputs"])
        rows, wrong, names = self.rows(key)
        request: dict[str, Any] = {key: rows}
        match random.randrange(8):
            case 0:
                request, wrong, names = (
                    {random.choice(["rows", "", "Instances"]): rows},
                    True,
                    ("unknown field", "expected"),
                )
            case 1:
                request["instances"], names = (
                    self.odd(),
                    ("instances", "row", "input", "column", "value", "JSON", "expected"),
                )
        return Case(path, encoded(request), wrong=wrong, names=names)

    def rows(self, key: str) -> tuple[Any, bool, tuple[str, ...]]:  # noqa: PLR0911
        """Rows as a data frame has them, damaged or not; whether they have to be refused, and what names it."""
        random = self.random
        rows: list[Any] = [self.row() for _ in range(random.choice([1, 2, 4]))]
        place, (name,) = random.randrange(len(rows)), random.sample([one["name"] for one in self.inputs], 1)
        match random.randrange(12):
            case 0:
                del rows[place][name]
                return rows, True, (name,)
            case 1:
                rows[place]["more"] = 1
                return rows, True, ("more",)
            case 2:
                rows[place][name] = self.odd()
                return rows, False, (name, "JSON")
            case 3:
                rows[place] = self.odd()
                return rows, False, ("row", "value", "input", "column", "JSON", "this model has")
            case 4:
                return self.odd(), False, (key, "row", "value", "input", "column", "JSON", "this model has", "expected")
            case 5 if self.tabular:
                return [list(row.values()) for row in rows], False, ()
            case 6 if key == "inputs":
                return {one["name"]: [row[one["name"]] for row in rows] for one in self.inputs}, False, ()
            case 7 if key == "inputs":
                columns = {one["name"]: [row[one["name"]] for row in rows] for one in self.inputs}
                columns[name] = self.odd()
                return columns, False, (name, "JSON")
        return rows, False, ()

    # ---- /invocations

    def frame(self) -> Case:
        random, form = self.random, self.random.choice(["dataframe_split", "dataframe_records", "instances", "inputs"])
        rows, wrong, names = self.rows(form)
        content: Any = rows
        if form == "dataframe_split":
            order = [one["name"] for one in self.inputs]
            random.shuffle(order)
            good = [self.row() for _ in range(2)]
            content, wrong, names = {"columns": order, "data": [[row[n] for n in order] for row in good]}, False, ()
            match random.randrange(6):
                case 0:
                    content[random.choice(["columns", "data", "index"])], names = (
                        self.odd(),
                        ("column", "data", "row", "JSON", "value", "input", "this model"),
                    )
                case 1:
                    content["columns"], wrong, names = [*order[:-1], order[0]], len(order) > 1, ("column",)
                case 2:
                    content["data"][0].append(1)
                    wrong, names = True, ("row 0",)
                case 3:
                    content["data"][1][0], names = self.odd(), (order[0], "JSON")
        request: dict[str, Any] = {form: content}
        match random.randrange(10):
            case 0:
                request[random.choice(["params", "signature_name", "more"])] = self.odd()
                names = ()
            case 1:
                request["inputs" if form != "inputs" else "instances"], wrong, names = [], True, ("exactly one", "JSON")
        headers = (
            (
                "content-type",
                random.choice(["application/json", "application/json; charset=utf-8", "Application/JSON"]),
            ),
        )
        if random.random() < 0.03:
            headers, wrong, names = (
                (("content-type", random.choice(["text/xml", "\x80", "application/jsonl"])),),
                True,
                ("content-type",),
            )
        if random.random() < 0.2:
            headers += (("accept", "text/csv"),)
        return Case("/invocations", encoded(request), headers, wrong, names)

    def csv(self) -> Case:
        random, order = self.random, [one["name"] for one in self.inputs]
        names, wrong = (), not self.tabular
        lines = [order] if random.random() < 0.7 else []
        lines += [[str(self.row()[n]) for n in order] for _ in range(random.choice([1, 2, 4]))]
        match random.randrange(9):
            case 0:
                lines[-1].append("1")
                wrong, names = True, ("row", "column")
            case 1:
                place = random.randrange(len(lines))
                lines[place][random.randrange(len(order))] = random.choice(
                    [
                        "NaN",
                        "inf",
                        "-inf",
                        "1e999",
                        "1_000",
                        "٣",
                        "",
                        '"',
                        '""',
                        "a\rb",
                        "\0",
                        "x" * 140_000,
                        '"a""b"',
                        "1,2",
                        "0x10",
                        " 5 ",
                        "\ufeff1",
                        "\u2028",
                    ]
                )
                names = ("row", "column", "CSV")
            case 2:
                lines[0] = [order[0]] * len(order)
                names = ("column", "row")
            case 3:
                lines = random.choice(([], [[]], [[""]], [order], [order, []]))
                wrong, names = True, ("empty", "row", "column")
        body = random.choice(["\n", "\r\n"]).join(",".join(line) for line in lines).encode("utf-8", "surrogatepass")
        if random.random() < 0.05:
            body, names = (
                body + random.choice([b"\xff", b"\xed\xa0\x80", b'"', b"\0"]),
                ("CSV", "row", "column", "empty"),
            )
        return Case("/invocations", body, (("content-type", "text/csv"),), wrong, names if self.tabular else ("CSV",))

    # ---- /feedback

    def feedback(self) -> Case:
        random = self.random
        labels: list[Any] = [self.label() for _ in range(random.choice([1, 1, 3]))]
        match random.randrange(6):
            case 0:
                return Case("/feedback", encoded({"labels": self.odd()}), names=("labels", "JSON", "line"))
            case 1:
                return Case("/feedback", b"\n".join(encoded(label) for label in labels))
            case 2:
                labels[random.randrange(len(labels))] = self.odd()
            case 3:
                return Case("/feedback", encoded(self.odd()), names=("labels", "JSON", "empty", "label"))
        return Case("/feedback", encoded({"labels": labels}))

    def label(self) -> dict[str, Any]:
        random = self.random
        id_: Any = random.choice(self.ids)
        match random.randrange(5):
            case 0:
                place = random.randrange(len(id_))
                id_ = id_[:place] + random.choice("aZ0_\0é") + id_[place + 1 :]
            case 1:
                id_ = self.odd()
        return {"id": id_, "label": self.odd() if random.random() < 0.5 else random.choice([True, "true", 1, 0.0, "x"])}

    # ---- any of them

    def cases(self, way: str) -> Iterator[Case]:
        """Endless: half as the grammar makes them, a third with bytes changed, some compressed, whole or damaged."""
        random, make = self.random, getattr(self, way)
        while True:
            case = make()
            chance = random.random()
            if chance < 0.35:
                yield Case(case.path, mutated(random, case.body), case.headers)
            elif chance < 0.45:
                yield compressed(random, case)
            else:
                yield case


def encoded(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    for placeholder, raw in RAW.items():
        text = text.replace(b'"%b"' % placeholder.encode(), raw)
    return text


TOKENS = (
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b'"',
    b"\\",
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"null",
    b"1e999",
    b"-",
    b"0",
    b"\n",
    b"\xef\xbb\xbf",
    b'"data":[',
)


def mutated(random: Random, body: bytes) -> bytes:
    """A few bytes changed, taken out, put in, or parts of it doubled or cut."""
    body = body[:20_000]
    for _ in range(random.choice([1, 1, 2, 4])):
        at, to = sorted((random.randrange(len(body) + 1), random.randrange(len(body) + 1)))
        match random.randrange(6):
            case 0:
                body = body[:at] + bytes([random.randrange(256)]) + body[at + 1 :]
            case 1:
                body = body[:at] + random.choice(TOKENS) + body[at:]
            case 2:
                body = body[:at] + body[min(to, at + 9) :]
            case 3:
                body = body[:to] + body[at:to][:200] + body[to:]
            case 4:
                body = body[:at]
            case 5:
                body = body[:at] + random.choice(TOKENS) + body[at + 1 :]
    return body


def compressed(random: Random, case: Case) -> Case:
    coding = random.choice(["gzip", "deflate", "gzip", "identity", "br", "GZIP", "x"])
    body = zlib.compress(case.body, 1) if coding == "deflate" else gzip.compress(case.body, 1)
    wrong, names, damage = case.wrong, case.names, random.randrange(8)
    if coding in {"br", "x"}:
        wrong, names = True, ("content-encoding",)
    elif coding == "identity":
        body = case.body
    elif damage == 0:
        body, wrong, names = body[: random.randrange(len(body))], True, ("compressed body",)
    elif damage == 1:
        body, wrong, names = body + b"more", True, ("compressed body",)
    elif damage == 2:
        body, wrong, names = mutated(random, body), False, ()
    elif damage == 3 and random.random() < 0.03:
        body, wrong, names = BOMB, True, ("when decompressed",)
    return Case(case.path, body, (*case.headers, ("content-encoding", coding)), wrong, names)


BOMB = gzip.compress(b"[" * (64 << 20), 9)


def tensors(folder: Path) -> Path:
    """A model from elsewhere: floats, whole numbers, booleans and texts in, three outputs, no signature."""
    kinds = {
        "image": (TensorProto.FLOAT, 2, 3),
        "steps": (TensorProto.INT64, 1),
        "flag": (TensorProto.BOOL,),
        "word": (TensorProto.STRING,),
    }
    inputs = [helper.make_tensor_value_info(n, kind, [None, *sizes]) for n, (kind, *sizes) in kinds.items()]
    axes = numpy_helper.from_array(np.array([1, 2], np.int64), "axes")
    nodes = [
        helper.make_node("ReduceSum", ["image", "axes"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["flag"], ["weight"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["sum", "weight"], ["total"]),
        helper.make_node("Identity", ["steps"], ["kept"]),
        helper.make_node("Identity", ["word"], ["said"]),
    ]
    outputs = [
        ("total", TensorProto.FLOAT, [None]),
        ("kept", TensorProto.INT64, [None, 1]),
        ("said", TensorProto.STRING, [None]),
    ]
    graph = helper.make_graph(nodes, "t", inputs, [helper.make_tensor_value_info(*o) for o in outputs], [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder
