"""The manifest's JSON Schema (draft 2020-12), derived from the models and from what the registries hand in.

It describes a file as a person writes it, before extends, profile and variables: so a key that a parent may give is
not required, an array may be appended to with ``key+``, and any value may be a ``${variable}``.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from vmrun.schema.carried import NOT_CARRIED
from vmrun.schema.fields import SIZE_PATTERN, TIME_PATTERN
from vmrun.schema.known import KindInfo, Known, Property
from vmrun.schema.models import Manifest
from vmrun.schema.tree import APPEND

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_VARIABLE = {"$ref": "#/$defs/variable"}
_DROPPED = ("title", "default")
_OF_TYPE: dict[str, dict[str, Any]] = {
    "size": {"type": "string", "pattern": SIZE_PATTERN},
    "time": {"type": "string", "pattern": TIME_PATTERN},
    "path": {"type": "string"},
    "string": {"type": "string"},
    "integer": {"type": "integer"},
    "boolean": {"type": "boolean"},
}


def schema_text(known: Known) -> str:
    """Return the schema as indented JSON, the same to the byte for the same models and names."""
    return json.dumps(schema(known), indent=2, ensure_ascii=False) + "\n"


def schema(known: Known) -> dict[str, Any]:
    """Return the schema of a manifest over the boards, engines and device kinds of ``known``."""
    models = Manifest.model_json_schema()
    tables: dict[str, Any] = {name: _table(table) for name, table in models["$defs"].items()}
    # A table may be spread over files; an item of an array may not.
    required = {name: table.pop("required", []) for name, table in tables.items() if name != "Allow"}
    tables["Machine"]["properties"]["board"] |= _value({"enum": list(known.boards)})
    tables["Device"] = _device(known, tables["Device"])
    tables["variable"] = {"type": "string", "pattern": r"\$\{[^}]+\}", "description": "A ${variable} of [vars]."}
    root = _table({k: v for k, v in models.items() if k != "$defs"})
    del root["required"]
    _say_what_is_not_carried(root, tables)
    root["properties"]["profile"] = _profiles(root["properties"])
    return {
        "$schema": DIALECT,
        "title": "vmrun manifest",
        **root,
        "required": ["manifest"],
        "anyOf": [{"required": ["extends"]}, _whole(root["properties"], required)],
        "$defs": dict(sorted(tables.items())),
    }


def _table(table: dict[str, Any]) -> dict[str, Any]:
    """Return a model's schema as a table of a file: values may be variables, arrays may be appended to."""
    properties: dict[str, Any] = {}
    for name, declared in table["properties"].items():
        described = {k: v for k, v in declared.items() if k in ("description", "examples")}
        value = _value({k: v for k, v in declared.items() if k not in ("description", "examples")})
        for pattern, named in value.pop("patternProperties", {}).items():
            value |= {"additionalProperties": named, "propertyNames": {"pattern": pattern}}
        default = declared.get("default")
        properties[name] = {**described, **value, **({} if default in (None, [], {}) else {"default": default})}
        array = next((o for o in (value, *value.get("oneOf", ())) if o.get("type") == "array"), None)
        if array is not None and name != "extends":
            said = f"Appended to the `{name}` that this manifest builds on."
            properties[name + APPEND] = {**copy.deepcopy(array), "description": said}
    kept = {k: v for k, v in table.items() if k not in ("properties", "title")}
    if "description" in kept:
        kept["description"] = " ".join(kept["description"].replace("``", "`").split())
    return {**kept, "properties": properties}


def _value(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a value's schema without null, which TOML lacks, and with a variable allowed where it is narrower."""
    schema = {k: v for k, v in schema.items() if k not in _DROPPED}
    options = [o for o in schema.pop("anyOf", []) if o != {"type": "null"}]
    if options:
        schema |= options[0]
    if "items" in schema:
        schema["items"] = _value(schema["items"])
    if "oneOf" in schema:
        schema["oneOf"] = [_value(o) if "items" in o else o for o in schema["oneOf"]]
    narrow = {"pattern", "enum", "const", "format"} & schema.keys()
    if narrow or schema.get("type") in ("integer", "number", "boolean"):
        if schema.get("const") is not None and schema.get("type") == "integer":
            return schema  # the format version is no variable
        examples = {"examples": schema.pop("examples")} if "examples" in schema else {}
        return {**examples, "anyOf": [schema, _VARIABLE]}
    return schema


def _device(known: Known, table: dict[str, Any]) -> dict[str, Any]:
    kinds = dict(sorted(known.kinds.items()))
    kind = {**table["properties"]["kind"], **_value({"enum": list(kinds)})}
    return {
        "type": "object",
        "description": "A device of the registry by its kind, with that kind's own keys.",
        "properties": {"kind": kind},
        "required": ["kind"],
        "allOf": [
            {
                "if": {"properties": {"kind": {"const": name}}, "required": ["kind"]},
                "then": _kind(info),
            }
            for name, info in kinds.items()
        ],
    }


def _kind(info: KindInfo) -> dict[str, Any]:
    properties: dict[str, Any] = {"kind": {}}
    for name, declared in info.properties.items():
        properties[name] = _property(declared)
    required = [n for n, p in info.properties.items() if p.required]
    return {
        "description": info.doc,
        "properties": properties,
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }


def _property(declared: Property) -> dict[str, Any]:
    value = dict(_OF_TYPE[declared.type])
    if declared.choices:
        value["enum"] = list(declared.choices)
    if declared.type == "integer":
        bounds = {"minimum": declared.minimum, "maximum": declared.maximum}
        value |= {k: v for k, v in bounds.items() if v is not None}
    return {"description": declared.doc, **_value(value)}


def _profiles(sections: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of ``[profile.*]``: any table of a manifest, or its keys written dotted."""
    tables = {k: copy.deepcopy(v) for k, v in sections.items() if k not in ("manifest", "extends", "profile")}
    body = {
        "type": "object",
        "properties": tables,
        "patternProperties": {r"^[a-z]+\..+$": True},
        "additionalProperties": False,
    }
    return {"type": "object", "description": sections["profile"]["description"], "additionalProperties": body}


def _whole(sections: dict[str, Any], required: dict[str, list[str]]) -> dict[str, Any]:
    """Return what a manifest needs that extends no other."""
    needed = [n for n, s in sections.items() if "$ref" in s and required[s["$ref"].rpartition("/")[2]]]
    tables = {n: {"required": required[sections[n]["$ref"].rpartition("/")[2]]} for n in needed}
    return {"required": [*needed, "boot"], "properties": tables}


def _say_what_is_not_carried(root: dict[str, Any], tables: dict[str, Any]) -> None:
    """Note in the description of each key that this release does not carry that it does not."""
    for row in NOT_CARRIED:
        if row.values:
            continue
        top = root["properties"][row.key[0]]
        if row.key[1] == "*":
            place = top
        else:
            place = tables[top["$ref"].rpartition("/")[2]]["properties"][row.key[1]]
        place["description"] = f"{place['description']} Not carried by this release."
