"""The environment's variables, a module for each heading of `.env.example`: a field, its bounds, default and meaning.

A field's alias is the variable's name, its title the heading, its description the sentence that stands there.

- `process`, `store`, `models`, `observability`, `traces`: the process as a whole, and what it works with
- `api`, `tokens`, `tls`: where callers reach it, and who they are
- `connections`, `admission`, `limits`: how much they may do
- `field_types`: types that several headings share
"""
