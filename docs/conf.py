"""How Sphinx builds the documentation."""

from importlib.metadata import version as version_of

project = "celery-flows"
author = "The celery-flows contributors"
copyright = f"2026, {author}"
release = version_of("celery-flows")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"celery-flows {release}"
html_copy_source = False
html_show_sphinx = False

# In docstrings, what stands in backquotes is code.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_maximum_signature_line_length = 88

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3


def _rejoin_sentence(_app, what, _name, _obj, _options, lines):
    # Napoleon takes what stands before the first colon of an attribute's docstring for its type.
    if what not in ("attribute", "property"):
        return
    for line in [line for line in lines if line.startswith(":type: ")]:
        lines.remove(line)
        lines[0] = f"{line.removeprefix(':type: ')}: {lines[0]}"


def setup(app):
    """Let attributes say what they are in a sentence with a colon; after Napoleon, which comes at 500."""
    app.connect("autodoc-process-docstring", _rejoin_sentence, priority=600)
