.PHONY: demo test install
