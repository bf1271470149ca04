"""The configuration of the documentation, built with `sphinx-build -W --keep-going -b html docs docs/_build/html`.

Nothing is fetched while the site is built, and the pages load no script or font from elsewhere.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import infoplane  # noqa: E402

project = "infoplane"
author = "The infoplane authors"
copyright = f"2026, {author}"
version = release = infoplane.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "mathml",
    "public_api",
    "registries",
]
exclude_patterns = ["_build", "_ext", "**/.ipynb_checkpoints"]
root_doc = "index"
nitpicky = False
smartquotes = False  # or options such as --noise lose a hyphen

# Text pages
myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
math_eqref_format = "({number})"

# Notebooks are text; they are run anew in every build, and an error in one of them fails the build.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 180
nb_merge_streams = True
nb_ipywidgets_js: dict[str, dict[str, str]] = {}

# The API reference
default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Shapes", "params_style"), "Columns"]
autosummary_generate = False
toc_object_entries_show_parents = "hide"

# The theme
html_theme = "furo"
html_title = f"infoplane {version}"
html_static_path = ["_static"]
html_css_files = ["infoplane.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#21568f", "color-brand-content": "#21568f"},
    "dark_css_variables": {"color-brand-primary": "#7fb2e5", "color-brand-content": "#7fb2e5"},
}
