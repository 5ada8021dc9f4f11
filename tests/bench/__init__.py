"""The benchmark runs and checks what it measures; its figures are for those who run it on a quiet machine."""
