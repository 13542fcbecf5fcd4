"""How things are shown to people: at a prompt, in a notebook, and as a drawing. Nothing here reads a database."""
