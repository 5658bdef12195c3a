import re

import pytest

from prospect.pages.html import IMPORT, STATIC, json_text, one_file, served_page

MODULES = sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*.js"))
HOSTILE = "</script><script>document.title = 'taken'</script><!--"
MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|\beval\(|new Function|javascript:"
)
ANY_IMPORT = re.compile(r"(?m)^\s*import\b|\bimport\(|\bfrom [\"']")


@pytest.mark.parametrize("name", MODULES)
def test_modules_make_no_markup_of_text_and_import_in_the_one_form_that_is_inlined(name):
    text = (STATIC / name).read_text(encoding="utf-8")
    assert not MARKUP.search(text)
    assert not ANY_IMPORT.search(IMPORT.sub("", text))
    for match in IMPORT.finditer(text):
        assert (STATIC / name).parent.joinpath(match[2]).resolve().is_relative_to(STATIC.resolve())
        assert (STATIC / name).parent.joinpath(match[2]).is_file(), match[0]


@pytest.mark.parametrize("name", sorted(path.name for path in STATIC.rglob("*.css")))
def test_styles_ask_for_nothing_elsewhere(name):
    (path,) = STATIC.rglob(name)
    assert not re.search(r"@import|url\((?!data:)", path.read_text(encoding="utf-8"))


def test_data_cannot_end_its_block():
    page = served_page(f"a {HOSTILE}", "dom.js", data=[("clip", {"text": HOSTILE, "é": 1})])
    assert page.count("<script") == 2  # the module, and the block
    assert "&lt;/script&gt;" in page
    assert json_text(HOSTILE) in page and "<" not in json_text(HOSTILE)


def test_one_file_holds_every_module_and_no_address():
    page = "".join(one_file("A title", "timeline.js", ["timeline.css"], [("clip", 1)]))
    for name in ("timeline.js", "timeline_draw.js", "dom.js", "text.js"):
        assert f'"{name}":"data:text/javascript;base64,' in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "http" not in page.replace("http-equiv", "").replace("data:text/javascript;base64", "")


def test_one_file_works_offline_and_runs_no_script_but_its_own(browser, tmp_path):
    """The components run from a file; a script that gets into it by another way does not."""
    page = "".join(one_file("A title", "dom.js", data=[("said", HOSTILE)]))
    path = tmp_path / "page.html"
    path.write_text(page.replace("</body>", "<script>document.title = 'taken'</script></body>"), encoding="utf-8")
    with browser.open(path.as_uri(), expected=["Content Security Policy"]) as opened:
        assert opened.title() == "A title"
        shown = opened.evaluate(
            """async () => { const {el, data} = await import("dom.js"); const p = el("p", {}, data("said"));
            document.body.append(p); return [p.textContent, p.children.length, document.title]; }"""
        )
        assert shown == [HOSTILE, 0, "A title"]
