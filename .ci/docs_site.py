"""A hook of mkdocs: the committed reports are files of the docs' site.

In the project they lie beside the pages' folder, so a page links ``../reports/NAME.html``; on the site that is ``reports/NAME.html``.
"""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_FOLDER = "reports"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the reports as they are."""
    for page in sorted((Path(config.config_file_path).parent / _FOLDER).glob("*.html")):
        files.append(File.generated(config, f"{_FOLDER}/{page.name}", abs_src_path=str(page)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Points a page's links at where the reports lie on the site."""
    return markdown.replace(f"](../{_FOLDER}/", f"]({_FOLDER}/")
