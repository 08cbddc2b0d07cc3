"""The page of an explanation: what is in it, and what a browser makes of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from connector.cli.pages import LEVELS, heat
from connector.cli.pages import explanation_page as page
from connector.core.explanation import WHOLE, Explanation, Pair, Word

EVIL = "</title></p><script>window.evil = alert(1)</script><img src=x onerror='window.evil = alert(2)'>"
ID = f'{EVIL}" onmouseover="alert(3)'


def word(text: str, within: str, place: int = 0) -> Word:
    start = within.index(text, place)
    return Word(text, start, start + len(text))


QUERY = f"otters & \"'שלום {EVIL}"
TEXT = f"River otters 🦦👩‍👩‍👧 hold 'hands' & \"float\" שלום \u202egnirts {EVIL} &lt;b&gt; end"
SCRIPT = EVIL[EVIL.index("<script>") : EVIL.index("<img")]
IMAGE = EVIL[EVIL.index("<img") :]

PAIRS = [
    ("otters", ["River", "otters"], 0.9, 2.0),
    ("otters", ["otters", SCRIPT], 0.8, 1.0),
    (SCRIPT, [SCRIPT], 0.7, 1.0),
    (IMAGE, ["hands", IMAGE, "🦦👩‍👩‍👧"], 0.5, 0.5),
    ("שלום", ["שלום"], 0.4, 0.75),
    ("&", ["end"], -0.1, -0.25),
]


@pytest.fixture
def explanation() -> Explanation:
    score = 6.0
    pairs = [Pair("cls", WHOLE, (WHOLE,), (1.0,), 0.5, 0.5, 0.5 / score)]
    for asked, found, similarity, part in PAIRS:
        words, spread = tuple(word(it, TEXT) for it in found), (1 / len(found),) * len(found)
        pairs.append(Pair("tokens", word(asked, QUERY), words, spread, similarity, part, part / score))
    cls = Word("[CLS]", 0, 0)
    pairs.append(Pair("tokens", cls, (cls,), (1.0,), 0.5, 0.5, 0.5 / score))
    return Explanation(QUERY, ID, 2, TEXT, score, tuple(pairs))


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_has_no_element_and_no_attribute_from_a_text(explanation: Explanation) -> None:
    elements = Elements(page(explanation))
    tags = [tag for tag, _ in elements.found]
    assert set(tags) == {
        *("html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "div", "bdi"),
        *("button", "mark", "table", "thead", "tbody", "tfoot", "tr", "th", "td", "script"),
    }
    assert (tags.count("script"), tags.count("style"), tags.count("title")) == (1, 1, 1)
    names = {name for _, attributes in elements.found for name in attributes}
    assert not {"src", "href", "style", "action"} & names
    assert not [name for name in names if name.startswith("on")]
    assert EVIL in elements.text


def test_the_page_loads_nothing_from_outside(explanation: Explanation) -> None:
    html = page(explanation)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", html)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_heat_is_in_proportion_to_the_largest_part() -> None:
    words = [Word(letter, place, place + 1) for place, letter in enumerate("abcd")]
    assert heat(dict(zip(words, [4.0, 2.0, 0.001, -1.0], strict=True))) == {
        words[0]: LEVELS,
        words[1]: LEVELS // 2,
        words[2]: 1,
    }
    assert heat({}) == heat({words[0]: -1.0}) == {}


def test_every_pair_stands_in_the_table_and_they_sum_up(explanation: Explanation) -> None:
    html = page(explanation)
    body = html[html.index("<tbody>") : html.index("</tbody>")]
    assert body.count("<tr") == len(explanation.by_word()) == 8
    assert '<td class="number">-0.2500</td>' in body
    assert '<td class="number">6.0000</td>' in html[html.index("<tfoot>") :]
    assert "passage 2" in html


@pytest.fixture
def shown(browser: Any, explanation: Explanation, tmp_path: Path) -> Iterator[Any]:
    """The page in a browser; nothing may be complained of, asked for or run that is not its own."""
    file = tmp_path / "page.html"
    file.write_text(page(explanation), encoding="utf-8")
    tab = browser.new_page(viewport={"width": 900, "height": 700})
    troubles: list[str] = []
    requests: list[str] = []
    tab.on("console", lambda message: troubles.append(message.text))
    tab.on("pageerror", lambda error: troubles.append(str(error)))
    tab.on("dialog", lambda dialog: (troubles.append(f"dialog {dialog.message}"), dialog.dismiss()))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(file.as_uri())
    yield tab
    assert troubles == []
    assert requests == [file.as_uri()]
    tab.close()


def lit(tab: Any) -> dict[str, int]:
    """The words of the passage that are lit up, and how strongly."""
    found = tab.eval_on_selector_all("[data-lit]", "them => them.map(it => [it.textContent, it.dataset.lit])")
    return {text: int(level) for text, level in found}


def colour(tab: Any, text: str) -> str:
    """The background of a word of the passage."""
    script = "(them, text) => getComputedStyle(them.find(it => it.textContent === text)).backgroundColor"
    return str(tab.eval_on_selector_all("mark", script, text))


def opacity(background: str) -> float:
    numbers = re.findall(r"[\d.]+", background)
    return float(numbers[3]) if len(numbers) > 3 else 1.0


def test_it_shows_texts_as_they_are(shown: Any) -> None:
    assert shown.title() == f"{ID}: where its score comes from"
    assert shown.locator("h1").text_content() == f"{ID}, passage 2"
    query, passage = (shown.locator("p.text:not(.apart)").nth(place).text_content() for place in (0, 1))
    assert query == QUERY
    assert passage == TEXT
    assert shown.evaluate("window.evil") is None
    assert shown.locator("img, iframe, a, link").count() == 0
    assert shown.locator("script").count() == 1
    assert shown.locator("button").first.is_visible()
    assert len(shown.screenshot()) > 10_000


def test_words_are_shaded_by_what_they_add(shown: Any) -> None:
    strengths = {text: opacity(colour(shown, text)) for text in ("otters", "River", "hands", "end")}
    assert strengths["otters"] > strengths["River"] > strengths["hands"] > strengths["end"] == 0
    assert lit(shown) == {}


def test_pointing_at_a_word_lights_up_what_it_matched(shown: Any) -> None:
    hint = shown.locator("#told").text_content()
    before = colour(shown, "River")
    shown.locator("button", has_text="otters").hover()
    assert lit(shown) == {"otters": LEVELS, "River": round(LEVELS / 1.5), SCRIPT: round(LEVELS / 3)}
    assert shown.locator("#told").text_content() == f"otters: River otters (33.3%); otters {SCRIPT} (16.7%)"
    assert opacity(colour(shown, "hands")) == 0
    assert (
        0
        < opacity(colour(shown, SCRIPT))
        < opacity(colour(shown, "River"))
        < opacity(colour(shown, "otters"))
    )
    shown.mouse.move(0, 0)
    assert lit(shown) == {}
    assert colour(shown, "River") == before
    assert shown.locator("#told").text_content() == hint


def test_the_keyboard_does_the_same(shown: Any) -> None:
    shown.keyboard.press("Tab")
    assert set(lit(shown)) == {"otters", "River", SCRIPT}
    shown.keyboard.press("Tab")
    assert lit(shown) == {}, "what adds nothing lights nothing"
    shown.keyboard.press("Tab")
    assert lit(shown) == {"שלום": LEVELS}
    shown.keyboard.press("Escape")
    assert lit(shown) == {}
    shown.locator("button", has_text="[CLS]").focus()
    assert lit(shown) == {"[CLS]": LEVELS}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_strongest_shade_can_be_read(shown: Any, scheme: str) -> None:
    shown.emulate_media(color_scheme=scheme)
    ink, paper = (rgb(shown, "document.body", key) for key in ("color", "backgroundColor"))
    mark = "document.querySelector('mark[data-heat=\"8\"]')"
    shade, strength = rgb(shown, mark, "backgroundColor"), opacity(colour(shown, "otters"))
    mixed = [strength * top + (1 - strength) * under for top, under in zip(shade, paper, strict=True)]
    for under in (paper, mixed):
        light, dark = sorted((luminance(ink), luminance(under)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, "WCAG 2, level AA"


def rgb(tab: Any, element: str, key: str) -> list[float]:
    return [float(it) for it in re.findall(r"[\d.]+", tab.evaluate(f"getComputedStyle({element}).{key}"))[:3]]


def luminance(colour: list[float]) -> float:
    """Relative luminance of an sRGB colour: WCAG 2."""
    linear = [
        it / 255 / 12.92 if it / 255 <= 0.03928 else ((it / 255 + 0.055) / 1.055) ** 2.4 for it in colour
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_without_javascript_words_are_shaded(browser: Any, explanation: Explanation, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(page(explanation), encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(file.as_uri())
    assert opacity(colour(tab, "otters")) > opacity(colour(tab, "hands")) > opacity(colour(tab, "end")) == 0
    context.close()
