"""What tests share with the demo, the benches and the checks of a release.

server_process   the server as a process of its own
"""
