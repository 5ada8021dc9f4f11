"""The bodies of replies, as far as both APIs share them."""
