"""The page at /docs: the OpenAPI document as HTML, without a script."""

import html
import json
from typing import Any


def documentation_page(document: dict[str, Any]) -> str:
    """Words an OpenAPI document as a page.

    Args:
        document: as FastAPI makes it.
    """
    title = f"{document['info']['title']} {document['info']['version']}: the service"
    operations = "\n".join(
        _operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="static/icon.svg"><link rel="stylesheet" href="static/style.css"></head>
<body class="documentation"><main>
<h1>{html.escape(title)}</h1>
<p>{html.escape(document["info"]["description"])}</p>
<p>The same as <a href="openapi.json">OpenAPI</a>; the <a href="./">drawing box</a>.</p>
{operations}
</main></body></html>
"""


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    """Words one address."""
    parameters = "".join(
        f"<li><code>{html.escape(parameter['name'])}</code> in the address"
        f"{', needed' if parameter.get('required') else ''}: "
        f"{html.escape(parameter.get('description', ''))}</li>"
        for parameter in operation.get("parameters", [])
    )
    bodies = operation.get("requestBody", {}).get("content", {})
    answers = "".join(
        f"<tr><th scope='row'>{status}</th><td>{html.escape(answer['description'])}</td>"
        f"<td>{', '.join(answer.get('content', {}))}</td></tr>"
        for status, answer in operation["responses"].items()
    )
    examples = "".join(
        _listing(_command(method, path, example["value"]))
        for body in bodies.values()
        for example in body.get("examples", {}).values()
    )
    return f"""<section>
<h2><code>{method.upper()} {html.escape(path)}</code></h2>
<p>{html.escape(operation["summary"])}.</p>
{f"<ul>{parameters}</ul>" if parameters else ""}
{f"<p>Takes {', '.join(f'<code>{kind}</code>' for kind in bodies)}.</p>" if bodies else ""}
{examples}
<table><thead><tr><th scope="col">status</th><th scope="col">when</th><th scope="col">as</th></tr>
</thead><tbody>{answers}</tbody></table>
{_schemas("What is sent as JSON", bodies)}
{_schemas("What is answered", operation["responses"].get("200", {}).get("content", {}))}
</section>"""


def _command(method: str, path: str, value: Any) -> str:
    """Words a call of an example for the shell."""
    return (
        f"curl -X {method.upper()} http://127.0.0.1:8000{path} "
        f"-H 'Content-Type: application/json' \\\n  -d '{json.dumps(value)}'"
    )


def _schemas(heading: str, content: dict[str, Any]) -> str:
    """Words the schema of JSON that is sent or answered, folded."""
    schema = content.get("application/json", {}).get("schema")
    if not schema:
        return ""
    worded = _listing(json.dumps(schema, indent=2, ensure_ascii=False))
    return f"<details><summary>{heading}</summary>{worded}</details>"


def _listing(text: str) -> str:
    """Shows text as it stands; a keyboard reaches it, to scroll."""
    return f"<pre tabindex='0'><code>{html.escape(text)}</code></pre>"
