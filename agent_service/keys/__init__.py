"""Who may call, and what for: API keys, and tokens and certificates in their place. Knows no gRPC.

- `base`: the port: from a credential to a principal
- `file`: the file of keys; `ring`: the keys of one moment; `reloading_keys`: the ring of a file that may change
- `secret`: the text of a key
- `tokens`: JSON Web Tokens of an identity provider; `key_set`: that provider's public keys
- `identity`: the name in a client certificate
"""
