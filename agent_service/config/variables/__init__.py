"""The environment's variables, one module for each heading of `.env.example`: fields with bounds, default and meaning.

A field's alias is the variable's name, its title the heading, its description the text there.

- `process`, `store`, `models`, `observability`, `traces`: the process and its resources
- `api`, `tokens`, `tls`: addresses, and authentication of callers
- `connections`, `admission`, `limits`: limits of callers
- `field_types`: types that several headings share
"""
