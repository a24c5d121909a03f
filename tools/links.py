"""Links of a folder of HTML pages: those within it are followed, with their anchors; others are listed, not fetched."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """What one page links to, loads and shows, and the places in it that a link can lead to."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.anchors: set[str] = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "img":
            self.pictures.append(found)
        if tag == "a" and "href" in found:
            self.links.append(found["href"] or "")
        elif tag == "link" and "stylesheet" in (found.get("rel") or ""):
            self.loaded.append(found["href"])
        elif found.get("src"):
            self.loaded.append(found["src"])


def pages_of(folder: Path) -> dict[Path, Page]:
    """All pages of a site, without what its theme keeps for itself."""
    paths = sorted(path for path in folder.rglob("*.html") if "_static" not in path.parts)
    return {path: Page(path.read_text(encoding="utf-8")) for path in paths}


def broken(folder: Path, pages: dict[Path, Page]) -> list[str]:
    """What leads nowhere, a sentence each: a missing file or anchor, and anything that is loaded from elsewhere."""
    found = []
    for path, page in pages.items():
        name = path.relative_to(folder).as_posix()
        found += [f"{name} loads {target} from elsewhere" for target in page.loaded if _outside(target)]
        for target in {*page.links, *page.loaded}:
            if _outside(target) or target.startswith("data:"):
                continue
            parts = urlsplit(target)
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            if not there.is_file():
                found.append(f"{name} links to {target}, which is not there")
            elif there in pages and unquote(parts.fragment) not in pages[there].anchors:
                found.append(f"{name} links to {target}, where there is no such place")
    return sorted(found)


def external(pages: dict[Path, Page]) -> list[str]:
    """Addresses outside the folder, each once."""
    return sorted({target for page in pages.values() for target in page.links if _outside(target)})


def _outside(target: str) -> bool:
    return target.startswith(("http:", "https:", "//", "mailto:"))
