"""The OpenAPI document of the emulated RPCs, generated from the descriptors, and the `/docs` page.

Both are generated on first use, so that they do not slow the start.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi

from emulator.api import openapi_text
from emulator.api.leads import control_routes
from emulator.api.routing import Route
from emulator.vertex.messages import is_repeated, load

_REQUIRED, _OUTPUT_ONLY, _INPUT_ONLY = 2, 3, 4

_INTEGERS = {"type": "integer", "format": "int32"}
# Vertex: 64-bit integers are strings in JSON (protobuf's JSON mapping).
_LONGS = {"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"}
_NUMBERS = {"type": "number", "format": "double"}
_WELL_KNOWN: Mapping[str, dict[str, Any]] = {
    "Any": {"type": "object", "properties": {"@type": {"type": "string"}}, "additionalProperties": True},
    "BoolValue": {"type": "boolean"},
    "BytesValue": {"type": "string", "format": "byte"},
    "DoubleValue": _NUMBERS,
    "Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$", "examples": ["1.200s"]},
    "Empty": {"type": "object", "additionalProperties": False},
    "FieldMask": {"type": "string", "examples": ["name,createTime"]},
    "FloatValue": _NUMBERS,
    "Int32Value": _INTEGERS,
    "Int64Value": _LONGS,
    "ListValue": {"type": "array", "items": {}},
    "StringValue": {"type": "string"},
    "Struct": {"type": "object", "additionalProperties": True},
    "Timestamp": {"type": "string", "format": "date-time"},
    "UInt32Value": _INTEGERS,
    "UInt64Value": _LONGS,
    "Value": {"description": "Any JSON value."},
}
_ERRORS = {
    "400": "INVALID_ARGUMENT or FAILED_PRECONDITION: the request or the resource's state does not allow it.",
    "404": "NOT_FOUND: the resource, or one that the request names, does not exist.",
    "501": "UNIMPLEMENTED: the request asks for something that is not emulated.",
    "default": "Any other error.",
}
_ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}


def install(app: FastAPI, routes: Iterable[Route]) -> None:
    """Give the application its OpenAPI document and an interactive page that needs no network."""
    described = tuple(routes)

    @cache
    def document() -> dict[str, Any]:
        found = get_openapi(
            title=app.title, version=app.version, description=openapi_text.DESCRIPTION, routes=app.routes
        )
        vertex = describe(described)
        own = _control_paths(control_routes(app.routes))
        found["tags"] = [*vertex["tags"], *([{"name": openapi_text.CONTROL_TAG}] if own else [])]
        found["paths"] = {**vertex["paths"], **found["paths"], **own}
        schemas = found.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(vertex["components"]["schemas"])
        return found

    app.openapi = document  # type: ignore[method-assign]

    async def docs(request: Request) -> Response:
        root = request.scope.get("root_path", "").rstrip("/")
        return get_swagger_ui_html(
            openapi_url=f"{root}{app.openapi_url}",
            title=app.title,
            swagger_js_url=f"{root}/docs/swagger-ui-bundle.js",
            swagger_css_url=f"{root}/docs/swagger-ui.css",
            swagger_favicon_url=f"{root}/docs/favicon-32x32.png",
            swagger_ui_parameters={"defaultModelsExpandDepth": 0, "docExpansion": "list", "filter": True},
        )

    # Starlette's routes: FastAPI would analyse the functions for parameters at every start.
    app.add_route("/docs", docs, include_in_schema=False)
    for name, media_type in _ASSETS.items():
        app.add_route(f"/docs/{name}", _asset(name, media_type), include_in_schema=False)


def _control_paths(routes: Iterable[tuple[str, str, str]]) -> dict[str, dict[str, Any]]:
    """Return the paths of the control surface. docs/control.md has their parameters and bodies."""
    paths: dict[str, dict[str, Any]] = {}
    for method, path, text in routes:
        names = re.findall(r"{(\w+)}", path)
        operation: dict[str, Any] = {
            "operationId": f"emulator.{method.lower()}{re.sub(r'[^A-Za-z]+', '.', path)}".rstrip("."),
            "tags": [openapi_text.CONTROL_TAG],
            "summary": text,
            "parameters": [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
                for name in names
            ],
            "responses": {"default": {"description": "JSON, or an error as Vertex has them."}},
        }
        if method in ("POST", "PUT"):
            operation["requestBody"] = {"content": {"application/json": {"schema": {"type": "object"}}}}
        paths.setdefault(path, {})[method.lower()] = operation
    return paths


def _asset(name: str, media_type: str) -> Any:
    def serve(_request: Request) -> Response:
        # This package contains Swagger UI's files. FastAPI's default page would load them from a CDN.
        content = files("fastapi_swagger.resources").joinpath(name).read_bytes()
        return Response(content, media_type=media_type, headers={"cache-control": "max-age=3600"})

    return serve


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 members `tags`, `paths` and `components` of the given routes."""
    schemas = _Schemas()
    paths: dict[str, dict[str, Any]] = {}
    tags: set[str] = set()
    seen: dict[str, int] = {}
    for route in sorted(routes, key=lambda route: route.segments):
        url, parameters = _url(route)
        tags.add(_tag(route))
        operation_id = f"{route.segments[0]}.{route.rpc.service}.{route.rpc.name}"
        seen[operation_id] = seen.get(operation_id, 0) + 1
        if seen[operation_id] > 1:
            operation_id = f"{operation_id}{seen[operation_id]}"
        operation = _operation(route, operation_id, parameters, schemas)
        paths.setdefault(url, {})[route.method.lower()] = operation
    ordered = [{"name": tag} for tag in openapi_text.TAGS if tag in tags]
    return {"tags": ordered, "paths": paths, "components": {"schemas": schemas.components}}


