"""The guard's pages for people: the login form, and a confirmation for links from other sites."""

import base64
import hashlib
import html
from typing import Final

from starlette.responses import HTMLResponse

# The console's colours are repeated here, because the guard protects the console's own files.
_STYLE: Final = """
:root { color-scheme: light dark; --back: #f5f6f8; --card: #fff; --line: #d9dde3; --field: #8a94a0;
  --text: #1b1f24; --quiet: #57606a; --accent: #1759c4; --on-accent: #fff; --red: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --back: #0f1216; --card: #171b21; --line: #2d343e;
  --field: #77828f; --text: #e7eaee; --quiet: #a0aab6; --accent: #8ab8ff; --on-accent: #0b1626;
  --red: #ff9a92; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; padding: 16px; display: grid; place-items: center;
  font: 14px/1.45 system-ui, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
  background: var(--back); color: var(--text); }
main { width: 100%; max-width: 400px; padding: 24px; display: grid; gap: 14px; background: var(--card);
  border: 1px solid var(--line); border-radius: 8px; overflow-wrap: anywhere; }
h1, p { margin: 0; }
h1 { font-size: 22px; line-height: 28px; font-weight: 600; }
form { display: grid; gap: 6px; }
label { font-weight: 600; }
input, button { font: inherit; height: 36px; border-radius: 6px; padding: 0 10px; }
input { color: inherit; background: var(--back); border: 1px solid var(--field); }
button { margin-top: 8px; border: 0; font-weight: 600; background: var(--accent); color: var(--on-accent);
  cursor: pointer; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
a { color: var(--accent); }
.quiet { color: var(--quiet); }
.problem { color: var(--red); font-weight: 600; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "content-security-policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


def sign_in_page(action: str, path: str, problem: str = "") -> HTMLResponse:
    """Return the login form, with status 401.

    Args:
        action: the path to which the form is posted.
        path: the path to which the browser goes after login.
        problem: why the previous token was refused; "" at the first attempt.
    """
    told = f"<p class=problem role=alert id=problem>{html.escape(problem)}</p>" if problem else ""
    described = ' aria-invalid=true aria-describedby="problem hint"' if problem else " aria-describedby=hint"
    return _page(
        401,
        "Sign in",
        f"<h1>Sign in</h1><p>This emulator asks for a token.</p>{told}"
        f'<form method=post action="{html.escape(action)}">'
        f'<input type=hidden name=next value="{html.escape(path)}">'
        "<label for=token>Token</label>"
        "<input type=password id=token name=token required autofocus autocomplete=current-password"
        f"{described}>"
        "<p class=quiet id=hint>The value of the server's setting auth_token. Programs send it as"
        " Authorization: Bearer TOKEN.</p>"
        "<button>Sign in</button></form>",
    )


def link_page(status: int, path: str) -> HTMLResponse:
    """Return a page that asks whether to follow another site's link to this path."""
    shown = html.escape(path)
    return _page(
        status,
        "Go on?",
        "<h1>A page of another site leads here</h1>"
        f'<p>If you want to go on: <a href="{shown}">{shown}</a></p>',
    )


def _page(status: int, title: str, content: str) -> HTMLResponse:
    text = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title} · Vertex emulator</title>"
        f'<meta name=viewport content="width=device-width"><style>{_STYLE}</style><main>{content}</main>'
    )
    return HTMLResponse(text, status, _HEADERS)
