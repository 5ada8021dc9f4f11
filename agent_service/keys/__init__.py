"""Authentication: `base` has the port; `ring` is an immutable set of keys, which `reloading_keys` keeps in step with a
file.

`file` parses the file of keys, `secret` the text of a key, `identity` the identities in client certificates. `tokens`
verifies JSON Web Tokens with the keys of `key_set`.
"""