def _tag(route: Route) -> str:
    service: str = route.rpc.service
    return service if service in ("Operations", "Locations") else f"{service} {route.rpc.version}"


def _url(route: Route) -> tuple[str, list[dict[str, Any]]]:
    """Return URL and path parameters of a route; collections name the wildcards: `projects/{project}`."""
    names: list[str] = []
    parts = []
    for before, segment in zip(("", *route.segments), route.segments, strict=False):
        if segment == "*":
            names.append(_snake_case(before.removesuffix("s")))
            segment = f"{{{names[-1]}}}"
        parts.append(segment)
    url = "/" + "/".join(parts) + (f":{route.verb}" if route.verb else "")
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1},
            "example": openapi_text.PATH_EXAMPLES.get(name, "1"),
        }
        for name in names
    ]
    return url, parameters


def _snake_case(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _operation(
    route: Route, operation_id: str, parameters: list[dict[str, Any]], schemas: "_Schemas"
) -> dict[str, Any]:
    rpc = route.rpc
    operation: dict[str, Any] = {
        "operationId": operation_id,
        "tags": [_tag(route)],
        "summary": openapi_text.SUMMARIES.get(rpc.name, rpc.name),
        "parameters": [*parameters, *_query_parameters(route, schemas)],
        "responses": _responses(rpc.output.DESCRIPTOR, schemas),
    }
    if route.body:
        operation["requestBody"] = _request_body(route, schemas)
    return operation


def _query_parameters(route: Route, schemas: "_Schemas") -> list[dict[str, Any]]:
    if route.body == "*":
        return []
    taken = {
        route.body,
        *(variable.field_path[0] for variable in route.variables if len(variable.field_path) == 1),
    }
    found = []
    for field in route.rpc.input.DESCRIPTOR.fields:
        kind = field.message_type.full_name if field.message_type else "google.protobuf."
        if field.name not in taken and kind.startswith("google.protobuf."):
            found.append({"name": field.json_name, "in": "query", "schema": schemas.field(field)})
    return found


def _request_body(route: Route, schemas: "_Schemas") -> dict[str, Any]:
    descriptor = route.rpc.input.DESCRIPTOR
    if route.body != "*":
        descriptor = descriptor.fields_by_name[route.body].message_type
    schema = schemas.reference(descriptor)
    from_url = {variable.field_path[-1] for variable in route.variables}
    needed = [
        field.json_name
        for field in descriptor.fields
        if field.name not in from_url and _REQUIRED in load().behaviors(field)
    ]
    # An update mask selects the fields of a PATCH, so none of them is required.
    if needed and route.method != "PATCH":
        schema = {"allOf": [schema], "required": needed}
    content: dict[str, Any] = {"schema": schema}
    examples = openapi_text.BODY_EXAMPLES.get(route.rpc.name)
    if examples:
        content["examples"] = {name: {"value": value} for name, value in examples.items()}
    return {"content": {"application/json": content}, "required": bool(needed)}


def _responses(descriptor: Any, schemas: "_Schemas") -> dict[str, Any]:
    def response(text: str, schema: dict[str, Any]) -> dict[str, Any]:
        return {"description": text, "content": {"application/json": {"schema": schema}}}

    errors = {code: response(text, schemas.error()) for code, text in _ERRORS.items()}
    return {"200": response("Done.", schemas.reference(descriptor)), **errors}


class _Schemas:
    """The component schemas used so far. Each reference adds its message and the messages it refers to."""

    def __init__(self) -> None:
        self.components: dict[str, dict[str, Any]] = {}

    def reference(self, descriptor: Any) -> dict[str, Any]:
        """Return the schema of a message: inline for a well-known type, else a reference."""
        name: str = descriptor.full_name
        if name.startswith("google.protobuf.") and descriptor.name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[descriptor.name])
        if name not in self.components:
            properties: dict[str, Any] = {}
            self.components[name] = {
                "type": "object",
                "properties": properties,
                "additionalProperties": False,
            }
            properties.update({field.json_name: self.field(field) for field in descriptor.fields})
            properties.update(openapi_text.EXTRA_PROPERTIES.get(descriptor.name, {}))
        return {"$ref": f"#/components/schemas/{name}"}

    def field(self, field: Any) -> dict[str, Any]:
        """Return the schema of a field: a map, a list or a single value."""
        if field.message_type and field.message_type.GetOptions().map_entry:
            values = self._value(field.message_type.fields_by_name["value"])
            return {"type": "object", "additionalProperties": values}
        schema = self._value(field)
        if is_repeated(field):
            schema = {"type": "array", "items": schema}
        behaviors = load().behaviors(field)
        if _OUTPUT_ONLY in behaviors:
            schema["readOnly"] = True
        if _INPUT_ONLY in behaviors:
            schema["writeOnly"] = True
        return schema

    def error(self) -> dict[str, Any]:
        """Return the schema of an AIP-193 error."""
        self.components.setdefault("Error", openapi_text.ERROR_SCHEMA)
        return {"$ref": "#/components/schemas/Error"}

    def _value(self, field: Any) -> dict[str, Any]:
        if field.message_type:
            return self.reference(field.message_type)
        if field.enum_type:
            name = field.enum_type.full_name
            values = [value.name for value in field.enum_type.values]
            self.components.setdefault(name, {"type": "string", "enum": values})
            return {"$ref": f"#/components/schemas/{name}"}
        kinds: dict[int, dict[str, Any]] = {
            field.CPPTYPE_BOOL: {"type": "boolean"},
            field.CPPTYPE_INT32: _INTEGERS,
            field.CPPTYPE_UINT32: {**_INTEGERS, "minimum": 0},
            field.CPPTYPE_INT64: _LONGS,
            field.CPPTYPE_UINT64: _LONGS,
            field.CPPTYPE_FLOAT: {"type": "number", "format": "float"},
            field.CPPTYPE_DOUBLE: _NUMBERS,
        }
        text: dict[str, Any] = (
            {"type": "string", "format": "byte"} if field.type == field.TYPE_BYTES else {"type": "string"}
        )
        return dict(kinds.get(field.cpp_type, text))
