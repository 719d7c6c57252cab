"""The few bits of HTML that a report is made of. Whatever isn't `Html` already is text, and is escaped."""

import html
from typing import Any

VOID = ('img', 'meta')  # elements without content and end


class Html(str):
    """Markup, as opposed to text. Only this file makes it, so nothing else gets into a page unescaped."""


def tag(element: str, /, *children: Any, **attributes: Any) -> Html:
    """Returns an element; `class_` is the attribute `class`, and an attribute that is None is left out."""
    given = {key.rstrip('_').replace('_', '-'): value for key, value in attributes.items() if value is not None}
    head = ''.join(f' {key}="{html.escape(str(value))}"' for key, value in given.items())
    return Html(f'<{element}{head}>' if element in VOID else f'<{element}{head}>{join(*children)}</{element}>')


def join(*children: Any) -> Html:
    return Html(''.join(child if isinstance(child, Html) else html.escape(str(child)) for child in children))


def page(title: str, *children: Any) -> Html:
    """Returns a whole document, which loads nothing from anywhere."""
    head = tag(
        'head',
        tag('meta', charset='utf-8'),
        tag('meta', name='viewport', content='width=device-width, initial-scale=1'),
        tag('meta', http_equiv='Content-Security-Policy', content=POLICY),
        tag('title', title),
        tag('style', Html(STYLE)),
    )
    return join(Html('<!doctype html>\n'), tag('html', head, tag('body', tag('main', *children)), lang='en'))


# Inline style and inlined images alone: a page that shows user data runs no script, whatever that data says.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

STYLE = """
:root { color-scheme: light; --ink: #1c2024; --soft: #646b73; --line: #e3e6e9; }
:root { --blue: #2563a8; --red: #b3261e; --green: #2e7d4f; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff; }
body { font: 15px/1.45 system-ui, -apple-system, 'Segoe UI', sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 20px 16px 48px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 12px; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 36px 0 10px; padding-top: 14px; border-top: 1px solid var(--line); }
h3 { font-size: 15px; margin: 0 0 6px; }
p { margin: 0 0 10px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { font-weight: normal; text-align: left; }
.soft, h3 span { color: var(--soft); font-weight: normal; font-size: 13px; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 10px 16px; margin: 0; }
.facts dt { color: var(--soft); font-size: 12px; }
.facts dd { margin: 0; overflow-wrap: anywhere; }
.wide { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); gap: 24px 32px; }
.results { width: 100%; }
.results th { padding: 3px 10px 3px 0; width: 35%; overflow-wrap: break-word; line-height: 1.25; }
.results td { padding: 3px 0; }
.results td:last-child { text-align: right; width: 76px; white-space: nowrap; }
.results .head th { color: var(--soft); font-size: 12px; padding-top: 8px; }
.bar { background: #f1f3f5; height: 14px; border-radius: 2px; overflow: hidden; }
.bar div { background: var(--blue); height: 100%; }
.reference .bar div { background: #a9b0b8; }
figure { margin: 0; }
figure img { width: 100%; display: block; }
figcaption { font-size: 13px; margin-bottom: 2px; }
.scroll { overflow-x: auto; }
.confusion { font-size: 11px; }
.confusion th { color: var(--soft); padding: 0 6px 0 0; white-space: nowrap; text-align: right; }
.confusion thead th { vertical-align: bottom; padding: 0 0 5px; text-align: left; }
.confusion thead th span { writing-mode: vertical-rl; transform: rotate(180deg); }
.confusion td { min-width: 23px; height: 23px; padding: 0 1px; text-align: center; }
.confusion td { border: 1px solid #fff; background: #f6f7f8; }
.confusion td.share { background: none; padding-left: 4px; text-align: right; color: var(--soft); }
@media (max-width: 480px) { .confusion { font-size: 10px; } .confusion td { min-width: 18px; height: 20px; } }
.arms th, .arms td { padding: 3px 12px 3px 0; white-space: nowrap; }
.arms th { color: var(--soft); font-size: 12px; }
.examples { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); gap: 12px; }
.examples { margin-bottom: 20px; }
.example { display: flex; gap: 12px; border: 1px solid var(--line); border-radius: 6px; padding: 10px; }
.example > * { min-width: 0; }
.images { flex: none; width: 96px; }
.images img { width: 96px; display: block; border: 1px solid var(--line); margin-bottom: 4px; }
.images img.small { image-rendering: pixelated; }
.example p { margin: 0 0 6px; overflow-wrap: anywhere; }
.example dl { display: grid; grid-template-columns: auto 1fr; gap: 0 10px; margin: 0; font-size: 14px; }
.example dt { color: var(--soft); }
.example dd { margin: 0; overflow-wrap: anywhere; }
.wrong { color: var(--red); }
.right { color: var(--green); }
details { margin-top: 8px; }
summary { cursor: pointer; }
pre { font-size: 12px; background: #f6f7f8; padding: 10px; overflow-x: auto; border-radius: 4px; }
"""
