"""How it becomes an image: ``build.py`` is the way in."""
