"""How Sphinx builds the documentation."""

from importlib.metadata import version as version_of

project = "celery-flows"
author = "The celery-flows contributors"
copyright = f"2026, {author}"
release = version_of("celery-flows")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
nitpicky = True

html_theme = "furo"
html_title = f"celery-flows {release}"

autodoc_member_order = "bysource"
autodoc_typehints = "description"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
