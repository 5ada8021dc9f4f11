"""Authentication and permissions of callers: API keys, tokens and client certificates. Independent of gRPC.

- `base`: the port: from a credential to a principal
- `file`: the file of keys; `ring`: a fixed set of keys; `reloading_keys`: the ring of a file that may change
- `secret`: the text of a key
- `tokens`: JSON Web Tokens of an identity provider; `key_set`: that provider's public keys
- `identity`: the name in a client certificate
"""
