"""The environment's variables, a module for each heading of `.env.example`: a field, its bounds, default and meaning.

A field's alias is the variable's name, its title the heading, its description the sentence that stands there.
"""
