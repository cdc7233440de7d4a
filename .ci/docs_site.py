"""A hook of mkdocs: the committed reports are files of the docs' site, so that its pages can link them."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds ``reports/*.html`` as they are."""
    for page in sorted((Path(config.config_file_path).parent / "reports").glob("*.html")):
        files.append(File.generated(config, f"reports/{page.name}", abs_src_path=str(page)))
    return files
